"""Byte streams over WebSockets that a framework accepted: binary messages whose boundaries carry no meaning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import anyio
from anyio.abc import ByteStream

CLOSE_SECONDS = 1.0
NORMAL_CLOSURE = 1000
OUR_CODES = frozenset({None, 1003, 1011, 1012})
"""How a socket ends by us: a violation, no sign of life, a stop of the server."""


class ASGIWebSocket(Protocol):
    """What `ServerWebSocket` needs of a framework's accepted WebSocket."""

    async def receive_bytes(self) -> bytes:
        """Wait for a binary message."""
        ...

    async def send_bytes(self, data: bytes) -> None:
        """Send a binary message."""
        ...

    async def close(self, code: int = 1000, reason: str | None = None) -> None:
        """Close the socket."""
        ...


class ServerWebSocket(ByteStream):
    """The server's end of a WebSocket.

    `disconnected` are the errors by which the framework says that the client is gone.
    """

    def __init__(self, socket: ASGIWebSocket, disconnected: tuple[type[Exception], ...]) -> None:
        self._socket = socket
        self._disconnected = disconnected
        self._closed = False
        self.ended_by_peer = False
        """The other side closed it or went away, and said so: it did not just fall silent, and we did not close it."""

    @property
    def extra_attributes(self) -> Mapping[Any, Any]:
        """Have none. (`Any`: anyio's own type.)"""
        return {}

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """Wait for bytes; more than `max_bytes` may come, as the messages had them."""
        while True:
            if self._closed:
                raise anyio.ClosedResourceError
            try:
                data = await self._socket.receive_bytes()
            except self._disconnected as error:
                self.ended_by_peer = getattr(error, "code", None) not in OUR_CODES
                raise anyio.EndOfStream from error
            if data:
                return data

    async def send(self, item: bytes) -> None:
        """Send bytes as one binary message."""
        if self._closed:
            raise anyio.ClosedResourceError
        try:
            await self._socket.send_bytes(item)
        except self._disconnected as error:
            raise anyio.BrokenResourceError from error

    async def send_eof(self) -> None:
        """Close the socket: a WebSocket has no half-close."""
        await self.aclose()

    async def aclose(self, code: int = NORMAL_CLOSURE, reason: str = "") -> None:
        """Close the socket."""
        if self._closed:
            return
        self._closed = True
        try:
            with anyio.move_on_after(CLOSE_SECONDS, shield=True):
                await self._socket.close(code, reason)
        except (*self._disconnected, RuntimeError):
            return  # it was closed from the other side
