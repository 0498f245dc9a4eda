"""TCP and TLS connections to the control plane, through the proxy that the environment names."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

import anyio
from anyio.streams.tls import TLSStream

from warren.errors import Unavailable
from warren.sdk import proxy_handshakes
from warren.sdk.proxies import Proxies, Proxy, Scheme

if TYPE_CHECKING:
    import ssl

    from anyio.abc import ByteStream

_CHECK = "check HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY"


def proxies() -> Proxies:
    """Return the proxies of this process' environment."""
    return Proxies.from_environment(os.environ)


async def connect(
    host: str,
    port: int,
    tls: ssl.SSLContext | None,
    *,
    trust: Callable[[], ssl.SSLContext] | None = None,
    server_name: str = "",
) -> ByteStream:
    """Connect to a server; `tls` for a server that speaks it, `server_name` where its certificate has another name.

    A proxy that speaks TLS must be trusted by the same context, or by what `trust` makes where the server has none.

    Raises:
        OSError: it cannot be reached, or its certificate is not trusted (`ssl.SSLError`).
        Unavailable: the proxy on the way does not let us through.
        Invalid: the proxy cannot be used.
    """
    proxy = proxies().find(host, port, secure=tls is not None)
    if proxy is None:
        if tls is None:
            return await anyio.connect_tcp(host, port)
        return await anyio.connect_tcp(
            host, port, ssl_context=tls, tls_hostname=server_name or None, tls_standard_compatible=False
        )
    stream = await _reach(proxy, tls, trust)
    try:
        await shake_hands(stream, proxy, host, port)
        if tls is None:
            return stream
        return await TLSStream.wrap(stream, hostname=server_name or host, ssl_context=tls, standard_compatible=False)
    except BaseException:
        await anyio.aclose_forcefully(stream)
        raise


async def shake_hands(stream: ByteStream, proxy: Proxy, host: str, port: int) -> None:
    """Have a proxy that we are connected to open the way to a server.

    Raises:
        Unavailable: it does not, and why.
        RemoteProtocolError: it is no such proxy.
        Invalid: it cannot be told this name.
    """
    handshake = proxy_handshakes.begin(proxy, host, port)
    is_open = False
    try:
        while not is_open:
            await stream.send(handshake.take_output())
            is_open = handshake.feed(await stream.receive(handshake.wanted))
    except (anyio.EndOfStream, anyio.BrokenResourceError) as error:
        raise Unavailable(f"the proxy {proxy.name} closed the connection") from error


async def _reach(proxy: Proxy, tls: ssl.SSLContext | None, trust: Callable[[], ssl.SSLContext] | None) -> ByteStream:
    try:
        stream = await anyio.connect_tcp(proxy.host, proxy.port)
    except OSError as error:
        cause = error.__cause__ or error
        raise Unavailable(f"the proxy {proxy.name} cannot be reached: {cause}", hint=_CHECK) from error
    if proxy.scheme is not Scheme.HTTPS:
        return stream
    import ssl

    try:
        context = tls or (trust or ssl.create_default_context)()
        return await TLSStream.wrap(stream, hostname=proxy.host, ssl_context=context, standard_compatible=False)
    except (ssl.SSLError, OSError, anyio.EndOfStream, anyio.BrokenResourceError) as error:
        await anyio.aclose_forcefully(stream)
        raise _unsecured(proxy, error) from error
    except BaseException:
        await anyio.aclose_forcefully(stream)
        raise


def _unsecured(proxy: Proxy, error: Exception) -> Unavailable:
    """Say what went wrong with TLS to a proxy."""
    if reason := getattr(error, "verify_message", ""):
        return Unavailable(
            f"the proxy {proxy.name} cannot be used: its certificate is not trusted: {reason}",
            hint="name the authority that issued it with --client-tls-ca-file, or in SSL_CERT_FILE",
        )
    reason = getattr(error, "reason", "") or str(error) or "it closed the connection"
    return Unavailable(
        f"there is no TLS with the proxy {proxy.name}: {reason}",
        hint="if it is an HTTP proxy without TLS, write http:// before its name",
    )
