"""WebSockets that carry remote calls: accepted, and seen as byte streams."""

from __future__ import annotations

from typing import Any

from litestar import WebSocket
from litestar.exceptions import WebSocketDisconnect, WebSocketException

from warren.rpc.server_websocket import ServerWebSocket

UNSUPPORTED_DATA = 1003
GONE = (WebSocketDisconnect, WebSocketException, OSError, RuntimeError)


class _BinarySocket:
    """Lets binary messages through only: a text among them is a mistake of the client, and ends the connection."""

    # Litestar's socket is generic in what nobody here uses.
    def __init__(self, socket: WebSocket[Any, Any, Any]) -> None:
        self._socket = socket

    async def receive_bytes(self) -> bytes:
        """Wait for a binary message."""
        event = await self._socket.receive()
        if event["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(detail="disconnected", code=event["code"])
        data = event.get("bytes")
        if data is None:
            await self._socket.close(UNSUPPORTED_DATA, "expected binary messages")
            raise WebSocketDisconnect(detail="a text message", code=UNSUPPORTED_DATA)
        return data

    async def send_bytes(self, data: bytes) -> None:
        """Send a binary message."""
        await self._socket.send({"type": "websocket.send", "bytes": data, "text": None})

    async def close(self, code: int = 1000, reason: str | None = None) -> None:
        """Close the socket."""
        await self._socket.close(code, reason)


async def accept(socket: WebSocket[Any, Any, Any]) -> ServerWebSocket:
    """Accept a WebSocket as a stream of bytes."""
    await socket.accept()
    return ServerWebSocket(_BinarySocket(socket), GONE)
