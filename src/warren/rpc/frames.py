"""DRPC's frames and packets, without I/O.

A frame is a control byte, three varints (stream, message, length) and data; a packet is one or more frames. A packet's
(stream, message) pair is greater than that of the one before.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from warren.errors import RemoteProtocolError

SPLIT_BYTES: Final = 64 * 1024
"""A longer packet is sent in several frames."""
MAX_PACKET_BYTES: Final = 4 * 1024 * 1024
MAX_VARINT_BYTES: Final = 10

_DONE: Final = 0x01
_CONTROL: Final = 0x80


class Kind(IntEnum):
    """What a packet is."""

    INVOKE = 1
    MESSAGE = 2
    ERROR = 3
    CANCEL = 4
    CLOSE = 5
    CLOSE_SEND = 6
    INVOKE_METADATA = 7


@dataclass(frozen=True, slots=True)
class Packet:
    """A whole packet. `kind` is a `Kind`, or a number that we do not know in a control packet."""

    kind: int
    stream_id: int
    message_id: int
    data: bytes = b""
    control: bool = False


def encode(packet: Packet) -> bytes:
    """Write a packet, split into frames."""
    out = bytearray()
    view = memoryview(packet.data)
    while True:
        part, view = view[:SPLIT_BYTES], view[SPLIT_BYTES:]
        out.append(packet.kind << 1 | (_CONTROL if packet.control else 0) | (0 if view else _DONE))
        for number in (packet.stream_id, packet.message_id, len(part)):
            _write_varint(out, number)
        out += part
        if not view:
            return bytes(out)


def encode_error(text: str, code: int) -> bytes:
    """Write the body of an error packet."""
    return code.to_bytes(8, "big") + text.encode()


def decode_error(data: bytes) -> tuple[str, int]:
    """Read the body of an error packet: text and code; a short one has neither."""
    return data[8:].decode(errors="replace"), int.from_bytes(data[:8], "big") if len(data) >= 8 else 0


@dataclass(frozen=True, slots=True)
class _Frame:
    kind: int
    done: bool
    control: bool
    stream_id: int
    message_id: int
    data: bytes


class Decoder:
    """Cut a byte stream into packets, however the network cut it into reads."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._partial: _Frame | None = None
        self._data = bytearray()
        self._control = False
        self._last = (0, 0)

    def feed(self, data: bytes) -> Iterator[Packet]:
        """Yield the packets that `data` completes.

        Raises:
            RemoteProtocolError: the peer broke the protocol.
        """
        self._buffer += data
        while frame := self._next_frame():
            if packet := self._add(frame):
                yield packet

    def _next_frame(self) -> _Frame | None:
        if not self._buffer:
            return None
        position = 1
        numbers: list[int] = []
        for _ in range(3):
            read = _read_varint(self._buffer, position)
            if read is None:
                return None
            number, position = read
            numbers.append(number)
        stream_id, message_id, length = numbers
        if length > MAX_PACKET_BYTES:
            raise RemoteProtocolError(f"a frame of {length} bytes is over the limit of {MAX_PACKET_BYTES}")
        end = position + length
        if len(self._buffer) < end:
            return None
        control, data = self._buffer[0], bytes(self._buffer[position:end])
        del self._buffer[:end]
        return _Frame(control >> 1 & 0x3F, bool(control & _DONE), bool(control & _CONTROL), stream_id, message_id, data)

    def _add(self, frame: _Frame) -> Packet | None:
        ids = (frame.stream_id, frame.message_id)
        if frame.stream_id == 0 or frame.message_id == 0:
            raise RemoteProtocolError(f"a frame has id {ids}; both begin at 1")
        continues = self._partial is not None and ids == (self._partial.stream_id, self._partial.message_id)
        if ids < self._last or (ids == self._last and not continues):
            raise RemoteProtocolError(f"frame ids went back from {self._last} to {ids}")
        if not continues:
            self._data.clear()  # an unfinished packet with an older id is dropped
            self._control = False
        elif self._partial is not None and self._partial.kind != frame.kind:
            raise RemoteProtocolError(f"packet {ids} changed its kind from {self._partial.kind} to {frame.kind}")
        self._last = ids
        self._control = self._control or frame.control
        if len(self._data) + len(frame.data) > MAX_PACKET_BYTES:
            raise RemoteProtocolError(f"a packet is over the limit of {MAX_PACKET_BYTES} bytes")
        self._data += frame.data
        if not frame.done:
            self._partial = frame
            return None
        self._partial = None
        packet = Packet(frame.kind, frame.stream_id, frame.message_id, bytes(self._data), self._control)
        self._data.clear()
        self._control = False
        return packet


def _write_varint(out: bytearray, number: int) -> None:
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)


def _read_varint(data: bytearray, position: int) -> tuple[int, int] | None:
    number = 0
    for index in range(MAX_VARINT_BYTES):
        if position + index >= len(data):
            return None
        byte = data[position + index]
        number |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return number, position + index + 1
    raise RemoteProtocolError(f"a varint is longer than {MAX_VARINT_BYTES} bytes")
