"""Packets of the SSH file transfer protocol, version 3: bytes to values and back."""

from __future__ import annotations

import stat
import struct
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum, IntFlag

from warren.errors import RemoteProtocolError

MAX_PACKET_BYTES = 1024 * 1024
"""What is accepted; `LIMITS` announces less."""
TRANSFER_BYTES = 255 * 1024
"""The largest read and write that stock clients use."""
DATA_HEAD = struct.Struct(">IBII")
"""Length, kind, request and length of the data."""


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
    """Cuts a byte stream into packets, however it was cut into reads.

    What came stands in memory that is used again: fresh memory costs a fault for each of its pages.
    """

    def __init__(self) -> None:
        self._memory = bytearray()
        self._start = self._end = 0
        self._chunks: list[bytes] = []

    def feed(self, chunks: Iterable[bytes]) -> None:
        """Take in more of the stream."""
        self._chunks.extend(chunks)

    def packets(self) -> Generator[memoryview]:
        """Yield the complete packets, each good until the next call; what was not consumed stays for that.

        Raises:
            RemoteProtocolError: a packet is empty or announces more than `MAX_PACKET_BYTES`.
        """
        self._gather()
        data = memoryview(self._memory)
        while self._start + 4 <= self._end:
            size = int.from_bytes(data[self._start : self._start + 4], "big")
            if not 1 <= size <= MAX_PACKET_BYTES:
                raise RemoteProtocolError(f"SFTP packet of {size} bytes")
            after = self._start + 4 + size
            if after > self._end:
                break
            packet = data[self._start + 4 : after]
            self._start = after
            yield packet

    def _gather(self) -> None:
        """Put what was fed behind what is left."""
        rest = bytes(memoryview(self._memory)[self._start : self._end])
        wanted = len(rest) + sum(map(len, self._chunks))
        if wanted > len(self._memory):
            self._memory = bytearray(wanted)  # the old memory may still be looked at, and cannot grow then
        position = 0
        for chunk in (rest, *self._chunks):
            self._memory[position : position + len(chunk)] = chunk
            position += len(chunk)
        self._start, self._end = 0, position
        self._chunks.clear()


class Replies:
    """Replies that wait to be sent, in memory that is used again: fresh memory costs a fault for each of its pages."""

    def __init__(self) -> None:
        self._memory = bytearray()
        self._used = 0

    def __len__(self) -> int:
        return self._used

    def add(self, reply: bytes) -> None:
        """Add a whole reply."""
        self._memory[self._used : self._used + len(reply)] = reply
        self._used += len(reply)

    def add_data(self, request_id: int, most_bytes: int, read_into: Callable[[memoryview], int]) -> int:
        """Add what `read_into` reads, up to so many bytes; return their number. Nothing is added when there is none."""
        start = self._used + DATA_HEAD.size
        if len(self._memory) < start + most_bytes:
            self._memory.extend(bytes(start + most_bytes - len(self._memory)))
        with memoryview(self._memory) as whole, whole[start : start + most_bytes] as room:
            count = read_into(room)
        if count:
            DATA_HEAD.pack_into(self._memory, self._used, DATA_HEAD.size - 4 + count, Reply.DATA, request_id, count)
            self._used = start + count
        return count

    def take(self) -> memoryview:
        """Take them all. The memory must be released before more is added."""
        used, self._used = self._used, 0
        return memoryview(self._memory)[:used]


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
