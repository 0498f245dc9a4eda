"""The server's look at its own relay, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from pathlib import Path
from types import MappingProxyType

import anyio
import pytest

from tests.certificates import Authority
from tests.integration.engine.proxy_server import SocksServer
from tests.integration.relay.test_server import serve
from tests.ports import free_port
from warren._engine import Relay, generate_key
from warren.net.derp_map import DERPMap, DERPNode, DERPRegion
from warren.server.certificates import TLSSettings, client_context
from warren.server.relay_probe import ProbeFailed, Route, probe, probe_websocket
from warren.server.relay_watch import RelayWatch
from warren.services.coordination import DERPMaps

pytestmark = pytest.mark.anyio

OWN = 999


def region(number: int, port: int) -> DERPRegion:
    node = DERPNode(f"{number}a", number, "127.0.0.1", derp_port=port, force_http=True)
    return DERPRegion(number, f"r{number}", f"Region {number}", nodes=(node,))


def maps(own_port: int, other_port: int) -> DERPMaps:
    return DERPMaps(DERPMap(MappingProxyType({OWN: region(OWN, own_port), 7: region(7, other_port)})))


@pytest.fixture
async def relay() -> AsyncGenerator[Relay]:
    relay = Relay(generate_key())
    yield relay
    relay.close()


def watch(relay: Relay, port: int, held: DERPMaps) -> RelayWatch:
    return RelayWatch(OWN, f"http://127.0.0.1:{port}", held, lambda: relay.stats().accepts, ssl.create_default_context)


class Forward:
    """The public address of a relay: goes away and comes back, as a proxy in front of it would."""

    def __init__(self, target: int) -> None:
        self._target = target
        self.port = free_port()

    @contextlib.asynccontextmanager
    async def up(self) -> AsyncGenerator[None]:
        async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", self._target)

            async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
                with contextlib.suppress(OSError):
                    while data := await source.read(1 << 16):
                        sink.write(data)
                        await sink.drain()
                sink.close()

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(pump, reader, inner_writer)
                tasks.start_soon(pump, inner_reader, writer)

        server = await asyncio.start_server(carry, "127.0.0.1", self.port)
        try:
            yield
        finally:
            server.close()


async def test_it_leaves_the_map_when_it_cannot_be_reached_and_comes_back(relay: Relay) -> None:
    other = Relay(generate_key())
    async with serve(relay) as port, serve(other) as other_port:
        front = Forward(port)
        held = maps(front.port, other_port)
        watching = watch(relay, front.port, held)
        async with front.up():
            await watching.look()
        assert watching.health.summary == "the relay works"
        assert set(watching.seconds) == {"native", "websocket"}
        assert set(held.current.regions) == {OWN, 7}

        for _ in range(2):
            await watching.look()
        assert set(held.current.regions) == {OWN, 7}, "not at the first failure"
        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(held.wait_change)  # as the stream of each client does
                await anyio.wait_all_tasks_blocked()
                await watching.look()
        assert set(held.current.regions) == {7}
        assert watching.health.summary == "the relay is out of the map: connect: Connection refused"

        async with front.up():
            await watching.look()
        assert set(held.current.regions) == {OWN, 7}
    other.close()


async def test_it_stays_where_clients_have_nowhere_else_to_go(relay: Relay) -> None:
    async with serve(relay) as port:
        front = Forward(port)
        held = maps(front.port, free_port())
        watching = watch(relay, front.port, held)
        async with front.up():
            await watching.look()
        for _ in range(4):
            await watching.look()

    assert set(held.current.regions) == {OWN, 7}
    assert "no other relay answers" in watching.health.summary


async def test_it_stays_while_clients_arrive(relay: Relay) -> None:
    other = Relay(generate_key())
    async with serve(relay) as port, serve(other) as other_port, AsyncExitStack() as stack:
        front = Forward(port)
        held = maps(front.port, other_port)
        watching = watch(relay, front.port, held)
        async with front.up():
            await watching.look()
        for _ in range(5):
            near, far = socket.socketpair()
            stack.callback(near.close)
            accepted = relay.stats().accepts
            relay.add(far.detach())
            with anyio.fail_after(10):
                while relay.stats().accepts == accepted:  # noqa: ASYNC110 (the relay's thread tells nobody)
                    await anyio.sleep(0.01)
            await watching.look()

    assert set(held.current.regions) == {OWN, 7}
    assert watching.health.summary.startswith("clients reach the relay")
    other.close()


async def test_a_tls_server_trusts_its_own_certificate(relay: Relay, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair = authority.issue("server")
    own = TLSSettings([str(pair.certificate)], [str(pair.key)])
    stranger = TLSSettings([], [])
    async with serve(relay, ssl_certfile=str(pair.certificate), ssl_keyfile=str(pair.key)) as port:
        route = Route.from_url(f"https://localhost:{port}")
        assert await probe(route, lambda: client_context(own)) > 0
        assert await probe_websocket(route, lambda: client_context(own)) > 0
        with pytest.raises(ProbeFailed, match="TLS: unable to get local issuer certificate"):
            await probe(route, lambda: client_context(stranger))
        with pytest.raises(ProbeFailed, match="TLS: "):
            await probe(Route("127.0.0.1", port, "wrong.example"), lambda: client_context(own))


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.1 426 Upgrade Required\r\n\r\n", "upgrade: the answer was `HTTP/1.1 426 Upgrade Required`"),
        (b"", "upgrade: the connection was closed"),
        (b"x" * 40_000, "upgrade: the answer has no end"),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n" + bytes(100), "greeting: "),
    ],
)
async def test_every_failure_names_its_step(answer: bytes, reason: str) -> None:
    async def pretend(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.write_eof()
        with contextlib.suppress(OSError):
            await reader.read()
        writer.close()

    server = await asyncio.start_server(pretend, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(ProbeFailed) as failed:
            await probe(Route("127.0.0.1", port, "localhost", tls=False), ssl.create_default_context)

    assert str(failed.value).startswith(reason)


async def test_an_unknown_name_is_said() -> None:
    with pytest.raises(ProbeFailed, match=r"^connect: "):
        await probe(Route.from_url("http://relay.invalid"), ssl.create_default_context)


async def test_the_proxy_of_the_environment_is_taken_and_quoted(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serve(relay) as port:
        route = Route.from_url(f"http://relay.invalid:{port}")
        with SocksServer(names={"relay.invalid": "127.0.0.1"}) as proxy:
            monkeypatch.setenv("HTTP_PROXY", f"socks5h://127.0.0.1:{proxy.port}")
            assert await probe(route, ssl.create_default_context) > 0
            assert proxy.requests
    with SocksServer(password="me:secret") as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"socks5h://127.0.0.1:{proxy.port}")
        with pytest.raises(ProbeFailed, match=r"^connect: the proxy socks5://.* wants a name and a password"):
            await probe(route, ssl.create_default_context)
