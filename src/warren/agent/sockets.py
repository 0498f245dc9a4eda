"""Bytes over connected, non-blocking sockets, as the tunnel hands them out."""

from __future__ import annotations

import socket

import anyio


async def receive(connection: socket.socket, max_bytes: int) -> bytes:
    """Wait for bytes; empty at the end, also when the peer is gone."""
    while True:
        try:
            return connection.recv(max_bytes)
        except BlockingIOError:
            await anyio.wait_readable(connection)
        except OSError:
            return b""


async def receive_exactly(connection: socket.socket, count: int) -> bytes:
    """Wait for exactly `count` bytes.

    Raises:
        anyio.IncompleteRead: the peer ended before.
    """
    buffer = bytearray()
    while len(buffer) < count:
        data = await receive(connection, count - len(buffer))
        if not data:
            raise anyio.IncompleteRead
        buffer += data
    return bytes(buffer)


async def send_all(connection: socket.socket, data: bytes) -> None:
    """Send everything.

    Raises:
        OSError: the peer is gone.
    """
    view = memoryview(data)
    while view:
        try:
            view = view[connection.send(view) :]
        except BlockingIOError:
            await anyio.wait_writable(connection)


def close(connection: socket.socket) -> None:
    """Close a socket that a task may be waiting on."""
    if connection.fileno() >= 0:
        anyio.notify_closing(connection)
        connection.close()
