"""Two nodes in a world: connect them, see which path they get, and measure it."""

from __future__ import annotations

import socket
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Generic, Protocol, TypeAlias, TypeVar

import anyio
import anyio.to_thread

from warren import _engine
from warren.netlab.internet import Internet, Servers, serving_internet
from warren.netlab.kinds import Expected, Path
from warren.netlab.node import ECHO_PORT, SOURCE_PORT, LabNode, find_home, keep_introduced, serving
from warren.netlab.remote import RemoteNode, remote_node
from warren.netlab.report import Outcome, Seen
from warren.netlab.services import RelayServer
from warren.netlab.world import Site, World
from warren.tunnel.node import Node, NodeConfig

DIAL_SECONDS = 15.0
DIRECT_SECONDS = 15.0
"""A direct path that is not there by then is not coming."""
SETTLE_SECONDS = 4.0
SETTLE_PINGS = 3
"""A path that stays relayed is believed once every endpoint was asked this often, or the time above is up."""
POLL_SECONDS = 0.05
CHECK_SECONDS = 15.0
MEASURE_SECONDS = 1.0


class Member(Protocol):
    """A node of the lab, wherever it runs."""

    config: NodeConfig

    @property
    def key(self) -> bytes:
        """The node's public key."""
        ...


Far = TypeVar("Far", bound=Member, covariant=True)


@dataclass(frozen=True, slots=True)
class Two(Generic[Far]):
    """Two nodes that know of each other; the first one runs here."""

    one: Node
    other: Far
    internet: Internet
    started_at: float

    @property
    def relay(self) -> RelayServer:
        """The relay where both are at home."""
        return self.internet.relays[0]

    async def connect(self, port: int = ECHO_PORT) -> socket.socket:
        """Dial the other node, once it is known."""
        await find_home(self.one)
        with anyio.fail_after(DIAL_SECONDS):
            while self.one.peer(self.other.key) is None:  # noqa: ASYNC110  set_peer is asynchronous and has no event
                await anyio.sleep(0.005)
        return await self.one.dial(self.other.config.addresses[0], port, timeout_seconds=DIAL_SECONDS)

    def stats(self) -> _engine.PeerStats:
        """What the first node's engine says of the other."""
        stats = self.one.peer(self.other.key)
        assert stats is not None, "the peer was introduced"
        return stats

    async def settle(self, wanted: Path, connection: socket.socket) -> float | None:
        """Keep talking until the path is the wanted one, or will not be; say when it became direct, if it did."""
        limit = DIRECT_SECONDS if wanted is Path.DIRECT else SETTLE_SECONDS
        with anyio.move_on_after(limit):
            while True:
                await anyio.to_thread.run_sync(_echo_once, connection, b"x")
                stats = self.stats()
                if stats.direct:
                    return time.monotonic() - self.started_at
                pings = [candidate.pings_sent for candidate in stats.candidates]
                if wanted is Path.RELAY and pings and min(pings) >= SETTLE_PINGS:
                    return None
                await anyio.sleep(POLL_SECONDS)
        return None


Pair: TypeAlias = Two[Node]
"""Both run here."""


async def run(pair: Pair, wanted: Expected) -> Outcome:
    """Connect two nodes, wait for the path they are to get, and measure it."""
    connection = await pair.connect()
    with connection:
        connection.setblocking(True)
        connection.settimeout(DIAL_SECONDS)
        await anyio.to_thread.run_sync(_echo_once, connection, b"x")
        first_byte = time.monotonic() - pair.started_at
        direct = await pair.settle(wanted.path, connection)
        with await pair.connect(SOURCE_PORT) as source:
            throughput = await anyio.to_thread.run_sync(_measure, source)
        if wanted.path is Path.DIRECT:
            # At full speed on a busy machine an engine may doubt its path for a moment; what counts is what stays.
            await pair.settle(wanted.path, connection)
    stats = pair.stats()
    path = Path.DIRECT if stats.direct else Path.RELAY
    seen = (await look(pair.one), await look(pair.other))
    return Outcome(path, stats.endpoint, stats.reason, first_byte, direct, throughput, seen)


async def look(node: Node) -> Seen:
    """Let a node measure its network once more, and say what it found."""
    with anyio.fail_after(CHECK_SECONDS):
        net = await node.netcheck()
    outside = net.global_v4.rpartition(":")[0]
    return Seen(net.udp, net.ipv4, net.ipv6, net.mapping_varies_by_destination, outside)


@asynccontextmanager
async def two_nodes(world: World, one: Site, other: Site, servers: Servers | None = None) -> AsyncGenerator[Pair]:
    """Serve the internet, start a node at the other site, and then one at the first."""
    async with serving_internet(world, (one, other), servers or Servers()) as internet, AsyncExitStack() as stack:
        waiting = await stack.enter_async_context(LabNode.inside(other.node, internet.derp_map, internet.configs[1]))
        await find_home(waiting)
        await stack.enter_async_context(serving(waiting))
        started_at = time.monotonic()
        starting = await stack.enter_async_context(LabNode.inside(one.node, internet.derp_map, internet.configs[0]))
        tasks = await stack.enter_async_context(anyio.create_task_group())
        stack.callback(tasks.cancel_scope.cancel)
        tasks.start_soon(keep_introduced, starting, waiting)
        tasks.start_soon(keep_introduced, waiting, starting)
        yield Two(starting, waiting, internet, started_at)


@asynccontextmanager
async def node_and_process(world: World, one: Site, other: Site) -> AsyncGenerator[Two[RemoteNode]]:
    """Serve the internet, start a node at the first site, and at the other one a node in a process of its own."""
    async with (
        serving_internet(world, (one, other), Servers()) as internet,
        LabNode.inside(one.node, internet.derp_map, internet.configs[0]) as node,
    ):
        started_at = time.monotonic()
        await find_home(node)
        async with remote_node(other.node, internet.derp_map, internet.configs[1], node) as process:
            yield Two(node, process, internet, started_at)


async def run_sites(world: World, one: Site, other: Site, wanted: Expected, servers: Servers | None = None) -> Outcome:
    """Run a node at each of two sites."""
    async with two_nodes(world, one, other, servers) as pair:
        return await run(pair, wanted)


def _echo_once(connection: socket.socket, data: bytes) -> None:
    connection.sendall(data)
    received = 0
    while received < len(data):
        count = len(connection.recv(1 << 16))
        if not count:
            raise ConnectionResetError("the other side ended the connection")
        received += count


def _measure(connection: socket.socket) -> float:
    """Take what comes for a while: bits a second."""
    buffer = memoryview(bytearray(1 << 18))
    connection.setblocking(True)
    connection.settimeout(DIAL_SECONDS)
    connection.recv_into(buffer)
    began, received = time.monotonic(), 0
    while (elapsed := time.monotonic() - began) < MEASURE_SECONDS:
        received += connection.recv_into(buffer)
    return received * 8 / elapsed
