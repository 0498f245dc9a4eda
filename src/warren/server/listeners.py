"""uvicorn under our own supervision: several addresses, an answer to "is it up?", and an orderly end."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import anyio
import structlog
import uvicorn

from warren._engine import TLSConfig, TLSServer
from warren.errors import Unavailable
from warren.server import tls as engine_tls
from warren.server.certificates import replace_certificates

log = structlog.get_logger()

GRACE_SECONDS = 5  # how long requests in flight may take to end
POLL_SECONDS = 0.005
BACKLOG = 2048


class _Server(uvicorn.Server):
    """uvicorn without its own signal handlers: signals are the composition's."""

    @contextmanager
    def capture_signals(self) -> Any:
        """Leave signals alone."""
        yield

    def new_protocol(self) -> asyncio.Protocol:
        """Make the protocol of a connection that came another way than by a listening socket."""
        # uvicorn's annotation says `Protocol` and leaves out what its own protocols are made of.
        make: Any = self.config.http_protocol_class
        protocol: asyncio.Protocol = make(
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return protocol


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
    tls: TLSConfig | ssl.SSLContext | None = None,
) -> AsyncGenerator[Server]:
    """Serve `app` on a socket for as long as the context is entered; TLS is the engine's, or OpenSSL's by a context."""
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
    if isinstance(tls, ssl.SSLContext):
        config.ssl = tls
    server = _Server(config)
    handle = Server(server)
    handle.context = tls if isinstance(tls, ssl.SSLContext) else None
    in_engine = isinstance(tls, TLSConfig)
    stopped = anyio.Event()
    async with anyio.create_task_group() as tasks:

        async def run() -> None:
            try:
                await server.serve(sockets=[] if in_engine else [listening])
            finally:
                stopped.set()

        tasks.start_soon(run)
        while not server.started:  # noqa: ASYNC110  uvicorn has a flag, no event
            await anyio.sleep(POLL_SECONDS)
        if not isinstance(tls, TLSConfig):
            try:
                yield handle
            finally:
                handle.stop()
            return
        async with engine_tls.accepting(listening, tls, server.new_protocol) as handle.tls:
            try:
                yield handle
            finally:
                handle.tls.stop_accepting()
                listening.close()
                handle.stop()
                with anyio.CancelScope(shield=True):
                    await stopped.wait()  # answers under way still need what carries them


class Server:
    """A server that serves."""

    tls: TLSServer | None = None
    """What ends TLS, where the engine does."""
    context: ssl.SSLContext | None = None
    """By what OpenSSL ends TLS, where the engine cannot."""

    def __init__(self, server: uvicorn.Server) -> None:
        self._server = server

    def reload(self, tls: TLSConfig | ssl.SSLContext) -> None:
        """Show other certificates from the next handshake on, by whoever ends TLS here."""
        if self.tls is not None and isinstance(tls, TLSConfig):
            self.tls.reload(tls)
        elif isinstance(self.context, ssl.SSLContext) and isinstance(tls, ssl.SSLContext):
            replace_certificates(self.context, tls)
        else:
            log.warning("tls.restart_needed", reason="the new certificates need another implementation of TLS")

    def stop(self) -> None:
        """Accept no more; leaving the context waits for requests in flight."""
        self._server.should_exit = True
