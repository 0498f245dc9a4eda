"""Files from anywhere: redirects, limits, and the proxies of the environment."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.integration.engine.proxy_server import ProxyServer, SocksServer
from tests.integration.sdk.test_connecting import NAMES, use_proxy
from warren.agent import apps
from warren.sdk import downloads

CONTENT = bytes(range(256)) * 400


class Handler(BaseHTTPRequestHandler):
    """Serves one file, and what leads there or nowhere."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        place = {"/moved": "/file?name=a%20b", "/round": "/round"}.get(self.path)
        found = self.path in ("/file", "/file?name=a+b")
        self.send_response(302 if place else 200 if found else 404)
        if place:
            self.send_header("Location", place)
        self.send_header("Content-Length", str(len(CONTENT) if found else 0))
        self.end_headers()
        self.wfile.write(CONTENT if found else b"")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base names it so
        """Say nothing."""


@pytest.fixture
def port() -> Generator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def fetch(url: str, *, max_bytes: int = len(CONTENT)) -> bytes:
    return downloads.fetch(url, max_bytes=max_bytes, patience_seconds=20)


def test_a_file_is_fetched_where_it_was_moved_to(port: int) -> None:
    assert fetch(f"http://127.0.0.1:{port}/file") == CONTENT
    assert fetch(f"http://127.0.0.1:{port}/moved") == CONTENT


@pytest.mark.parametrize(
    ("path", "said"), [("/absent", "404"), ("/round", "without end"), ("/file", "longer than 102399 bytes")]
)
def test_what_is_not_to_be_had_is_said(port: int, path: str, said: str) -> None:
    with pytest.raises(downloads.DownloadError, match=said):
        fetch(f"http://127.0.0.1:{port}{path}", max_bytes=len(CONTENT) - 1)


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/x", "file:///etc/passwd", "nothing"])
def test_a_place_that_is_none(url: str) -> None:
    with pytest.raises(downloads.DownloadError):
        fetch(url)


@pytest.mark.parametrize(
    ("server", "scheme"),
    [(lambda: ProxyServer(names=NAMES), "http"), (lambda: SocksServer(names=NAMES), "socks5h")],
)
def test_it_comes_through_the_proxy(
    monkeypatch: pytest.MonkeyPatch,
    port: int,
    server: Callable[[], AbstractContextManager[ProxyServer | SocksServer]],
    scheme: str,
) -> None:
    with server() as proxy:
        use_proxy(monkeypatch, f"{scheme}://127.0.0.1:{proxy.port}")
        assert fetch(f"http://warren.invalid:{port}/moved") == CONTENT
        assert proxy.requests
    use_proxy(monkeypatch, "socks4://127.0.0.1:1")
    with pytest.raises(downloads.DownloadError, match="cannot be used"):
        fetch(f"http://warren.invalid:{port}/file")


def test_an_app_on_this_machine_is_asked_without_the_proxy(monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    with ProxyServer() as proxy:
        use_proxy(monkeypatch, f"http://127.0.0.1:{proxy.port}")
        assert apps.probe(f"http://localhost:{port}/file", 20)
        assert not proxy.requests
