"""Forwarded ports and the speed test, through a real tunnel to a real agent."""

from __future__ import annotations

import socket
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import anyio
import pytest

from tests.integration.agent.test_tunnel import Tunnel, tunnel
from warren.cli import speed
from warren.cli.commands import port_forward, speedtest
from warren.cli.ui import Terminal
from warren.net.addresses import tailnet_address

pytestmark = pytest.mark.anyio

QUIET = Terminal(input_tty=False, output_tty=False, error_tty=False, colour=False)


@dataclass
class Through:
    """The tunnel as commands use it."""

    tunnel: Tunnel

    async def dial(self, port: int) -> socket.socket:
        return await self.tunnel.dial(port)

    async def dial_udp(self, port: int) -> socket.socket:
        return self.tunnel.node.dial_udp(tailnet_address(self.tunnel.agent_id), port)


@pytest.fixture
async def through(tmp_path: Path) -> AsyncGenerator[Through]:
    async with tunnel(tmp_path) as made:
        yield Through(made)


def bound(kind: socket.SocketKind) -> socket.socket:
    sock = socket.socket(socket.AF_INET, kind)
    sock.bind(("127.0.0.1", 0))
    sock.setblocking(False)
    return sock


async def until_free(room: port_forward.Room) -> None:
    while room.full():  # noqa: ASYNC110  nothing tells of it
        await anyio.sleep(0.01)


async def test_tcp_connections_at_once_with_half_close(through: Through) -> None:
    async def upper(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            data = b"".join([chunk async for chunk in stream])
            await stream.send(data.upper())

    server = await anyio.create_tcp_listener(local_host="127.0.0.1")
    with bound(socket.SOCK_STREAM) as local:
        local.listen()

        async def talk(number: int) -> None:
            async with await anyio.connect_tcp("127.0.0.1", local.getsockname()[1]) as stream:
                text = f"hello {number} ".encode() * 10_000
                await stream.send(text)
                await stream.send_eof()
                assert b"".join([chunk async for chunk in stream]) == text.upper()

        with anyio.fail_after(15):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(server.serve, upper)
                port = server.extra(anyio.abc.SocketAttribute.local_port)
                tasks.start_soon(port_forward.serve_tcp, through, local, port, QUIET)
                async with anyio.create_task_group() as talks:
                    for number in range(8):
                        talks.start_soon(talk, number)
                tasks.cancel_scope.cancel()
    await server.aclose()


async def test_a_refused_port_closes_the_local_connection(through: Through, capsys: pytest.CaptureFixture[str]) -> None:
    with bound(socket.SOCK_STREAM) as local, bound(socket.SOCK_STREAM) as nobody:
        local.listen()
        with anyio.fail_after(15):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(port_forward.serve_tcp, through, local, nobody.getsockname()[1], QUIET)
                async with await anyio.connect_tcp("127.0.0.1", local.getsockname()[1]) as stream:
                    with pytest.raises(anyio.EndOfStream):
                        await stream.receive()
                tasks.cancel_scope.cancel()


async def test_a_forward_that_leads_back_to_itself_ends(through: Through, capsys: pytest.CaptureFixture[str]) -> None:
    with bound(socket.SOCK_STREAM) as local:
        local.listen()
        port = local.getsockname()[1]
        room = port_forward.Room(16)
        with anyio.fail_after(30):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(port_forward.serve_tcp, through, local, port, QUIET, room)
                for _ in range(2):  # what ended makes room again
                    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
                        with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
                            await stream.receive()
                await until_free(room)
                tasks.cancel_scope.cancel()
    told = capsys.readouterr().err
    assert (
        f"port {port} of the workspace: 16 connections are open at once; new ones are closed until others end" in told
    )
    assert "the forward may lead back to itself: use another local port" in told


async def test_connections_that_ended_make_room(through: Through, capsys: pytest.CaptureFixture[str]) -> None:
    async def echo(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            async for chunk in stream:
                await stream.send(chunk)

    server = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = server.extra(anyio.abc.SocketAttribute.local_port)
    room = port_forward.Room(2)
    with bound(socket.SOCK_STREAM) as local:
        local.listen()
        address = local.getsockname()
        with anyio.fail_after(30):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(server.serve, echo)
                tasks.start_soon(port_forward.serve_tcp, through, local, port, QUIET, room)
                async with await anyio.connect_tcp(*address) as first, await anyio.connect_tcp(*address) as second:
                    for stream in (first, second):
                        await stream.send(b"in")
                        assert await stream.receive() == b"in"
                    async with await anyio.connect_tcp(*address) as third:
                        with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
                            await third.receive()
                    await first.send(b"undisturbed")
                    assert await first.receive() == b"undisturbed"
                await until_free(room)
                async with await anyio.connect_tcp(*address) as stream:
                    await stream.send(b"again")
                    assert await stream.receive() == b"again"
                tasks.cancel_scope.cancel()
    await server.aclose()
    assert capsys.readouterr().err.count("2 connections are open at once") == 1


async def test_udp_senders_have_flows_of_their_own(through: Through) -> None:
    with bound(socket.SOCK_DGRAM) as served, bound(socket.SOCK_DGRAM) as local:

        async def echo() -> None:
            while True:
                await anyio.wait_readable(served)
                data, sender = served.recvfrom(2000)
                served.sendto(data.upper(), sender)

        async def talk(name: str) -> None:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                client.setblocking(False)
                client.connect(local.getsockname())
                for number in range(3):
                    client.send(f"{name}{number}".encode())
                    await anyio.wait_readable(client)
                    assert client.recv(2000) == f"{name}{number}".upper().encode()

        with anyio.fail_after(15):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(echo)
                tasks.start_soon(port_forward.serve_udp, through, local, served.getsockname()[1], QUIET)
                async with anyio.create_task_group() as talks:
                    for name in "abc":
                        talks.start_soon(talk, name)
                tasks.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("directions", "streams"), [(("down",), 1), (("up",), 1), (("down", "up"), 3)], ids=["down", "up", "both"]
)
async def test_speedtest(through: Through, directions: tuple[str, ...], streams: int) -> None:
    with anyio.fail_after(30):
        total, each = await speedtest.measure(through.dial, directions, streams, timedelta(seconds=1))
    assert set(each) == set(directions)
    for measured in (total, *each.values()):
        overall = measured.overall
        assert overall.moved_bytes >= speed.BLOCK_BYTES
        counted = sum(interval.moved_bytes for interval in measured.intervals)
        assert 0 <= overall.moved_bytes - counted < overall.moved_bytes / 10  # a last interval under 10 ms is left out
        assert overall.end_seconds > 0.5
    assert total.overall.moved_bytes == sum(measured.overall.moved_bytes for measured in each.values())
