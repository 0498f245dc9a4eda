"""Byte streams over WebSockets that we open: binary messages whose boundaries carry no meaning.

Compression is never offered: what travels is already encrypted or small.
"""

from __future__ import annotations

import socket
import ssl
from collections import deque
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import anyio
from anyio.abc import ByteStream, SocketAttribute
from websockets.client import ClientProtocol
from websockets.exceptions import InvalidHandshake, InvalidStatus, WebSocketException
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.uri import parse_uri

from warren.errors import RemoteProtocolError, Unavailable
from warren.rpc.server_websocket import CLOSE_SECONDS, NORMAL_CLOSURE
from warren.sdk import client_errors, connecting

CONNECT_SECONDS = 30.0
UNHEARD_SECONDS = 5.0
"""How long what we sent may go unacknowledged. An address that went away leaves a connection that looks alive:
the kernel alone would try for a quarter of an hour, and until then no peer would hear where we are now."""
MAX_MESSAGE_BYTES = 8 * 1024 * 1024


@asynccontextmanager
async def connect(
    url: str, *, headers: Mapping[str, str], tls: ssl.SSLContext | None = None
) -> AsyncGenerator[ByteStream]:
    """Open a WebSocket as `dial` does; it is closed with the context."""
    websocket = await dial(url, headers=headers, tls=tls)
    try:
        yield websocket
    finally:
        await websocket.aclose()


async def dial(url: str, *, headers: Mapping[str, str], tls: ssl.SSLContext | None = None) -> ByteStream:
    """Open a WebSocket to `url` (`ws://` or `wss://`); whoever gets it closes it.

    `tls` is for the server and for a proxy that speaks TLS; what the system trusts where there is none.

    Raises:
        WarrenError: the server refused, with what its answer said (`warren.sdk.client_errors`).
        Unavailable: it cannot be reached, or did not answer in `CONNECT_SECONDS`.
    """
    try:
        with anyio.fail_after(CONNECT_SECONDS):
            stream = await _dial(url, tls)
            _end_when_unheard(stream)
            websocket = ClientWebSocket(stream, url)
            try:
                await websocket.shake_hands(headers)
            except BaseException:
                await anyio.aclose_forcefully(stream)
                raise
    except TimeoutError as error:
        raise Unavailable(f"{_host(url)} did not answer within {CONNECT_SECONDS:.0f} s") from error
    return websocket


def _host(url: str) -> str:
    return urlsplit(url).netloc


async def _dial(url: str, tls: ssl.SSLContext | None) -> ByteStream:
    parts = urlsplit(url)
    if parts.scheme not in ("ws", "wss") or not parts.hostname:
        raise Unavailable(f"`{url}` is not the address of a WebSocket")
    secure = parts.scheme == "wss"
    port = parts.port or (443 if secure else 80)
    try:
        context = (tls or ssl.create_default_context()) if secure else None
        return await connecting.connect(parts.hostname, port, context, trust=(lambda: tls) if tls else None)
    except (OSError, ssl.SSLError) as error:
        raise Unavailable(f"cannot connect to {_host(url)}: {error}") from error


def _end_when_unheard(stream: ByteStream) -> None:
    """Have the kernel end a connection whose other side acknowledges nothing, where it can."""
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        raw = stream.extra(SocketAttribute.raw_socket)  # noqa: S610  anyio's, not Django's
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(UNHEARD_SECONDS * 1000))


class ClientWebSocket(ByteStream):
    """The client's end of a WebSocket. Made by `connect`."""

    def __init__(self, stream: ByteStream, url: str) -> None:
        self._stream = stream
        self._protocol = ClientProtocol(parse_uri(url), max_size=MAX_MESSAGE_BYTES)
        self._received: deque[bytes] = deque()
        self._sending = anyio.Lock()
        self._closed = False

    @property
    def extra_attributes(self) -> Mapping[Any, Any]:
        """Have none. (`Any`: anyio's own type.)"""
        return {}

    async def shake_hands(self, headers: Mapping[str, str]) -> None:
        """Send the request and wait for the server's answer."""
        request = self._protocol.connect()
        for name, value in headers.items():
            request.headers[name] = value
        self._protocol.send_request(request)
        await self._flush()
        while True:
            try:
                self._protocol.receive_data(await self._stream.receive())
            except (anyio.EndOfStream, anyio.BrokenResourceError, OSError) as error:
                self._protocol.receive_eof()
                if self._protocol.handshake_exc is None:
                    raise Unavailable("the server closed the connection instead of answering") from error
            answered = self._take_events()
            self._check_handshake()
            if answered is not None:
                await self._flush()  # the answer to a ping that came with it
                return

    def _check_handshake(self) -> None:
        error = self._protocol.handshake_exc
        if isinstance(error, InvalidStatus):
            response = error.response
            headers = dict(response.headers.raw_items())
            raise client_errors.from_answer(response.status_code, headers, bytes(response.body or b"")) from error
        if isinstance(error, InvalidHandshake | WebSocketException):
            raise RemoteProtocolError(f"the server refused the WebSocket: {error}") from error

    def _take_events(self) -> Response | None:
        """Keep the payload of data frames; return the answer to the handshake when it came."""
        answer: Response | None = None
        for event in self._protocol.events_received():
            match event:
                case Response():
                    answer = event
                case Frame(opcode=Opcode.BINARY | Opcode.CONT, data=data):
                    self._received.append(bytes(data))
                case Frame(opcode=Opcode.TEXT):
                    self._protocol.fail(1003, "text message where binary was expected")
                case _:
                    pass
        return answer

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """Wait for bytes; more than `max_bytes` may come, as the frames had them."""
        while True:
            while self._received:
                if data := self._received.popleft():
                    return data
            if self._closed:
                raise anyio.ClosedResourceError
            if self._protocol.close_rcvd is not None or self._protocol.close_expected():
                raise anyio.EndOfStream
            try:
                self._protocol.receive_data(await self._stream.receive())
            except anyio.EndOfStream:
                self._protocol.receive_eof()
                raise
            self._take_events()
            await self._flush()

    async def send(self, item: bytes) -> None:
        """Send bytes as one binary message."""
        try:
            self._protocol.send_binary(item)
        except WebSocketException as error:
            raise anyio.BrokenResourceError from error
        await self._flush()

    async def send_eof(self) -> None:
        """Close the socket: a WebSocket has no half-close."""
        await self.aclose()

    async def aclose(self) -> None:
        """Close with 1000, giving the peer a moment to answer."""
        if self._closed:
            return
        self._closed = True
        try:
            with anyio.move_on_after(CLOSE_SECONDS, shield=True):
                await self._say_goodbye()
        finally:
            await anyio.aclose_forcefully(self._stream)

    async def _say_goodbye(self) -> None:
        try:
            if self._protocol.close_sent is None:
                self._protocol.send_close(NORMAL_CLOSURE)
            await self._flush()
        except (WebSocketException, anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
            return

    async def _flush(self) -> None:
        async with self._sending:
            for data in self._protocol.data_to_send():
                if data:
                    await self._stream.send(data)
                else:
                    await self._stream.send_eof()
