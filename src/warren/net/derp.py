"""DERP frames: what a relay and its clients say to each other. The relay's own are in the engine."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeAlias

from warren.errors import LocalProtocolError, RemoteProtocolError

MAGIC = bytes.fromhex("44455250f09f9491")
PROTOCOL_VERSION = 2
MAX_PACKET_LENGTH = 64 << 10
MAX_CLIENT_INFO_LENGTH = 256 << 10
MAX_FRAME_LENGTH = 1 << 20
_HEADER = struct.Struct(">BI")
_KEY_LENGTH = 32
_NONCE_LENGTH = 24
_SEAL_OVERHEAD = 40


class FrameType(IntEnum):
    """The kinds of frame, by their number on the wire."""

    SERVER_KEY = 0x01
    CLIENT_INFO = 0x02
    SERVER_INFO = 0x03
    SEND_PACKET = 0x04
    RECV_PACKET = 0x05
    KEEP_ALIVE = 0x06
    NOTE_PREFERRED = 0x07
    PEER_GONE = 0x08
    PEER_PRESENT = 0x09
    FORWARD_PACKET = 0x0A
    WATCH_CONNS = 0x10
    CLOSE_PEER = 0x11
    PING = 0x12
    PONG = 0x13
    HEALTH = 0x14
    RESTARTING = 0x15


class GoneReason(IntEnum):
    """Why a peer cannot be reached through a relay."""

    DISCONNECTED = 0
    NOT_HERE = 1


@dataclass(frozen=True, slots=True)
class ServerKey:
    """The relay's greeting."""

    key: bytes


@dataclass(frozen=True, slots=True)
class ClientInfo:
    """A client's login; `sealed` is a box of JSON."""

    key: bytes
    sealed: bytes


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """The answer to a login; `sealed` is a box of JSON."""

    sealed: bytes


@dataclass(frozen=True, slots=True)
class SendPacket:
    """A packet on its way to the relay."""

    to: bytes
    packet: bytes


@dataclass(frozen=True, slots=True)
class RecvPacket:
    """A packet on its way from the relay."""

    source: bytes
    packet: bytes


@dataclass(frozen=True, slots=True)
class KeepAlive:
    """Nothing, so that something is sent."""


@dataclass(frozen=True, slots=True)
class NotePreferred:
    """The client's home is here, or not any more."""

    home: bool


@dataclass(frozen=True, slots=True)
class PeerGone:
    """A peer cannot be reached here."""

    key: bytes
    reason: GoneReason


@dataclass(frozen=True, slots=True)
class PeerPresent:
    """To relays that watch: a client connected."""

    key: bytes


@dataclass(frozen=True, slots=True)
class ForwardPacket:
    """Between relays: a packet of a client of the other one."""

    source: bytes
    to: bytes
    packet: bytes


@dataclass(frozen=True, slots=True)
class WatchConns:
    """From a relay that wants to know who is connected."""


@dataclass(frozen=True, slots=True)
class ClosePeer:
    """From a trusted relay: cut off a client."""

    key: bytes


@dataclass(frozen=True, slots=True)
class Ping:
    """To be answered with the same eight bytes."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Pong:
    """The answer to a ping."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Health:
    """A problem in words for a person; empty when all is well again."""

    problem: str


@dataclass(frozen=True, slots=True)
class Restarting:
    """The relay goes away for a while."""

    reconnect_in_ms: int
    try_for_ms: int


@dataclass(frozen=True, slots=True)
class Unknown:
    """A frame of a kind that we do not know, or one that the rules say to pass over."""

    kind: int


Frame: TypeAlias = (
    ServerKey
    | ClientInfo
    | ServerInfo
    | SendPacket
    | RecvPacket
    | KeepAlive
    | NotePreferred
    | PeerGone
    | PeerPresent
    | ForwardPacket
    | WatchConns
    | ClosePeer
    | Ping
    | Pong
    | Health
    | Restarting
    | Unknown
)


def encode(frame: Frame) -> bytes:
    """Write a frame.

    Raises:
        LocalProtocolError: it is longer than its kind may be, or of no kind.
    """
    kind, body = _body(frame)
    if len(body) > _limit(kind):
        raise LocalProtocolError(f"frame {kind.name} of {len(body)} bytes is too long")
    return _HEADER.pack(kind, len(body)) + body


class Decoder:
    """Cut a byte stream into frames, however the network cut it into reads."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Yield the frames that `data` completes.

        Raises:
            RemoteProtocolError: a frame is too long for its kind, too short, or a greeting without the magic.
        """
        self._buffer += data
        while (frame := self._next()) is not None:
            yield frame

    @property
    def pending(self) -> int:
        """How many bytes wait for the rest of their frame."""
        return len(self._buffer)

    def _next(self) -> Frame | None:
        if len(self._buffer) < _HEADER.size:
            return None
        kind, length = _HEADER.unpack_from(self._buffer)
        if length > _limit(kind):
            raise RemoteProtocolError(f"frame {kind:#04x} of {length} bytes is too long")
        end = _HEADER.size + length
        if len(self._buffer) < end:
            return None
        body = bytes(self._buffer[_HEADER.size : end])
        del self._buffer[:end]
        return _parse(kind, body)


def _limit(kind: int) -> int:
    match kind:
        case FrameType.SEND_PACKET | FrameType.RECV_PACKET:
            return _KEY_LENGTH + MAX_PACKET_LENGTH
        case FrameType.FORWARD_PACKET:
            return 2 * _KEY_LENGTH + MAX_PACKET_LENGTH
        case FrameType.CLIENT_INFO:
            return MAX_CLIENT_INFO_LENGTH
        case _:
            return MAX_FRAME_LENGTH


def _body(frame: Frame) -> tuple[FrameType, bytes]:
    match frame:
        case ServerKey(key):
            return FrameType.SERVER_KEY, MAGIC + key
        case ClientInfo(key, sealed):
            return FrameType.CLIENT_INFO, key + sealed
        case ServerInfo(sealed):
            return FrameType.SERVER_INFO, sealed
        case SendPacket(to, packet):
            return FrameType.SEND_PACKET, to + packet
        case RecvPacket(source, packet):
            return FrameType.RECV_PACKET, source + packet
        case KeepAlive():
            return FrameType.KEEP_ALIVE, b""
        case NotePreferred(home):
            return FrameType.NOTE_PREFERRED, bytes([home])
        case PeerGone(key, reason):
            return FrameType.PEER_GONE, key + bytes([reason])
        case PeerPresent(key):
            return FrameType.PEER_PRESENT, key
        case ForwardPacket(source, to, packet):
            return FrameType.FORWARD_PACKET, source + to + packet
        case WatchConns():
            return FrameType.WATCH_CONNS, b""
        case ClosePeer(key):
            return FrameType.CLOSE_PEER, key
        case Ping(payload):
            return FrameType.PING, payload
        case Pong(payload):
            return FrameType.PONG, payload
        case Health(problem):
            return FrameType.HEALTH, problem.encode()
        case Restarting(reconnect_in_ms, try_for_ms):
            return FrameType.RESTARTING, struct.pack(">II", reconnect_in_ms, try_for_ms)
        case Unknown(kind):
            raise LocalProtocolError(f"frame {kind:#04x} cannot be written")


# Below these lengths a frame closes the connection; other kinds are passed over when they are too short.
_REQUIRED = {
    FrameType.SERVER_KEY: len(MAGIC) + _KEY_LENGTH,
    FrameType.CLIENT_INFO: _KEY_LENGTH + _NONCE_LENGTH,
    FrameType.SERVER_INFO: _SEAL_OVERHEAD,
    FrameType.SEND_PACKET: _KEY_LENGTH,
    FrameType.NOTE_PREFERRED: 1,
    FrameType.FORWARD_PACKET: 2 * _KEY_LENGTH,
    FrameType.CLOSE_PEER: _KEY_LENGTH,
}
_OPTIONAL = {
    FrameType.RECV_PACKET: _KEY_LENGTH,
    FrameType.PEER_GONE: _KEY_LENGTH,
    FrameType.PEER_PRESENT: _KEY_LENGTH,
    FrameType.PING: 8,
    FrameType.PONG: 8,
    FrameType.RESTARTING: 8,
}


def _parse(kind: int, body: bytes) -> Frame:
    """Read the body of a frame. Longer bodies than needed are fine: later versions may add to them."""
    try:
        frame_type = FrameType(kind)
    except ValueError:
        return Unknown(kind)
    if len(body) < _REQUIRED.get(frame_type, 0):
        raise RemoteProtocolError(f"frame {frame_type.name} of {len(body)} bytes is too short")
    if len(body) < _OPTIONAL.get(frame_type, 0):
        return Unknown(kind)
    return _parse_login(frame_type, body) or _parse_packet(frame_type, body) or _parse_rest(frame_type, body)


def _parse_login(kind: FrameType, body: bytes) -> Frame | None:
    match kind:
        case FrameType.SERVER_KEY:
            if not body.startswith(MAGIC):
                raise RemoteProtocolError("this is not a DERP relay")
            return ServerKey(body[len(MAGIC) : len(MAGIC) + _KEY_LENGTH])
        case FrameType.CLIENT_INFO:
            return ClientInfo(body[:_KEY_LENGTH], body[_KEY_LENGTH:])
        case FrameType.SERVER_INFO:
            return ServerInfo(body)
        case _:
            return None


def _parse_packet(kind: FrameType, body: bytes) -> Frame | None:
    key, rest = body[:_KEY_LENGTH], body[_KEY_LENGTH:]
    match kind:
        case FrameType.SEND_PACKET:
            return SendPacket(key, rest)
        case FrameType.RECV_PACKET:
            return RecvPacket(key, rest)
        case FrameType.FORWARD_PACKET:
            return ForwardPacket(key, rest[:_KEY_LENGTH], rest[_KEY_LENGTH:])
        case FrameType.PEER_GONE:
            # Old relays give no reason.
            return PeerGone(key, GoneReason.NOT_HERE if rest[:1] == b"\x01" else GoneReason.DISCONNECTED)
        case FrameType.PEER_PRESENT:
            return PeerPresent(key)
        case FrameType.CLOSE_PEER:
            return ClosePeer(key)
        case _:
            return None


def _parse_rest(kind: FrameType, body: bytes) -> Frame:
    match kind:
        case FrameType.KEEP_ALIVE:
            return KeepAlive()
        case FrameType.NOTE_PREFERRED:
            if len(body) > 1:
                raise RemoteProtocolError(f"frame {kind.name} of {len(body)} bytes is too long")
            return NotePreferred(body != b"\x00")
        case FrameType.WATCH_CONNS:
            return WatchConns()
        case FrameType.PING:
            return Ping(body[:8])
        case FrameType.PONG:
            return Pong(body[:8])
        case FrameType.HEALTH:
            return Health(body.decode(errors="replace"))
        case FrameType.RESTARTING:
            reconnect_in_ms, try_for_ms = struct.unpack_from(">II", body)
            return Restarting(reconnect_in_ms, try_for_ms)
        case _:
            return Unknown(kind)
