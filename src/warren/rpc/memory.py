"""Two ends of a byte stream in one process, with a kernel socket's back-pressure between them."""

from __future__ import annotations

import socket

from anyio.abc import ByteStream, SocketStream


async def stream_pair() -> tuple[ByteStream, ByteStream]:
    """Make two connected streams."""
    left, right = socket.socketpair()
    return await SocketStream.from_socket(left), await SocketStream.from_socket(right)
