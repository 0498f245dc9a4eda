"""Two nodes, a relay, and a control plane that speaks the real protocol over a socket pair."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from uuid import UUID, uuid4

import anyio
import pytest

from tests.integration.engine.harness import REGION, RelayServer
from warren.clock import SystemClock
from warren.errors import Invalid, Unavailable
from warren.net.addresses import tailnet_address
from warren.net.coordinator import AgentAuth, ClientAuth
from warren.net.derp_map import DERPMap, DERPNode, DERPRegion
from warren.rpc import drpc
from warren.rpc.drpc import Handlers
from warren.rpc.memory import stream_pair
from warren.rpc.multiplexer import Multiplexer
from warren.services.coordination import Coordination as Server
from warren.services.coordination import DERPMaps
from warren.tunnel.coordination import Coordination
from warren.tunnel.node import Node, NodeConfig

pytestmark = pytest.mark.anyio


@dataclass
class Control:
    """A control plane that can be taken away and brought back."""

    derp_map: DERPMap
    server: Server = field(init=False)

    def __post_init__(self) -> None:
        self.server = Server(DERPMaps(self.derp_map), resume_tokens=None)  # type: ignore[arg-type]  none is asked for

    @asynccontextmanager
    async def connect(self, handlers: Handlers) -> AsyncGenerator[drpc.Client]:
        left, right = await stream_pair()
        async with (
            Multiplexer(left, client=True) as ours,
            Multiplexer(right, client=False) as theirs,
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(drpc.serve, theirs, handlers)
            yield drpc.Client(ours)
            tasks.cancel_scope.cancel()


@pytest.fixture
def relay() -> Generator[RelayServer]:
    with RelayServer() as server:
        yield server


def derp_map(relay: RelayServer) -> DERPMap:
    node = DERPNode(
        name="1", region_id=REGION, host_name="127.0.0.1", derp_port=relay.port, force_http=True, stun_port=-1
    )
    return DERPMap({REGION: DERPRegion(REGION, "test", "Test", nodes=(node,))})


@asynccontextmanager
async def member(config: NodeConfig, self_id: UUID) -> AsyncGenerator[tuple[Node, Coordination]]:
    async with (
        Node.open(config) as node,
        Coordination.open(node, self_id, prepare_derp_map=lambda given: given, clock=SystemClock()) as coordination,
    ):
        yield node, coordination


@pytest.mark.parametrize("block_direct", [False, True], ids=["direct", "relayed"])
async def test_nodes_that_were_introduced_reach_each_other(relay: RelayServer, block_direct: bool) -> None:
    agent_id, client_id = uuid4(), uuid4()
    control = Control(derp_map(relay))
    agent_config = NodeConfig(addresses=(tailnet_address(agent_id),))
    client_config = NodeConfig(addresses=(tailnet_address(client_id),), block_direct=block_direct)
    payload = os.urandom(3 << 20)
    async with (
        member(agent_config, agent_id) as (agent, agent_side),
        member(client_config, client_id) as (client, client_side),
        control.connect(control.server.handlers(agent_id, AgentAuth(agent_id))) as agent_control,
        control.connect(control.server.handlers(client_id, ClientAuth(agent_id))) as client_control,
        anyio.create_task_group() as tasks,
    ):
        client_side.add_destination(agent_id)

        async def serve(side: Coordination, rpc: drpc.Client, acknowledge: bool) -> None:
            await side.serve(rpc, acknowledge=acknowledge)

        tasks.start_soon(serve, agent_side, agent_control, True)
        tasks.start_soon(serve, client_side, client_control, False)
        with agent.listen(22) as listener, anyio.fail_after(15):

            async def echo() -> None:
                connection, peer_address = await listener.accept()
                assert peer_address == tailnet_address(client_id)
                stream = await anyio.abc.SocketStream.from_socket(connection)
                async with stream:
                    async for data in stream:
                        await stream.send(data)

            tasks.start_soon(echo)
            info = await client_side.wait_programmed(agent_id)
            await client.ping(info.key, kind="tunnel", timeout_seconds=5)
            connection = await client.dial(tailnet_address(agent_id), 22)
            stream = await anyio.abc.SocketStream.from_socket(connection)
            received = bytearray()
            async with stream, anyio.create_task_group() as both:

                async def send() -> None:
                    await stream.send(payload)
                    await stream.send_eof()

                both.start_soon(send)
                while len(received) < len(payload):
                    received += await stream.receive()
            assert received == payload
            with pytest.raises(ConnectionRefusedError):
                await client.dial(tailnet_address(agent_id), 4242)
            stats = client.peer(info.key)
            assert stats is not None
            assert stats.reason
            if block_direct:
                assert not stats.direct
            else:
                # The engine has an event for this, but it may have come before we looked.
                while not (client.peer(info.key) or stats).direct:  # noqa: ASYNC110
                    await anyio.sleep(0.01)
        tasks.cancel_scope.cancel()


async def test_a_tunnel_outlives_the_control_plane(relay: RelayServer) -> None:
    agent_id, client_id = uuid4(), uuid4()
    control = Control(derp_map(relay))
    async with (
        member(NodeConfig(addresses=(tailnet_address(agent_id),)), agent_id) as (agent, agent_side),
        member(NodeConfig(addresses=(tailnet_address(client_id),)), client_id) as (client, client_side),
    ):
        client_side.add_destination(agent_id)
        pairs: list[tuple[socket.socket, socket.socket]] = []
        with agent.listen(22) as listener, anyio.fail_after(15):
            async with (
                control.connect(control.server.handlers(agent_id, AgentAuth(agent_id))) as agent_control,
                control.connect(control.server.handlers(client_id, ClientAuth(agent_id))) as client_control,
                anyio.create_task_group() as tasks,
            ):

                async def serve(side: Coordination, rpc: drpc.Client, acknowledge: bool) -> None:
                    with pytest.raises(Unavailable, match="coordinator ended"):
                        await side.serve(rpc, acknowledge=acknowledge)

                tasks.start_soon(serve, agent_side, agent_control, True)
                tasks.start_soon(serve, client_side, client_control, False)
                await client_side.wait_programmed(agent_id)
                pairs.append((await client.dial(tailnet_address(agent_id), 22), (await listener.accept())[0]))
                control.server.close()

            pairs.append((await client.dial(tailnet_address(agent_id), 22), (await listener.accept())[0]))
            for near, far in pairs:
                near.setblocking(True)
                far.setblocking(True)
                await anyio.to_thread.run_sync(near.sendall, b"still here")
                assert await anyio.to_thread.run_sync(far.recv, 100) == b"still here"
                near.close()
                far.close()


async def test_a_stack_that_cannot_be_had_is_the_callers_mistake() -> None:
    with pytest.raises(Invalid, match="`users` is no stack"):
        async with Node.open(NodeConfig(addresses=("fd7a:115c:a1e0::1",), stack="users")):
            pass
