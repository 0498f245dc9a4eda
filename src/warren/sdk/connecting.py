"""TCP and TLS connections to the control plane, through the proxy that the environment names."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import anyio
from anyio.streams.tls import TLSStream

from warren.errors import Unavailable
from warren.sdk.proxies import MAX_ANSWER_BYTES, Proxies, Proxy

if TYPE_CHECKING:
    import ssl

    from anyio.abc import ByteStream, SocketStream


def proxies() -> Proxies:
    """Return the proxies of this process' environment."""
    return Proxies.from_environment(os.environ)


async def connect(host: str, port: int, tls: ssl.SSLContext | None) -> ByteStream:
    """Connect to a server; `tls` for a server that speaks it.

    Raises:
        OSError: it cannot be reached, or its certificate is not trusted (`ssl.SSLError`).
        Unavailable: the proxy on the way does not let us through.
        Invalid: the proxy cannot be used.
    """
    proxy = proxies().find(host, port, secure=tls is not None)
    if proxy is None:
        if tls is None:
            return await anyio.connect_tcp(host, port)
        return await anyio.connect_tcp(host, port, ssl_context=tls, tls_standard_compatible=False)
    stream = await _open_tunnel(proxy, host, port)
    if tls is None:
        return stream
    try:
        return await TLSStream.wrap(stream, hostname=host, ssl_context=tls, standard_compatible=False)
    except BaseException:
        await anyio.aclose_forcefully(stream)
        raise


async def _open_tunnel(proxy: Proxy, host: str, port: int) -> SocketStream:
    try:
        stream = await anyio.connect_tcp(proxy.host, proxy.port)
    except OSError as error:
        cause = error.__cause__ or error
        raise Unavailable(
            f"the proxy {proxy.name} cannot be reached: {cause}", hint="check HTTPS_PROXY, HTTP_PROXY and NO_PROXY"
        ) from error
    try:
        await stream.send(proxy.connect_request(host, port))
        proxy.check_answer(await _head(stream, proxy))
    except (anyio.EndOfStream, anyio.BrokenResourceError) as error:
        await anyio.aclose_forcefully(stream)
        raise Unavailable(f"the proxy {proxy.name} closed the connection") from error
    except BaseException:
        await anyio.aclose_forcefully(stream)
        raise
    return stream


async def _head(stream: SocketStream, proxy: Proxy) -> bytes:
    """Read the answer up to the empty line; the server says nothing before we do, so that nothing of it follows."""
    answer = b""
    while b"\r\n\r\n" not in answer:
        if len(answer) > MAX_ANSWER_BYTES:
            raise Unavailable(f"the proxy {proxy.name} gives an answer without end")
        answer += await stream.receive()
    return answer.partition(b"\r\n\r\n")[0]
