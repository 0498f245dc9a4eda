"""TLS in the engine: a listening socket goes in, plain connections that know their client come out.

The engine accepts, shakes hands and encrypts on its own thread; uvicorn speaks HTTP on one end of a socket pair. What
uvicorn would ask a TLS transport (who is it? is it TLS?) is answered by `SecureTransport`, and the relay takes a
connection out of the engine's hands whole, so that its bytes never come here.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import structlog
from anyio.abc import TaskGroup

from warren._engine import Relay, TLSConfig, TLSConnection, TLSServer

log = structlog.get_logger()

FLUSH_SECONDS = 2.0  # what answers have to leave in at the end; uvicorn's own patience is over by then


class SecureTransport(asyncio.Transport):
    """A transport of plain bytes whose other end the engine carries over TLS."""

    def __init__(self, transport: asyncio.Transport, connection: TLSConnection, server: TLSServer) -> None:
        super().__init__()
        self._transport = transport
        self._connection = connection
        self._server = server

    def get_extra_info(self, name: str, default: Any = None) -> Any:  # whatever the name stands for
        """Tell of the client's connection, not of our pair."""
        match name:
            case "peername":
                return self._connection.peer
            case "sockname":
                return self._connection.local
            case "sslcontext":
                return self._connection  # uvicorn asks only whether there is one
            case "socket" | "ssl_object":
                return default
            case "hand_over":
                return self.hand_over
            case _:
                return self._transport.get_extra_info(name, default)

    def hand_over(self, relay: Relay, response: bytes, initial: bytes, *, websocket: bool) -> None:
        """Give the connection to a relay, which first sends `response` and has got `initial`.

        Raises:
            OSError: an earlier answer is still under way, or descriptors have run out.
            EngineClosed: the server or the relay is gone.
        """
        self._transport.pause_reading()
        if self._transport.get_write_buffer_size():
            raise OSError("the connection does not take the end of its last answer")
        # What has arrived and was not read is read by the engine, from another descriptor of the same socket.
        own = socket.dup(self._transport.get_extra_info("socket").fileno())
        self._server.hand_over(
            self._connection.number, own, relay, response=response, initial=initial, websocket=websocket
        )
        self._transport.abort()

    def is_closing(self) -> bool:
        """Say whether it was closed."""
        return self._transport.is_closing()

    def close(self) -> None:
        """Close, after what was written."""
        self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Let another protocol go on."""
        self._transport.set_protocol(protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Give the protocol."""
        return self._transport.get_protocol()

    def is_reading(self) -> bool:
        """Say whether it reads."""
        return self._transport.is_reading()

    def pause_reading(self) -> None:
        """Read no more."""
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read again."""
        self._transport.resume_reading()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set when the protocol is told to pause."""
        self._transport.set_write_buffer_limits(high, low)

    def get_write_buffer_size(self) -> int:
        """Say how much waits to be written."""
        return self._transport.get_write_buffer_size()

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Say when the protocol is told to pause."""
        return self._transport.get_write_buffer_limits()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Write."""
        self._transport.write(data)

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        """Write all of it."""
        self._transport.writelines(list_of_data)

    def can_write_eof(self) -> bool:
        """TLS has no half-closed connections that HTTP could use."""
        return False

    def write_eof(self) -> None:
        """Refuse, as `can_write_eof` says."""
        raise NotImplementedError


class _Introduction(asyncio.Protocol):
    """The first protocol of a connection: puts the real one on a transport that knows its client."""

    def __init__(self, protocol: asyncio.Protocol, connection: TLSConnection, server: TLSServer) -> None:
        self._protocol = protocol
        self._connection = connection
        self._server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Step aside."""
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "write")  # uvloop's are no subclasses
        plain: asyncio.Transport = transport  # pyright: ignore[reportAssignmentType]
        plain.set_protocol(self._protocol)
        self._protocol.connection_made(SecureTransport(plain, self._connection, self._server))


@asynccontextmanager
async def accepting(
    listening: socket.socket, config: TLSConfig, protocol: Callable[[], asyncio.Protocol]
) -> AsyncGenerator[TLSServer]:
    """Serve each connection to `listening` by a `protocol` of its own, until the context is left."""
    server = TLSServer(listening.dup().detach(), config)
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_accept, server, protocol, tasks)
            yield server
            tasks.cancel_scope.cancel()
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(lambda: server.close(within_seconds=FLUSH_SECONDS))


async def _accept(server: TLSServer, protocol: Callable[[], asyncio.Protocol], tasks: TaskGroup) -> None:
    while True:
        await anyio.wait_readable(server.fileno())
        for connection in server.accepted():
            tasks.start_soon(_introduce, server, connection, protocol)


async def _introduce(server: TLSServer, connection: TLSConnection, protocol: Callable[[], asyncio.Protocol]) -> None:
    sock = socket.socket(fileno=connection.fd)
    sock.setblocking(False)
    loop = asyncio.get_running_loop()
    try:
        await loop.connect_accepted_socket(lambda: _Introduction(protocol(), connection, server), sock)
    except OSError as error:
        sock.close()
        log.debug("tls.connection_lost", peer=connection.peer, error=str(error))
