"""The control plane behind a proxy: requests and WebSockets go through it."""

import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from anyio.abc import SocketStream
from websockets.asyncio.server import ServerConnection, serve

from tests.integration.engine.proxy_server import ProxyServer, SocksServer
from tests.integration.engine.test_paths import certificate
from warren.errors import Unavailable
from warren.rpc import websocket
from warren.sdk.client import Client
from warren.sdk.client_transport import TLSOptions, Transport

pytestmark = pytest.mark.anyio

NAMES = {"warren.invalid": "127.0.0.1"}


def use_proxy(monkeypatch: pytest.MonkeyPatch, url: str, *, no: str = "") -> None:
    for name in ("ALL_PROXY", "all_proxy", "https_proxy", "http_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HTTPS_PROXY", "HTTP_PROXY"):
        monkeypatch.setenv(name, url)
    monkeypatch.setenv("NO_PROXY", no)


async def answer_ok(stream: SocketStream) -> None:
    async with stream:
        await stream.receive()
        await stream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


async def test_requests_go_through_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(anyio.abc.SocketAttribute.local_port)
    with ProxyServer(password="me:secret", names=NAMES) as proxy:
        use_proxy(monkeypatch, f"http://me:secret@127.0.0.1:{proxy.port}")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(listener.serve, answer_ok)
            transport = Transport(f"http://warren.invalid:{port}")
            assert (await transport.request("GET", "/")).body == b"ok"
            await transport.aclose()
            assert proxy.requests[0].startswith(f"CONNECT warren.invalid:{port} ")
            use_proxy(monkeypatch, f"http://127.0.0.1:{proxy.port}")
            with pytest.raises(Unavailable, match="name or password"):
                await Transport(f"http://warren.invalid:{port}").request("GET", "/")
            use_proxy(monkeypatch, f"http://127.0.0.1:{proxy.port}", no="warren.invalid")
            with pytest.raises(Unavailable, match="cannot reach"):
                await Transport(f"http://warren.invalid:{port}").request("GET", "/")
            tasks.cancel_scope.cancel()
    await listener.aclose()


async def reply(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send(message)


@asynccontextmanager
async def serving_ok() -> AsyncGenerator[int]:
    """Answer every request; gives the port."""
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, answer_ok)
        yield listener.extra(anyio.abc.SocketAttribute.local_port)
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize("scheme", ["socks5", "socks5h"])
async def test_requests_go_through_socks(monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    async with serving_ok() as port:
        transport = Transport(f"http://warren.invalid:{port}")
        with SocksServer(password="me:p@ss", names=NAMES) as proxy:
            use_proxy(monkeypatch, f"{scheme}://me:p%40ss@127.0.0.1:{proxy.port}")
            assert (await transport.request("GET", "/")).body == b"ok"
            assert proxy.requests == [f"warren.invalid:{port} name"]
            use_proxy(monkeypatch, f"{scheme}://me:wrong@127.0.0.1:{proxy.port}")
            with pytest.raises(Unavailable, match="refuses the name or the password"):
                await Transport(f"http://warren.invalid:{port}").request("GET", "/")
        await transport.aclose()


async def test_all_proxy_counts_where_nothing_else_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving_ok() as port:
        with SocksServer(names=NAMES) as proxy:
            use_proxy(monkeypatch, "")
            monkeypatch.setenv("ALL_PROXY", f"socks5://127.0.0.1:{proxy.port}")
            transport = Transport(f"http://warren.invalid:{port}")
            assert (await transport.request("GET", "/")).body == b"ok"
            await transport.aclose()


async def test_a_proxy_is_reached_by_tls_and_must_be_trusted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    shown, pem = certificate("127.0.0.1", tmp_path)
    (tmp_path / "ca.pem").write_bytes(pem)
    trusting = TLSOptions(ca_file=str(tmp_path / "ca.pem"))
    async with serving_ok() as port:
        with ProxyServer(names=NAMES, tls=shown) as proxy:
            use_proxy(monkeypatch, f"https://127.0.0.1:{proxy.port}")
            transport = Transport(f"http://warren.invalid:{port}", tls=trusting)
            assert (await transport.request("GET", "/")).body == b"ok"
            await transport.aclose()
            with pytest.raises(Unavailable, match=r"https://127\.0\.0\.1:\d+ cannot be used: its certificate is not"):
                await Transport(f"http://warren.invalid:{port}").request("GET", "/")
        with ProxyServer(names=NAMES) as proxy:
            use_proxy(monkeypatch, f"https://127.0.0.1:{proxy.port}")
            with pytest.raises(Unavailable, match="no TLS with the proxy") as error:
                await Transport(f"http://warren.invalid:{port}", tls=trusting).request("GET", "/")
            assert "write http://" in error.value.hint


async def test_websockets_without_tls_trust_the_same_proxy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    shown, pem = certificate("127.0.0.1", tmp_path)
    (tmp_path / "ca.pem").write_bytes(pem)
    async with serve(reply, "127.0.0.1", 0) as served:
        port = next(iter(served.sockets)).getsockname()[1]
        with ProxyServer(names=NAMES, tls=shown) as proxy:
            use_proxy(monkeypatch, f"https://127.0.0.1:{proxy.port}")
            client = Client(f"http://warren.invalid:{port}", tls=TLSOptions(ca_file=str(tmp_path / "ca.pem")))
            async with websocket.connect(f"ws://warren.invalid:{port}/", headers={}, tls=client.trust) as stream:
                await stream.send(b"word")
                assert await stream.receive() == b"word"


async def test_websockets_by_tls_inside_of_tls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    server, server_pem = certificate("warren.invalid", tmp_path)
    shown, proxy_pem = certificate("127.0.0.1", tmp_path)
    (tmp_path / "ca.pem").write_bytes(server_pem + proxy_pem)
    trusted = TLSOptions(ca_file=str(tmp_path / "ca.pem")).context()
    async with serve(reply, "127.0.0.1", 0, ssl=server) as served:
        port = next(iter(served.sockets)).getsockname()[1]
        with ProxyServer(names=NAMES, tls=shown) as proxy:
            use_proxy(monkeypatch, f"https://127.0.0.1:{proxy.port}")
            async with websocket.connect(f"wss://warren.invalid:{port}/", headers={}, tls=trusted) as stream:
                await stream.send(b"word" * 100_000)
                received = b""
                while len(received) < 400_000:
                    received += await stream.receive()
                assert received == b"word" * 100_000
            assert len(proxy.requests) == 1


async def test_websockets_with_tls_go_through_the_proxy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    context, pem = certificate("warren.invalid", tmp_path)
    (tmp_path / "ca.pem").write_bytes(pem)

    async with serve(reply, "127.0.0.1", 0, ssl=context) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        with ProxyServer(names=NAMES) as proxy:
            use_proxy(monkeypatch, f"http://127.0.0.1:{proxy.port}")
            trusted = TLSOptions(ca_file=str(tmp_path / "ca.pem")).context()
            async with websocket.connect(f"wss://warren.invalid:{port}/", headers={}, tls=trusted) as stream:
                await stream.send(b"word")
                assert await stream.receive() == b"word"
            assert len(proxy.requests) == 1
            with pytest.raises(Unavailable, match="certificate"):
                await websocket.dial(f"wss://warren.invalid:{port}/", headers={}, tls=ssl.create_default_context())


async def test_a_proxy_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    use_proxy(monkeypatch, "http://127.0.0.1:1")
    with pytest.raises(Unavailable, match=r"the proxy 127\.0\.0\.1:1 cannot be reached"):
        await Transport("http://warren.invalid").request("GET", "/")
