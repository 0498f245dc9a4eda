"""uvicorn under our own supervision: several addresses, an answer to "is it up?", and an orderly end."""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import anyio
import structlog
import uvicorn

from warren.errors import Unavailable

log = structlog.get_logger()

GRACE_SECONDS = 5  # how long requests in flight may take to end
POLL_SECONDS = 0.005
BACKLOG = 2048


@dataclass(frozen=True, slots=True)
class Listener:
    """An address to serve, with TLS when there are certificates."""

    address: str
    tls: ssl.SSLContext | None = None


class _Server(uvicorn.Server):
    """uvicorn without its own signal handlers: signals are the composition's."""

    @contextmanager
    def capture_signals(self) -> Any:
        """Leave signals alone."""
        yield


def bind(address: str, flag: str = "--http-address") -> socket.socket:
    """Listen on `host:port`, which was chosen with `flag`.

    Raises:
        Unavailable: somebody else does, or the address is not ours.
    """
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, int(port)))
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        raise Unavailable(
            f"cannot listen on {address}: {error.strerror or error}",
            hint=f"is another server running? choose an address with {flag}",
        ) from error
    listening.setblocking(False)
    return listening


@asynccontextmanager
async def serving(
    app: Any,  # any ASGI application: uvicorn's type and Litestar's differ in name only
    listening: socket.socket,
    *,
    protocol: Any = "httptools",  # or a class of uvicorn's protocol
    tls: ssl.SSLContext | None = None,
) -> AsyncGenerator[Server]:
    """Serve `app` on a socket for as long as the context is entered."""
    config = uvicorn.Config(
        app,
        http=protocol,
        ws="websockets-sansio",
        loop="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
        ws_per_message_deflate=False,
        ws_ping_interval=15.0,
        ws_ping_timeout=30.0,
        backlog=BACKLOG,
    )
    config.load()
    if tls is not None:
        config.ssl = tls
    server = _Server(config)
    async with anyio.create_task_group() as tasks:

        async def run() -> None:
            await server.serve(sockets=[listening])

        tasks.start_soon(run)
        while not server.started:  # noqa: ASYNC110  uvicorn has a flag, no event
            await anyio.sleep(POLL_SECONDS)
        handle = Server(server)
        try:
            yield handle
        finally:
            handle.stop()


class Server:
    """A server that serves."""

    def __init__(self, server: uvicorn.Server) -> None:
        self._server = server

    def stop(self) -> None:
        """Accept no more; leaving the context waits for requests in flight."""
        self._server.should_exit = True
