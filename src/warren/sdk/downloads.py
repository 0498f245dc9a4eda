"""Files from any server on the web, by the client and through the proxies that everything else here uses.

These calls block: they are for threads, and for programs that have nothing else to do meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from urllib.parse import parse_qs, urljoin, urlsplit

import anyio
from anyio.abc import ByteStream
from anyio.from_thread import start_blocking_portal

from warren.errors import Invalid, RemoteProtocolError, Unavailable
from warren.sdk.client_transport import ResponseParser, Transport, read_into

MAX_REDIRECTS = 10
_OK = 200
_MOVED = frozenset({301, 302, 303, 307, 308})


class DownloadError(Unavailable):
    """There is no such file, or no way to it."""


def get(url: str, take: Callable[[bytes], object], *, max_bytes: int, patience_seconds: float) -> None:
    """Give the content of a file to `take`, piece by piece; redirects are followed.

    Raises:
        DownloadError: there is none, it is larger than `max_bytes`, or nothing came for `patience_seconds`.
    """
    with start_blocking_portal() as portal:
        try:
            portal.call(partial(_get, url, take, max_bytes, patience_seconds))
        except (Unavailable, Invalid, RemoteProtocolError) as error:
            raise DownloadError(str(error), hint=error.hint) from error


def fetch(url: str, *, max_bytes: int, patience_seconds: float) -> bytes:
    """Return the content of a file, as `get` does."""
    content = bytearray()
    get(url, content.extend, max_bytes=max_bytes, patience_seconds=patience_seconds)
    return bytes(content)


async def _get(url: str, take: Callable[[bytes], object], max_bytes: int, patience_seconds: float) -> None:
    for _ in range(MAX_REDIRECTS + 1):
        parts = urlsplit(url)
        transport = Transport(f"{parts.scheme}://{parts.netloc}")
        query = parse_qs(parts.query, keep_blank_values=True)
        try:
            with anyio.fail_after(patience_seconds) as patience:
                async with transport.exchange("GET", parts.path or "/", query=query) as (parser, stream):
                    if parser.status not in _MOVED or "location" not in parser.headers:
                        await _receive(url, parser, stream, take, max_bytes, patience, patience_seconds)
                        return
                    url = urljoin(url, parser.headers["location"])
        except TimeoutError as error:
            raise Unavailable(f"{parts.netloc} said nothing for {patience_seconds:.0f} s") from error
        finally:
            await transport.aclose()
    raise Unavailable(f"{url} leads from one place to another without end")


async def _receive(
    url: str,
    parser: ResponseParser,
    stream: ByteStream,
    take: Callable[[bytes], object],
    max_bytes: int,
    patience: anyio.CancelScope,
    patience_seconds: float,
) -> None:
    if parser.status != _OK:
        raise Unavailable(f"the server answered {parser.status} for {url}")
    size = 0
    while True:
        piece = parser.take()
        size += len(piece)
        if size > max_bytes:
            raise Unavailable(f"{url} is longer than {max_bytes} bytes")
        take(piece)
        if parser.done:
            return
        patience.deadline = anyio.current_time() + patience_seconds
        await read_into(parser, stream)
