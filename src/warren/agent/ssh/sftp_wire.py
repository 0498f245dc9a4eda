"""Packets of the SSH file transfer protocol, version 3: bytes to values and back."""

from __future__ import annotations

import stat
import struct
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum, IntFlag

from warren.errors import RemoteProtocolError

MAX_PACKET_BYTES = 1024 * 1024
"""What is accepted; `LIMITS` announces less."""
TRANSFER_BYTES = 255 * 1024
"""The largest read and write that stock clients use."""


class Request(IntEnum):
    """What a client asks."""

    INIT = 1
    OPEN = 3
    CLOSE = 4
    READ = 5
    WRITE = 6
    LSTAT = 7
    FSTAT = 8
    SETSTAT = 9
    FSETSTAT = 10
    OPENDIR = 11
    READDIR = 12
    REMOVE = 13
    MKDIR = 14
    RMDIR = 15
    REALPATH = 16
    STAT = 17
    RENAME = 18
    READLINK = 19
    SYMLINK = 20
    EXTENDED = 200


class Reply(IntEnum):
    """What a server answers."""

    VERSION = 2
    STATUS = 101
    HANDLE = 102
    DATA = 103
    NAME = 104
    ATTRS = 105
    EXTENDED_REPLY = 201


class Status(IntEnum):
    """How a request went."""

    OK = 0
    EOF = 1
    NO_SUCH_FILE = 2
    PERMISSION_DENIED = 3
    FAILURE = 4
    BAD_MESSAGE = 5
    UNSUPPORTED = 8


class OpenFlag(IntFlag):
    """How a file is opened."""

    READ = 0x01
    WRITE = 0x02
    APPEND = 0x04
    CREATE = 0x08
    TRUNCATE = 0x10
    EXCLUSIVE = 0x20


class _Has(IntFlag):
    SIZE = 0x01
    OWNER = 0x02
    PERMISSIONS = 0x04
    TIMES = 0x08
    EXTENDED = 0x80000000


@dataclass(frozen=True, slots=True)
class Attributes:
    """What is known, or wanted, of a file; `None` is "not said"."""

    size: int | None = None
    owner: tuple[int, int] | None = None
    permissions: int | None = None
    times: tuple[int, int] | None = None


class Fields:
    """Reads the fields of one packet in order."""

    def __init__(self, packet: memoryview) -> None:
        self._rest = packet

    def uint32(self) -> int:
        """Read a 32-bit number."""
        return int.from_bytes(self._take(4), "big")

    def uint64(self) -> int:
        """Read a 64-bit number."""
        return int.from_bytes(self._take(8), "big")

    def view(self) -> memoryview:
        """Read a string without copying it."""
        return self._take(self.uint32())

    def string(self) -> bytes:
        """Read a string."""
        return bytes(self.view())

    def attributes(self) -> Attributes:
        """Read attributes."""
        flags = _Has(self.uint32() & 0x8000000F)
        size = self.uint64() if _Has.SIZE in flags else None
        owner = (self.uint32(), self.uint32()) if _Has.OWNER in flags else None
        permissions = self.uint32() if _Has.PERMISSIONS in flags else None
        times = (self.uint32(), self.uint32()) if _Has.TIMES in flags else None
        for _ in range(self.uint32() if _Has.EXTENDED in flags else 0):
            self.view()
            self.view()
        return Attributes(size, owner, permissions, times)

    def _take(self, count: int) -> memoryview:
        if count > len(self._rest):
            raise RemoteProtocolError("truncated SFTP packet")
        taken, self._rest = self._rest[:count], self._rest[count:]
        return taken


class Decoder:
    """Cuts a byte stream into packets, however it was cut into reads."""

    def __init__(self) -> None:
        self._rest = b""
        self._chunks: list[bytes] = []

    def feed(self, chunks: Iterable[bytes]) -> None:
        """Take in more of the stream."""
        self._chunks.extend(chunks)

    def packets(self) -> Generator[memoryview]:
        """Yield the complete packets; what was not consumed stays for the next call.

        Raises:
            RemoteProtocolError: a packet is empty or announces more than `MAX_PACKET_BYTES`.
        """
        data = memoryview(b"".join((self._rest, *self._chunks)))
        self._chunks.clear()
        position = 0
        try:
            while position + 4 <= len(data):
                size = int.from_bytes(data[position : position + 4], "big")
                if not 1 <= size <= MAX_PACKET_BYTES:
                    raise RemoteProtocolError(f"SFTP packet of {size} bytes")
                if position + 4 + size > len(data):
                    break
                packet = data[position + 4 : position + 4 + size]
                position += 4 + size
                yield packet
        finally:
            self._rest = bytes(data[position:])


def string(value: bytes) -> bytes:
    """Write a string."""
    return struct.pack(">I", len(value)) + value


def packet(kind: Reply, *parts: bytes) -> bytes:
    """Write a packet."""
    size = 1 + sum(map(len, parts))
    return b"".join((struct.pack(">IB", size, kind), *parts))


def status_packet(request_id: int, status: Status, message: str) -> bytes:
    """Write how a request went."""
    text = message.encode(errors="replace")
    return packet(Reply.STATUS, struct.pack(">II", request_id, status), string(text), string(b""))


def attributes_field(attributes: Attributes) -> bytes:
    """Write attributes."""
    flags = _Has(0)
    parts: list[bytes] = []
    if attributes.size is not None:
        flags |= _Has.SIZE
        parts.append(struct.pack(">Q", attributes.size))
    if attributes.owner is not None:
        flags |= _Has.OWNER
        parts.append(struct.pack(">II", *attributes.owner))
    if attributes.permissions is not None:
        flags |= _Has.PERMISSIONS
        parts.append(struct.pack(">I", attributes.permissions))
    if attributes.times is not None:
        flags |= _Has.TIMES
        parts.append(struct.pack(">II", *(max(0, min(time, 0xFFFFFFFF)) for time in attributes.times)))
    return struct.pack(">I", flags) + b"".join(parts)


@dataclass(frozen=True, slots=True)
class Name:
    """One entry of a listing."""

    name: bytes
    attributes: Attributes = Attributes()
    links: int = 1

    @property
    def long(self) -> bytes:
        """The line that `ls -l` would print, but for names of users and a readable date."""
        attributes = self.attributes
        mode = stat.filemode(attributes.permissions or 0)
        owner, group = attributes.owner or (0, 0)
        head = f"{mode} {self.links:>4} {owner:<8} {group:<8} {attributes.size or 0:>8} {_date(attributes)} "
        return head.encode() + self.name


def _date(attributes: Attributes) -> str:
    import time

    moment = time.localtime(attributes.times[1] if attributes.times else 0)
    return time.strftime("%b %e %Y", moment)


def names_packet(request_id: int, names: Sequence[Name]) -> bytes:
    """Write a listing."""
    head = struct.pack(">II", request_id, len(names))
    entries = (string(name.name) + string(name.long) + attributes_field(name.attributes) for name in names)
    return packet(Reply.NAME, head, *entries)
