"""Ask a relay, by the URL that clients use, whether it works: upgrade, login, a packet to ourselves and back.

The server's own environment names the proxy on the way, where there is one, as it does for all that the server asks.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar, cast
from urllib.parse import urlsplit

import anyio
from anyio.abc import ByteStream
from websockets.client import ClientProtocol
from websockets.exceptions import WebSocketException
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

from warren._engine import derp_login, derp_login_answered, generate_key, public_key
from warren.errors import Invalid, ProtocolError, Unavailable, WarrenError
from warren.net import derp
from warren.sdk import connecting

PROBE_SECONDS = 10.0
"""What clients allow a relay for all of DNS, TCP, TLS, HTTP and login."""
_PACKET_BYTES = 1200
_MAX_HEAD_BYTES = 16 << 10
_F = TypeVar("_F", bound=derp.Frame)


class ProbeFailed(WarrenError):
    """A relay does not do what it is there for; the message says which step failed and how."""


@dataclass(frozen=True, slots=True)
class Route:
    """How a relay is reached. `host` is connected to, `name` is asked for and shown in its certificate."""

    host: str
    port: int
    name: str
    tls: bool = True

    @classmethod
    def from_url(cls, url: str) -> Route:
        """Read the URL of a server."""
        parts = urlsplit(url)
        tls = parts.scheme == "https"
        host = parts.hostname or ""
        return cls(host, parts.port or (443 if tls else 80), host, tls)

    @property
    def authority(self) -> str:
        """What stands in a `Host` header."""
        name = f"[{self.name}]" if ":" in self.name else self.name
        return name if self.port == (443 if self.tls else 80) else f"{name}:{self.port}"


async def probe(route: Route, context: Callable[[], ssl.SSLContext]) -> float:
    """Send a packet to ourselves through the relay; give the seconds that all of it took.

    Raises:
        ProbeFailed: it did not come back.
    """
    return await _within_time(route, context, _upgrade_native)


async def probe_websocket(route: Route, context: Callable[[], ssl.SSLContext]) -> float:
    """Do what `probe` does inside a WebSocket, as clients do where a proxy strips the upgrade.

    Raises:
        ProbeFailed: it did not come back.
    """
    return await _within_time(route, context, _upgrade_websocket)


class _Channel(Protocol):
    """The byte stream of DERP frames, however it travels."""

    async def send(self, data: bytes) -> None: ...

    async def receive(self) -> bytes: ...


class _Upgrade(Protocol):
    async def __call__(self, stream: ByteStream, route: Route) -> _Channel: ...


class _Step:
    """Names what is being done, for the message when it fails."""

    name = "connect"


async def _within_time(route: Route, context: Callable[[], ssl.SSLContext], upgrade: _Upgrade) -> float:
    step = _Step()
    started = anyio.current_time()
    try:
        with anyio.fail_after(PROBE_SECONDS):
            tls = context() if route.tls else None
            stream = await connecting.connect(route.host, route.port, tls, trust=context, server_name=route.name)
            async with stream:
                step.name = "upgrade"
                channel = await upgrade(stream, route)
                await _echo(channel, step)
    except TimeoutError as error:
        raise ProbeFailed(f"{step.name}: no answer within {PROBE_SECONDS:.0f} s") from error
    except (Unavailable, Invalid) as error:  # the proxy on the way
        raise ProbeFailed(f"{step.name}: {error}") from error
    except ssl.SSLError as error:
        reason = getattr(error, "verify_message", "") or error.reason or str(error)
        raise ProbeFailed(f"TLS: {reason}") from error
    except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError) as error:
        raise ProbeFailed(f"{step.name}: the connection was closed") from error
    except (OSError, ProtocolError, WebSocketException) as error:
        raise ProbeFailed(f"{step.name}: {_reason(error)}") from error
    return anyio.current_time() - started


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)
    # anyio wraps what each address of a name said; the first says enough.
    cause = error.__cause__
    while isinstance(cause, BaseExceptionGroup):
        cause = cast("BaseExceptionGroup[BaseException]", cause).exceptions[0]
    return _reason(cause) if isinstance(cause, OSError) else str(error)


async def _upgrade_native(stream: ByteStream, route: Route) -> _Channel:
    request = f"GET /derp HTTP/1.1\r\nHost: {route.authority}\r\nUpgrade: DERP\r\nConnection: Upgrade\r\n\r\n"
    await stream.send(request.encode())
    head = b""
    while b"\r\n\r\n" not in head:
        if len(head) > _MAX_HEAD_BYTES:
            raise ProbeFailed("upgrade: the answer has no end")
        head += await stream.receive()
    head, rest = head.split(b"\r\n\r\n", 1)
    status = head.split(b"\r\n", 1)[0].decode("latin-1")
    if " 101 " not in f"{status} ":
        raise ProbeFailed(f"upgrade: the answer was `{status}`; does a proxy in between strip `Upgrade`?")
    return _Native(stream, rest)


class _Native:
    def __init__(self, stream: ByteStream, first: bytes) -> None:
        self._stream = stream
        self._first = first

    async def send(self, data: bytes) -> None:
        await self._stream.send(data)

    async def receive(self) -> bytes:
        first, self._first = self._first, b""
        return first or await self._stream.receive()


async def _upgrade_websocket(stream: ByteStream, route: Route) -> _Channel:
    scheme = "wss" if route.tls else "ws"
    protocol = ClientProtocol(parse_uri(f"{scheme}://{route.authority}/derp"), subprotocols=[Subprotocol("derp")])
    channel = _WebSocket(stream, protocol)
    protocol.send_request(protocol.connect())
    await channel.flush()
    response = await channel.next_event()
    if protocol.handshake_exc is not None:
        raise protocol.handshake_exc
    if not isinstance(response, Response):
        raise ProbeFailed("upgrade: no answer to the request")
    return channel


class _WebSocket:
    def __init__(self, stream: ByteStream, protocol: ClientProtocol) -> None:
        self._stream = stream
        self._protocol = protocol
        self._events: list[object] = []

    async def flush(self) -> None:
        for data in self._protocol.data_to_send():
            if data:  # empty: the end of our side
                await self._stream.send(data)

    async def next_event(self) -> object:
        while not self._events:
            self._protocol.receive_data(await self._stream.receive())
            self._events.extend(self._protocol.events_received())
            await self.flush()
        return self._events.pop(0)

    async def send(self, data: bytes) -> None:
        self._protocol.send_binary(data)
        await self.flush()

    async def receive(self) -> bytes:
        while True:
            event = await self.next_event()
            if isinstance(event, Frame) and event.opcode in (Opcode.BINARY, Opcode.CONT):
                return bytes(event.data)
            if isinstance(event, Frame) and event.opcode is Opcode.CLOSE:
                raise anyio.EndOfStream


async def _echo(channel: _Channel, step: _Step) -> None:
    step.name = "greeting"
    frames = _Frames(channel)
    private_key = generate_key()
    relay_key = (await frames.expect(derp.ServerKey)).key
    step.name = "login"
    await channel.send(derp_login(private_key, relay_key, prober=True))
    answer = await frames.expect(derp.ServerInfo)
    if not derp_login_answered(private_key, relay_key, answer.sealed):
        raise ProbeFailed("login: the answer was not sealed by the key that the relay greeted with")
    step.name = "packet"
    packet = os.urandom(_PACKET_BYTES)
    own = public_key(private_key)
    await channel.send(derp.encode(derp.SendPacket(own, packet)))
    if await frames.expect(derp.RecvPacket) != derp.RecvPacket(own, packet):
        raise ProbeFailed("packet: another one came back than was sent")


class _Frames:
    def __init__(self, channel: _Channel) -> None:
        self._channel = channel
        self._decoder = derp.Decoder()
        self._waiting: list[derp.Frame] = []

    async def expect(self, kind: type[_F]) -> _F:
        """Give the next frame of a kind; others are nothing to us."""
        while True:
            frame = await self._next()
            if isinstance(frame, kind):
                return frame
            if isinstance(frame, derp.Restarting):
                raise ProbeFailed("the relay says that it restarts")

    async def _next(self) -> derp.Frame:
        while not self._waiting:
            self._waiting.extend(self._decoder.feed(await self._channel.receive()))
        return self._waiting.pop(0)
