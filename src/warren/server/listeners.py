"""uvicorn under our own supervision: several addresses, an answer to "is it up?", and an orderly end."""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
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


def bind(address: str) -> socket.socket:
    """Listen on `host:port`.

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
            hint="is another server running? choose an address with --http-address",
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

    def hurry(self) -> None:
        """Do not wait for requests in flight."""
        self._server.force_exit = True


def tls_context(
    certificates: Sequence[str],
    keys: Sequence[str],
    *,
    min_version: str,
    ciphers: Sequence[str],
    client_ca_file: str,
    client_auth: str,
) -> ssl.SSLContext:
    """Read certificates; with several, the first that fits the name a client asks for is shown.

    Raises:
        Unavailable: a file cannot be read, or does not fit.
    """
    versions = {
        "tls10": ssl.TLSVersion.TLSv1,
        "tls11": ssl.TLSVersion.TLSv1_1,
        "tls12": ssl.TLSVersion.TLSv1_2,
        "tls13": ssl.TLSVersion.TLSv1_3,
    }
    contexts: list[ssl.SSLContext] = []
    for certificate, key in zip(certificates, keys, strict=True):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = versions[min_version]
        try:
            context.load_cert_chain(certificate, key)
            if ciphers:
                context.set_ciphers(":".join(ciphers))
            if client_ca_file:
                context.load_verify_locations(client_ca_file)
        except (OSError, ssl.SSLError) as error:
            raise Unavailable(f"cannot use certificate {certificate} with key {key}: {error}") from error
        if client_auth in ("verify-if-given", "request"):
            context.verify_mode = ssl.CERT_OPTIONAL
        elif client_auth in ("require-and-verify", "require-any"):
            context.verify_mode = ssl.CERT_REQUIRED
        context.set_alpn_protocols(["http/1.1"])
        contexts.append(context)
    first = contexts[0]
    if len(contexts) > 1:
        names = [_names(path) for path in certificates]

        def choose(connection: ssl.SSLObject | ssl.SSLSocket, name: str | None, _: ssl.SSLContext) -> None:
            for context, known in zip(contexts, names, strict=True):
                if name is not None and (name in known or f"*.{name.partition('.')[2]}" in known):
                    connection.context = context
                    return

        first.sni_callback = choose  # pyright: ignore[reportAttributeAccessIssue]  typed narrower than documented
    return first


def _names(path: str) -> frozenset[str]:
    """Read the names that a certificate is for."""
    from pathlib import Path

    from cryptography import x509

    certificate = x509.load_pem_x509_certificate(Path(path).read_bytes())
    with suppress(x509.ExtensionNotFound):
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        return frozenset(found.value.get_values_for_type(x509.DNSName))
    return frozenset()
