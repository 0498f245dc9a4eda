"""The agent process reached through a real tunnel, by stock OpenSSH and by its own protocols."""

# A test may block for a moment, and has nothing to wait on outside itself.

from __future__ import annotations

import hashlib
import http.client
import json
import os
import socket
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import anyio
import anyio.to_thread
import pytest

from tests.integration.agent.conftest import OpenSSH, listening
from tests.integration.agent.control_plane import ControlPlane, control_plane
from tests.integration.agent.test_life import AgentProcess, agent, manifest
from tests.integration.engine.harness import REGION, RelayServer
from warren import _engine
from warren.clock import SystemClock
from warren.net.addresses import tailnet_address
from warren.net.coordinator import AgentAuth, ClientAuth
from warren.net.derp_map import DERPMap, DERPNode, DERPRegion
from warren.rpc import drpc
from warren.rpc.memory import stream_pair
from warren.rpc.multiplexer import Multiplexer
from warren.services.coordination import Coordination as Server
from warren.services.coordination import DERPMaps
from warren.tunnel.coordination import Coordination
from warren.tunnel.node import Node, NodeConfig

pytestmark = pytest.mark.anyio


@dataclass
class Tunnel:
    """A client's node, introduced to an agent."""

    node: Node
    agent_id: UUID
    plane: ControlPlane
    agent: AgentProcess

    async def dial(self, port: int) -> socket.socket:
        return await self.node.dial(tailnet_address(self.agent_id), port)

    @asynccontextmanager
    async def port(self, port: int) -> AsyncGenerator[int]:
        """Offer a port of the agent on loopback."""

        async def splice(connection: socket.socket, ip: str) -> None:
            _engine.splice(connection.detach(), (await self.dial(port)).detach())

        async with listening(splice) as local:
            yield local


@asynccontextmanager
async def tunnel(folder: Path) -> AsyncGenerator[Tunnel]:
    """Run a relay, a coordinator, an agent and a client."""
    message = manifest()
    agent_id, client_id = UUID(bytes=message.agent_id), uuid4()
    with RelayServer() as relay:
        node = DERPNode("1", REGION, "127.0.0.1", derp_port=relay.port, force_http=True, stun_port=-1)
        derp_map = DERPMap({REGION: DERPRegion(REGION, "test", "Test", nodes=(node,))})
        # no resume token is asked for
        server = Server(DERPMaps(derp_map), resume_tokens=None)  # pyright: ignore[reportArgumentType]
        async with control_plane(message) as plane:
            plane.tailnet = server.handlers(agent_id, AgentAuth(agent_id))
            async with (
                agent(plane, folder) as running,
                _client(client_id, agent_id, server.handlers(client_id, ClientAuth(agent_id))) as client,
            ):
                yield Tunnel(client, agent_id, plane, running)


@asynccontextmanager
async def _client(
    client_id: UUID, agent_id: UUID, handlers: Any
) -> AsyncGenerator[Node]:  # Any: as `drpc.serve` has it
    left, right = await stream_pair()
    async with (
        Node.open(NodeConfig(addresses=(tailnet_address(client_id),))) as node,
        Coordination.open(node, client_id, prepare_derp_map=lambda given: given, clock=SystemClock()) as coordination,
        Multiplexer(left, client=True) as ours,
        Multiplexer(right, client=False) as theirs,
        anyio.create_task_group() as tasks,
    ):
        coordination.add_destination(agent_id)
        tasks.start_soon(drpc.serve, theirs, handlers)

        async def serve() -> None:
            await coordination.serve(drpc.Client(ours), acknowledge=False)

        tasks.start_soon(serve)
        with anyio.fail_after(15):
            info = await coordination.wait_programmed(agent_id)
            while True:
                try:
                    await node.ping(info.key, kind="tunnel", timeout_seconds=1)
                    break
                except TimeoutError:
                    continue
        yield node
        tasks.cancel_scope.cancel()


async def test_stock_ssh_and_scp_through_the_tunnel(tmp_path: Path) -> None:
    async with tunnel(tmp_path) as through, through.port(22) as port, through.port(1) as first:
        for local in (port, first):
            result = await OpenSSH(local).run("echo $CODER_WORKSPACE_NAME; exit 5")
            assert (result.stdout, result.returncode) == (b"dev\n", 5)
        source = tmp_path / "source"
        source.write_bytes(os.urandom(20_000_000))
        up = await OpenSSH(port).tool("scp", str(source), "u@127.0.0.1:copied")
        assert up.returncode == 0, up.stderr
        copied = through.agent.home / "copied"
        assert hashlib.sha256(copied.read_bytes()).digest() == hashlib.sha256(source.read_bytes()).digest()
        reports = through.plane.named("ReportConnection")
        assert {report.connection.ip for report in reports if report.connection.ip}
        await through.plane.wait_for(lambda: _has_traffic(through.plane))


def _has_traffic(plane: ControlPlane) -> bool:
    return any(each.stats.rx_bytes > 10_000_000 for each in plane.named("UpdateStats"))


async def test_a_session_outlives_the_control_plane(tmp_path: Path) -> None:
    async with tunnel(tmp_path) as through, through.port(22) as port:
        ssh = OpenSSH(port).start("cat")
        try:
            assert await ssh.exchange(b"before\n") == b"before\n"
            through.plane.refusal = (HTTPStatus.SERVICE_UNAVAILABLE, "down")
            through.plane.connections[0].close()
            await through.plane.wait_for(lambda: len(through.plane.requests) >= 3)
            assert await ssh.exchange(b"while away\n") == b"while away\n"
            through.plane.refusal = None
            await through.plane.wait_for(lambda: len(through.plane.connections) >= 2)
            assert await ssh.exchange(b"after\n") == b"after\n"
        finally:
            ssh.end()


async def test_a_stopping_agent_ends_sessions(tmp_path: Path) -> None:
    async with tunnel(tmp_path) as through, through.port(22) as port:
        ssh = OpenSSH(port).start("cat")
        try:
            assert await ssh.exchange(b"x\n") == b"x\n"
            assert await through.agent.stop() == 0
            with anyio.fail_after(20):
                assert await anyio.to_thread.run_sync(ssh.process.wait) == 255
        finally:
            ssh.end()


async def test_the_api_a_terminal_a_speedtest_and_a_forwarded_port(tmp_path: Path) -> None:
    async with tunnel(tmp_path) as through:
        async with through.port(4) as port:
            answer = await _in_thread(_get, port, "/api/v0/listening-ports")
            assert "ports" in answer
            netcheck = await _in_thread(_get, port, "/api/v0/netcheck")
            assert netcheck["net_info"]["PreferredDERP"] == REGION
            assert netcheck["interfaces"]["interfaces"]
            own = through.node.config.addresses[0]
            report = await _in_thread(_get, port, f"/debug/network?peer={own}")
            assert report["network"]["preferred_region"] == REGION
            assert report["path"]["address"] == own
            assert report["path"]["reason"]
            assert (await _in_thread(_get, port, "/debug/network?peer=fd7a::1"))["path"] is None
        async with through.port(2) as port:
            assert b"in the terminal" in await _in_thread(_terminal, port)
        async with through.port(3) as port:
            assert await _in_thread(_speedtest, port) > 1_000_000
        with socket.create_server(("127.0.0.1", 0)) as server:
            connection = await through.dial(server.getsockname()[1])
            with connection:
                connection.setblocking(True)
                peer, _ = await _in_thread(server.accept)
                with peer:
                    peer.sendall(b"forwarded")
                    assert await _in_thread(connection.recv, 100) == b"forwarded"


async def _in_thread(call: Callable[..., Any], *arguments: object) -> Any:  # Any: whatever the call returns
    with anyio.fail_after(15):
        return await anyio.to_thread.run_sync(call, *arguments)


def _get(port: int, path: str) -> Any:  # Any: decoded JSON
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        return json.loads(connection.getresponse().read())
    finally:
        connection.close()


def _terminal(port: int) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        init = {"ID": str(uuid4()), "Height": 24, "Width": 80, "Command": "echo in the terminal"}
        body = json.dumps(init).encode()
        connection.sendall(len(body).to_bytes(2, "little") + body)
        return connection.makefile("rb").read()


def _speedtest(port: int) -> int:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(b'{"version":2,"time":300000000,"direction":0}\n')
        total, file = 0, connection.makefile("rb")
        assert file.readline() == b"{}\n"
        while data := file.read1(1 << 20):
            total += len(data)
        return total
