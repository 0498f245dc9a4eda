"""The server side of the tunnel's speed test (Tailscale's protocol, version 2)."""

from __future__ import annotations

import os
import socket
import time
from dataclasses import dataclass

import anyio
import anyio.to_thread
import msgspec

from warren.agent import sockets
from warren.errors import NOT_JSON

VERSION = 2
BLOCK_BYTES = 2 * 1024 * 1024
MAX_SECONDS = 60.0
"""A client may ask for any duration; a workspace does not send for ever."""
MAX_REQUEST_BYTES = 4096


class SpeedtestRequest(msgspec.Struct, frozen=True):
    """What the client asks: for how long (nanoseconds), and 0 to receive or 1 to send."""

    version: int
    time: int
    direction: int


class _Refusal(msgspec.Struct, frozen=True, omit_defaults=True):
    error: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """What the server will do."""

    sends: bool
    seconds: float


def read_request(line: bytes) -> Plan | str:
    """Decide about a request line; a text is the reason of a refusal."""
    try:
        request = msgspec.json.decode(line, type=SpeedtestRequest)
    except NOT_JSON as error:
        return f"bad request: {error}"
    if request.version != VERSION:
        return f"version mismatch! Server is version {VERSION}, client is version {request.version}"
    return Plan(request.direction == 0, min(max(request.time, 0), int(MAX_SECONDS * 1e9)) / 1e9)


async def serve_speedtest(connection: socket.socket) -> None:
    """Serve one test; takes the socket."""
    try:
        line, rest = await _read_line(connection)
        if line is None:
            return
        plan = read_request(line)
        if isinstance(plan, str):
            await sockets.send_all(connection, msgspec.json.encode(_Refusal(plan)) + b"\n")
            return
        await sockets.send_all(connection, b"{}\n")
        del rest  # uploaded bytes that came with the line: only the client counts
        try:
            await anyio.to_thread.run_sync(_transfer, connection, plan, abandon_on_cancel=True)
        finally:
            _shut_down(connection)
    except OSError:
        return
    finally:
        sockets.close(connection)


async def _read_line(connection: socket.socket) -> tuple[bytes | None, bytes]:
    buffer = bytearray()
    while b"\n" not in buffer:
        data = await sockets.receive(connection, MAX_REQUEST_BYTES)
        if not data or len(buffer) > MAX_REQUEST_BYTES:
            return None, b""
        buffer += data
    line, _, rest = bytes(buffer).partition(b"\n")
    return line, rest


def _transfer(connection: socket.socket, plan: Plan) -> None:
    """Move bytes with blocking calls of its own: a thread does that at full speed beside the event loop."""
    own = connection.dup()
    try:
        own.settimeout(max(4 * plan.seconds, 1.0))
        if plan.sends:
            _send(own, plan.seconds)
        else:
            _receive(own, 4 * plan.seconds)
    except OSError:
        return
    finally:
        own.close()


def _send(connection: socket.socket, seconds: float) -> None:
    block = os.urandom(BLOCK_BYTES)
    deadline = time.monotonic() + seconds
    while time.monotonic() <= deadline:
        connection.sendall(block)


def _receive(connection: socket.socket, seconds: float) -> None:
    buffer = bytearray(BLOCK_BYTES)
    deadline = time.monotonic() + seconds
    while time.monotonic() <= deadline and connection.recv_into(buffer):
        pass


def _shut_down(connection: socket.socket) -> None:
    """End both directions, which also wakes a thread that waits on the socket."""
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return
