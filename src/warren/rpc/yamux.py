"""Many streams over one connection: yamux, without I/O.

`Session` takes the bytes of one connection and gives events; what it wants to send is drained by `data_to_send`. It
keeps no received data: the adapter holds that and says with `consumed` what was read, which refills the window. A
violation by the peer queues the go-away that the protocol asks for and raises `RemoteProtocolError`.

```text
 open() ──SYN──► opening ──ACK──► open ──FIN sent──► half closed (local) ──FIN──► gone
 SYN ──► offered ──accept()──► open ──FIN──► half closed (remote) ──finish()──► gone       RST from either side: gone
```
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Final, TypeAlias

from warren.errors import LocalProtocolError, RemoteProtocolError

HEADER: Final = struct.Struct(">BBHII")
WINDOW_BYTES: Final = 256 * 1024
"""Initial window of each direction of a stream, fixed by the specification."""
ACCEPT_BACKLOG: Final = 256


class FrameType(IntEnum):
    """What a frame is."""

    DATA = 0
    WINDOW_UPDATE = 1
    PING = 2
    GO_AWAY = 3


class Flag(IntFlag):
    """What a frame does to its stream."""

    NONE = 0
    SYN = 1
    ACK = 2
    FIN = 4
    RST = 8


class GoAwayCode(IntEnum):
    """Why a session ends."""

    NORMAL = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2


@dataclass(frozen=True, slots=True)
class StreamOffered:
    """The peer opened a stream."""

    stream_id: int


@dataclass(frozen=True, slots=True)
class DataReceived:
    """Bytes of a stream arrived."""

    stream_id: int
    data: bytes


@dataclass(frozen=True, slots=True)
class StreamEnded:
    """The peer sends no more on this stream."""

    stream_id: int


@dataclass(frozen=True, slots=True)
class StreamReset:
    """The peer gave up a stream in both directions."""

    stream_id: int


@dataclass(frozen=True, slots=True)
class WindowOpened:
    """More may be sent on a stream."""

    stream_id: int


@dataclass(frozen=True, slots=True)
class PongReceived:
    """A ping of ours was answered."""

    value: int


@dataclass(frozen=True, slots=True)
class GoneAway:
    """The peer opens no more streams, and accepts none."""

    code: int


Event: TypeAlias = StreamOffered | DataReceived | StreamEnded | StreamReset | WindowOpened | PongReceived | GoneAway


@dataclass(slots=True)
class _Stream:
    send_window: int = WINDOW_BYTES
    receive_window: int = WINDOW_BYTES
    unread: int = 0
    offered: bool = False
    ended_here: bool = False
    ended_there: bool = False


class Session:
    """One end of a yamux connection."""

    def __init__(self, *, client: bool) -> None:
        self._next_id = 1 if client else 2
        self._buffer = bytearray()
        self._out = bytearray()
        self._streams: dict[int, _Stream] = {}
        self._gone_away = False
        self._refused = False

    # What arrives.

    def receive_data(self, data: bytes) -> list[Event]:
        """Take in bytes, however they were cut; return what they complete.

        Raises:
            RemoteProtocolError: the peer broke the protocol. Send what is queued, then close.
        """
        self._buffer += data
        events: list[Event] = []
        while frame := self._next_frame():
            events.extend(self._receive_frame(*frame))
        return events

    def _next_frame(self) -> tuple[FrameType, Flag, int, int, bytes] | None:
        if len(self._buffer) < HEADER.size:
            return None
        version, kind, flags, stream_id, length = HEADER.unpack_from(self._buffer)
        if version != 0 or kind > FrameType.GO_AWAY:
            raise RemoteProtocolError(f"malformed yamux header: version {version}, type {kind}")
        if kind != FrameType.DATA:
            del self._buffer[: HEADER.size]
            return FrameType(kind), Flag(flags & 0xF), stream_id, length, b""
        stream = self._streams.get(stream_id)
        if length > (WINDOW_BYTES if stream is None else stream.receive_window):
            self._refuse(f"{length} bytes on stream {stream_id} are more than its window")
        end = HEADER.size + length
        if len(self._buffer) < end:
            return None
        payload = bytes(self._buffer[HEADER.size : end])
        del self._buffer[:end]
        return FrameType.DATA, Flag(flags & 0xF), stream_id, length, payload

    def _receive_frame(
        self, kind: FrameType, flags: Flag, stream_id: int, length: int, payload: bytes
    ) -> Iterator[Event]:
        match kind:
            case FrameType.PING:
                yield from self._receive_ping(flags, length)
            case FrameType.GO_AWAY:
                yield from self._receive_go_away(length)
            case FrameType.DATA | FrameType.WINDOW_UPDATE:
                yield from self._receive_for_stream(kind, flags, stream_id, length, payload)

    def _receive_ping(self, flags: Flag, value: int) -> Iterator[Event]:
        if Flag.SYN in flags:
            self._queue(FrameType.PING, Flag.ACK, 0, value)
        elif Flag.ACK in flags:
            yield PongReceived(value)

    def _receive_go_away(self, code: int) -> Iterator[Event]:
        self._gone_away = True
        yield GoneAway(code)
        if code != GoAwayCode.NORMAL:
            raise RemoteProtocolError(f"the peer ended the session with code {code}")

    def _receive_for_stream(
        self, kind: FrameType, flags: Flag, stream_id: int, length: int, payload: bytes
    ) -> Iterator[Event]:
        if Flag.SYN in flags:
            yield from self._offer(stream_id)
        stream = self._streams.get(stream_id)
        if stream is None:
            return  # of a stream that is gone: its frames may still be under way
        if kind is FrameType.WINDOW_UPDATE and length:
            stream.send_window += length
            yield WindowOpened(stream_id)
        if payload:
            stream.receive_window -= length
            stream.unread += length
            yield DataReceived(stream_id, payload)
        if Flag.RST in flags:
            del self._streams[stream_id]
            yield StreamReset(stream_id)
        elif Flag.FIN in flags:
            if stream.ended_there:
                self._refuse(f"stream {stream_id} was ended twice")
            stream.ended_there = True
            self._forget_if_done(stream_id)
            yield StreamEnded(stream_id)

    def _offer(self, stream_id: int) -> Iterator[Event]:
        if stream_id in self._streams:
            self._refuse(f"stream {stream_id} was opened twice")
        if stream_id % 2 == self._next_id % 2 or stream_id == 0:
            self._refuse(f"stream {stream_id} is not the peer's to open")
        waiting = sum(stream.offered for stream in self._streams.values())
        if self._refused or waiting >= ACCEPT_BACKLOG:
            self._queue(FrameType.WINDOW_UPDATE, Flag.RST, stream_id, 0)
            return
        self._streams[stream_id] = _Stream(offered=True)
        yield StreamOffered(stream_id)

    # What we send.

    def data_to_send(self) -> bytes:
        """Drain what must be written to the connection."""
        data = bytes(self._out)
        self._out.clear()
        return data

    def pending_bytes(self) -> int:
        """Tell how much waits to be written."""
        return len(self._out)

    def open(self) -> int:
        """Open a stream; data may follow at once.

        Raises:
            LocalProtocolError: the peer went away.
        """
        if self._gone_away:
            raise LocalProtocolError("the peer accepts no more streams")
        stream_id, self._next_id = self._next_id, self._next_id + 2
        self._streams[stream_id] = _Stream()
        self._queue(FrameType.WINDOW_UPDATE, Flag.SYN, stream_id, 0)
        return stream_id

    def accept(self, stream_id: int) -> None:
        """Accept a stream that was offered."""
        stream = self._streams.get(stream_id)
        if stream is not None and stream.offered:
            stream.offered = False
            self._queue(FrameType.WINDOW_UPDATE, Flag.ACK, stream_id, 0)

    def send(self, stream_id: int, data: bytes | memoryview) -> int:
        """Queue as much of `data` as the window lets through; return how many bytes that was.

        Raises:
            LocalProtocolError: the stream is gone, or we ended it.
        """
        stream = self._streams.get(stream_id)
        if stream is None or stream.ended_here:
            raise LocalProtocolError(f"stream {stream_id} is closed")
        count = min(len(data), stream.send_window)
        if count:
            stream.send_window -= count
            self._queue(FrameType.DATA, Flag.NONE, stream_id, count)
            self._out += data[:count]
        return count

    def consumed(self, stream_id: int, count: int) -> None:
        """Note that `count` received bytes were read; tell the peer when half the window is free."""
        stream = self._streams.get(stream_id)
        if stream is None:
            return
        stream.unread -= count
        refill = WINDOW_BYTES - stream.unread - stream.receive_window
        if refill >= WINDOW_BYTES // 2 and not stream.ended_there:
            stream.receive_window += refill
            self._queue(FrameType.WINDOW_UPDATE, Flag.NONE, stream_id, refill)

    def finish(self, stream_id: int) -> None:
        """Send no more on a stream; the other direction stays."""
        stream = self._streams.get(stream_id)
        if stream is not None and not stream.ended_here:
            stream.ended_here = True
            self._queue(FrameType.WINDOW_UPDATE, Flag.FIN, stream_id, 0)
            self._forget_if_done(stream_id)

    def reset(self, stream_id: int) -> None:
        """Give up a stream in both directions."""
        if self._streams.pop(stream_id, None) is not None:
            self._queue(FrameType.WINDOW_UPDATE, Flag.RST, stream_id, 0)

    def ping(self, value: int) -> None:
        """Ask for a `PongReceived` with this 32-bit value."""
        self._queue(FrameType.PING, Flag.SYN, 0, value)

    def go_away(self, code: GoAwayCode = GoAwayCode.NORMAL) -> None:
        """Accept no more streams."""
        self._refused = True
        self._queue(FrameType.GO_AWAY, Flag.NONE, 0, code)

    def is_open(self, stream_id: int) -> bool:
        """Say whether a stream still exists."""
        return stream_id in self._streams

    def _queue(self, kind: FrameType, flags: Flag, stream_id: int, length: int) -> None:
        self._out += HEADER.pack(0, kind, flags, stream_id, length)

    def _forget_if_done(self, stream_id: int) -> None:
        stream = self._streams[stream_id]
        if stream.ended_here and stream.ended_there:
            del self._streams[stream_id]

    def _refuse(self, reason: str) -> None:
        self.go_away(GoAwayCode.PROTOCOL_ERROR)
        raise RemoteProtocolError(reason)
