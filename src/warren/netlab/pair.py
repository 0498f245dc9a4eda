"""Two nodes in a world: connect them, see which path they get, and measure it."""

from __future__ import annotations

import socket
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import anyio
import anyio.to_thread

from warren import _engine
from warren.netlab.certificates import Authority
from warren.netlab.kinds import Expected, Outbound, Path
from warren.netlab.namespace import Namespace
from warren.netlab.node import ECHO_PORT, SOURCE_PORT, LabNode, find_home, keep_introduced, new_config, serving
from warren.netlab.report import Outcome, Seen
from warren.netlab.services import (
    RELAY_NAME,
    RelayServer,
    derp_map,
    serving_interceptor,
    serving_proxy,
    serving_stun,
)
from warren.netlab.world import SERVER_ADDRESSES, SERVER_ADDRESSES6, Site, World
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


Addresses = Sequence[tuple[str, str]]
"""IPv4 and IPv6 addresses of STUN servers; empty where a server has none."""


@asynccontextmanager
async def two_nodes(
    world: World, one: Site, other: Site, *, more_stun: Addresses = (), more_stun_in: Namespace | None = None
) -> AsyncGenerator[Pair]:
    """Serve the internet, start a node at the other site, and then one at the first."""
    authority = Authority.make("lab relay CA")
    async with AsyncExitStack() as stack:
        relay = await stack.enter_async_context(RelayServer.open(world.server, authority.server_context(RELAY_NAME)))
        await stack.enter_async_context(serving_stun(world.server, (*SERVER_ADDRESSES, *SERVER_ADDRESSES6)))
        if more_stun_in is not None:
            inside = [address for server in more_stun for address in server if address]
            await stack.enter_async_context(serving_stun(more_stun_in, inside))
        known = derp_map((*zip(SERVER_ADDRESSES, SERVER_ADDRESSES6, strict=True), *more_stun))
        configs = [await _serve_middlebox(stack, site, authority) for site in (one, other)]
        waiting = await stack.enter_async_context(LabNode.inside(other.node, known, configs[1]))
        await find_home(waiting)
        await stack.enter_async_context(serving(waiting))
        started_at = time.monotonic()
        starting = await stack.enter_async_context(LabNode.inside(one.node, known, configs[0]))
        tasks = await stack.enter_async_context(anyio.create_task_group())
        stack.callback(tasks.cancel_scope.cancel)
        tasks.start_soon(keep_introduced, starting, waiting)
        tasks.start_soon(keep_introduced, waiting, starting)
        yield Pair(starting, waiting, relay, started_at)


@dataclass(frozen=True, slots=True)
class Pair:
    """Two nodes that know of each other."""

    one: Node
    other: Node
    relay: RelayServer
    started_at: float

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


async def run_sites(
    world: World,
    one: Site,
    other: Site,
    wanted: Expected,
    *,
    more_stun: Addresses = (),
    more_stun_in: Namespace | None = None,
) -> Outcome:
    """Run a node at each of two sites."""
    async with two_nodes(world, one, other, more_stun=more_stun, more_stun_in=more_stun_in) as pair:
        return await run(pair, wanted)


async def _serve_middlebox(stack: AsyncExitStack, site: Site, authority: Authority) -> NodeConfig:
    """Serve what stands between a site and the internet, if anything; configure its node as its user would."""
    match site.kind.outbound:
        case Outbound.PROXY:
            proxy = await stack.enter_async_context(serving_proxy(site.gateways[0]))
            return new_config(trusted_pem=authority.pem, proxy=f"http://{site.gateway_address}:{proxy}")
        case Outbound.INTERCEPTED:
            middlebox = Authority.make("lab middlebox CA")
            shown = middlebox.server_context(RELAY_NAME)
            await stack.enter_async_context(serving_interceptor(site.gateways[0], shown, authority.client_context()))
            return new_config(trusted_pem=middlebox.pem)
        case Outbound.ANY | Outbound.TCP | Outbound.HTTPS:
            return new_config(trusted_pem=authority.pem)


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
