"""The control plane behind a proxy: requests and WebSockets go through it."""

import ssl
from pathlib import Path

import anyio
import pytest
from anyio.abc import SocketStream
from websockets.asyncio.server import ServerConnection, serve

from tests.integration.engine.proxy_server import ProxyServer
from tests.integration.engine.test_paths import certificate
from warren.errors import Unavailable
from warren.rpc import websocket
from warren.sdk.client_transport import TLSOptions, Transport

pytestmark = pytest.mark.anyio

NAMES = {"warren.invalid": "127.0.0.1"}


def use_proxy(monkeypatch: pytest.MonkeyPatch, url: str, *, no: str = "") -> None:
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


async def test_websockets_with_tls_go_through_the_proxy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    context, pem = certificate("warren.invalid", tmp_path)
    (tmp_path / "ca.pem").write_bytes(pem)

    async def reply(connection: ServerConnection) -> None:
        async for message in connection:
            await connection.send(message)

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
