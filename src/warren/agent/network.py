"""The agent's place in the network: its node, and what it offers on which port."""

from __future__ import annotations

import socket
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial

import anyio
import structlog

from warren.agent.config import AgentConfig
from warren.agent.connections import Connections, ConnectionType
from warren.agent.manifest import Manifest
from warren.agent.stats import StatsCounter, StatsReport
from warren.clock import Clock
from warren.errors import RemoteError, Unavailable
from warren.net import netcheck
from warren.net.addresses import service_address, tailnet_address
from warren.net.derp_map import rewrite_embedded
from warren.net.network_report import AgentReport, NodeNetwork
from warren.rpc.drpc import Client
from warren.tunnel import observe
from warren.tunnel.coordination import Coordination
from warren.tunnel.node import Listener, Node, NodeConfig

log = structlog.get_logger()

Serve = Callable[[socket.socket, str], Awaitable[None]]
"""Serves one connection from a peer's address; takes the socket."""


class Network:
    """A running node with its services. Made by `open`."""

    def __init__(self, node: Node, coordination: Coordination, connections: Connections) -> None:
        self.node, self._coordination, self._connections = node, coordination, connections
        self._counter = StatsCounter()
        self._block_direct = False

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        manifest: Manifest,
        config: AgentConfig,
        services: Mapping[int, Serve],
        *,
        connections: Connections,
        clock: Clock,
    ) -> AsyncGenerator[Network]:
        """Join the network and serve; ports without a service go to the same port on loopback."""
        node_config = NodeConfig(
            addresses=(tailnet_address(manifest.agent_id), service_address(manifest.agent_id)),
            listen_port=config.listen_port,
            port_mapping=config.port_mapping,
            stack=config.tunnel_stack,
            congestion_control=config.tunnel_congestion_control,
            block_direct=manifest.block_direct,
            force_websockets=manifest.force_websockets,
            relay_headers=config.headers,
            forward_to_loopback=True,
        )
        prepare = partial(rewrite_embedded, access_url=config.url)
        async with (
            Node.open(node_config) as node,
            Coordination.open(node, manifest.agent_id, prepare_derp_map=prepare, clock=clock) as coordination,
            anyio.create_task_group() as tasks,
        ):
            for port, serve in services.items():
                tasks.start_soon(_accept, node.listen(port), serve)
            network = cls(node, coordination, connections)
            network.use(manifest)
            yield network
            tasks.cancel_scope.cancel()

    def use(self, manifest: Manifest) -> None:
        """Take over what a new manifest says of the network."""
        self._block_direct = manifest.block_direct
        self.node.engine.set_block_direct(manifest.block_direct)
        if manifest.derp_map is not None:
            self._coordination.use_derp_map(manifest.derp_map)

    async def coordinate(self, client: Client) -> None:
        """Have the coordinator introduce us to clients until the connection ends.

        Raises:
            Unavailable: it ended.
        """
        try:
            await self._coordination.serve(client, acknowledge=True)
        except anyio.EndOfStream as error:
            raise Unavailable("the coordinator ended the session") from error
        raise Unavailable("the coordinator ended the session")

    def measure(self) -> StatsReport:
        """Measure the traffic since the last call, and the sessions of the moment."""
        latencies = [peer.latency_seconds for peer in self.node.engine.peers() if peer.latency_seconds is not None]
        sessions = {kind: self._connections.count(kind) for kind in ConnectionType}
        return self._counter.report(self.node.engine.stats(), latencies, sessions)

    def describe(self) -> str:
        """Describe the node and its peers for a person."""
        engine = self.node.engine
        stack = f"{engine.stack} {engine.congestion_control} {engine.stack_reason}"
        lines = [f"stack: {' '.join(stack.split())}", f"port: {engine.local_port}"]
        for peer in engine.peers():
            path = f"direct {peer.endpoint}" if peer.direct else f"relay {peer.region}"
            lines.append(
                f"peer {' '.join(peer.addresses)}: {path} ({peer.reason}) rx={peer.rx_bytes} tx={peer.tx_bytes}"
            )
        return "\n".join(lines) + "\n"

    async def netcheck(self) -> object:
        """Measure the network as the netcheck API answers it."""
        return netcheck_report(await self._measure_network())

    async def report(self, peer_address: str) -> AgentReport:
        """Measure the network for `warren doctor`; with the way to one peer, named by its address in the tunnel."""
        network = await self._measure_network()
        found = (observe.path(peer) for peer in self.node.engine.peers())
        return AgentReport(network, next((path for path in found if path.address == peer_address), None))

    async def _measure_network(self) -> NodeNetwork:
        net = await self.node.netcheck()
        return observe.network(net, self.node.engine, block_direct=self._block_direct)


def netcheck_report(network: NodeNetwork) -> Mapping[str, object]:
    """Write what is known of the network in the JSON that clients read."""
    return {
        "severity": "ok",
        "warnings": [],
        "dismissed": False,
        "net_info": {
            "MappingVariesByDestIP": network.mapping_varies,
            "HairPinning": network.hairpinning,
            "WorkingIPv6": network.ipv6,
            "OSHasIPv6": network.os_has_ipv6,
            "WorkingUDP": network.udp,
            "PreferredDERP": network.preferred_region,
            "DERPLatency": network.region_latency_seconds,
        },
        "interfaces": netcheck.interfaces(network.interfaces),
    }


async def _accept(listener: Listener, serve: Serve) -> None:
    with listener:
        async with anyio.create_task_group() as tasks:
            while True:
                connection, address = await listener.accept()
                tasks.start_soon(_serve_one, serve, connection, address)


async def _serve_one(serve: Serve, connection: socket.socket, address: str) -> None:
    try:
        await serve(connection, address)
    except (OSError, RemoteError) as error:
        log.info("service.connection_failed", peer=address, error=str(error))
    except Exception:  # the top of a serving loop: one connection's bug must not end the others
        log.exception("service.failed", peer=address)
    finally:
        if connection.fileno() >= 0:
            connection.close()
