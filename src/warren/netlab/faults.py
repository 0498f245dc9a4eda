"""Scenarios where something fails while a stream runs: not a byte may be lost, and the longest gap is told."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import anyio
import anyio.to_thread

from warren import _engine
from warren.errors import Unavailable
from warren.netlab.internet import Servers
from warren.netlab.kinds import BY_NAME, NO_PUBLIC_ADDRESS, SILENT, Kind, Path
from warren.netlab.pair import POLL_SECONDS, Member, Pair, Two, look, node_and_process, two_nodes
from warren.netlab.report import Report
from warren.netlab.services import FAR, NEAR, RelayPlace, derp_map
from warren.netlab.stream import BLOCK_BYTES, SILENCE_SECONDS, Stream, echoing, streaming
from warren.netlab.world import Site, World
from warren.tunnel.node import Node, Watch

CHANGE_SECONDS = 60.0
"""A path that has not changed by then is stuck."""
FLOW_BYTES = 32 * BLOCK_BYTES
"""A stream that brings this much is flowing again."""
DOWN_SECONDS = 1.0
"""How long the relay stays away: as a quick restart."""
FLAPS, FLAP_SECONDS, FLAP_DOWN_SECONDS = 12, 5.0, 0.5
"""A minute of it."""
RESUME_SECONDS = 5.0
"""So long traffic may take after a process that was stopped goes on."""

_BLOCK_UDP = """
table inet cut {
    chain cut { type filter hook prerouting priority raw; policy accept; meta l4proto udp drop; }
}
"""


async def cut(name: str, world: World) -> Report:
    """Cut UDP silently during a stream: the relay takes over; then restore it: the path is direct again."""
    sites = world.add_site(BY_NAME["easy"], 1), world.add_site(BY_NAME["easy"], 2)
    async with two_nodes(world, *sites) as pair, _stream_over(pair, Path.DIRECT) as stream:
        cut_at = time.monotonic()
        await anyio.to_thread.run_sync(world.core.nft, _BLOCK_UDP)
        lost = await _until(pair, Path.RELAY, since=cut_at)
        await stream.wait_bytes(FLOW_BYTES)
        restored_at = time.monotonic()
        await anyio.to_thread.run_sync(world.core.nft, "delete table inet cut")
        back = await _until(pair, Path.DIRECT, since=restored_at)
        await stream.wait_bytes(FLOW_BYTES)
        ending = await _ending(pair, Path.DIRECT)
    return _report(name, Path.DIRECT, ending, stream, lost=lost, back=back)


async def relay_restart(name: str, world: World) -> Report:
    """Kill the relay during a stream that has no other way, and start it again."""
    sites = world.add_site(BY_NAME["hard"], 1), world.add_site(BY_NAME["hard"], 2)
    async with two_nodes(world, *sites) as pair, _stream_over(pair, Path.RELAY) as stream:
        await pair.relay.kill()
        await anyio.sleep(DOWN_SECONDS)
        await pair.relay.start()
        restarted_at = time.monotonic()
        await stream.wait_bytes(FLOW_BYTES)
        back = time.monotonic() - restarted_at
        await stream.wait_bytes(FLOW_BYTES)
        ending = await _ending(pair, Path.RELAY)
    return _report(name, Path.RELAY, ending, stream, back=back)


async def relay_lost(name: str, world: World) -> Report:
    """Kill the relay where both nodes are at home during a stream; there is a second one, farther away."""
    sites = world.add_site(BY_NAME["hard"], 1), world.add_site(BY_NAME["hard"], 2)
    servers = Servers(relays=(NEAR, FAR))
    async with two_nodes(world, *sites, servers) as pair, _stream_over(pair, Path.RELAY) as stream:
        await pair.relay.kill()
        killed_at = time.monotonic()
        await stream.wait_bytes(FLOW_BYTES)
        back = time.monotonic() - killed_at
        ending = await _ending(pair, Path.RELAY)
    problems = () if ending.region == FAR.region else (f"the path is by region {ending.region}, not {FAR.region}",)
    return _report(name, Path.RELAY, ending, stream, back=back, problems=problems)


async def roam(name: str, world: World) -> Report:
    """Move a node from one home to another during a stream: another address, another NAT."""
    return await _roam(name, world, BY_NAME["easy"], Path.DIRECT)


async def relayed_roam(name: str, world: World) -> Report:
    """Do the same where the relay is the only way."""
    return await _roam(name, world, BY_NAME["hard"], Path.RELAY)


async def _roam(name: str, world: World, kind: Kind, path: Path) -> Report:
    first, second, home = (world.add_site(kind, number) for number in (1, 2, 3))
    async with two_nodes(world, first, second) as pair, _stream_over(pair, path) as stream:
        await anyio.to_thread.run_sync(_move, world, first, home)
        moved_at = time.monotonic()
        await stream.wait_bytes(FLOW_BYTES)
        back = await _until(pair, path, since=moved_at)
        await stream.wait_bytes(FLOW_BYTES)
        ending = await _ending(pair, path)
    return _report(name, path, ending, stream, back=back)


def _move(world: World, site: Site, home: Site) -> None:
    """Take a node off its network, and put it into another home."""
    site.node.ip("link delete eth0")
    world.join_behind(home.edge, site.node, "lan9", "eth1", "192.168.9.1", "192.168.9.2")


async def flap(name: str, world: World) -> Report:
    """Take a node's interface down and up again and again during a stream."""
    return await _flap(name, world, BY_NAME["easy"], Path.DIRECT)


async def relayed_flap(name: str, world: World) -> Report:
    """Do the same where the relay is the only way."""
    return await _flap(name, world, BY_NAME["hard"], Path.RELAY)


async def _flap(name: str, world: World, kind: Kind, path: Path) -> Report:
    first, second = world.add_site(kind, 1), world.add_site(kind, 2)
    async with two_nodes(world, first, second) as pair, _stream_over(pair, path) as stream:
        for _ in range(FLAPS):
            await anyio.to_thread.run_sync(first.node.ip, "link set eth0 down")
            await anyio.sleep(FLAP_DOWN_SECONDS)
            # The routes went with the link; whoever configures the interface puts them back.
            route = f"route add default via 192.168.1.1 dev eth0 src {first.inside} onlink"
            await anyio.to_thread.run_sync(first.node.ip, "link set eth0 up", route)
            await anyio.sleep(FLAP_SECONDS - FLAP_DOWN_SECONDS)
        ended_at = time.monotonic()
        await stream.wait_bytes(FLOW_BYTES)
        back = await _until(pair, path, since=ended_at)
        await stream.wait_bytes(FLOW_BYTES)
        ending = await _ending(pair, path)
    return _report(name, path, ending, stream, back=back)


async def stun_gone(name: str, world: World) -> Report:
    """Let every STUN server vanish during a stream, and let both nodes notice: the path stays."""
    sites = world.add_site(BY_NAME["easy"], 1), world.add_site(BY_NAME["easy"], 2)
    async with two_nodes(world, *sites) as pair, _stream_over(pair, Path.DIRECT) as stream:
        pair.internet.stun.stop()
        seen = [await look(node) for node in (pair.one, pair.other)]
        noticed_at = time.monotonic()
        await stream.wait_bytes(FLOW_BYTES)
        ending = await _ending(pair, Path.DIRECT)
        back = time.monotonic() - noticed_at
    problems = [f"a node still says that its address is {each.outside}" for each in seen if each.outside]
    return _report(name, Path.DIRECT, ending, stream, back=back, problems=problems)


async def stun_back(name: str, world: World) -> Report:
    """Start nodes while no STUN server answers, which are relayed and know why; then let the servers come back."""
    sites = world.add_site(BY_NAME["easy"], 1), world.add_site(BY_NAME["easy"], 2)
    async with two_nodes(world, *sites, Servers(stun=False)) as pair, _stream_over(pair, Path.RELAY) as stream:
        before = pair.stats().reason
        await pair.internet.stun.start()
        back = await _until(pair, Path.DIRECT, since=time.monotonic())
        await stream.wait_bytes(FLOW_BYTES)
        ending = await _ending(pair, Path.DIRECT)
    known = re.fullmatch(SILENT + NO_PUBLIC_ADDRESS, before)
    problems = () if known else (f"the engine's reason does not explain the relayed path: {before!r}",)
    return _report(name, Path.DIRECT, ending, stream, back=back, problems=problems)


async def region_withdrawn(name: str, world: World) -> Report:
    """Withdraw the region where both nodes are at home during a stream, for one after the other, and end its relay."""

    async def leave(node: Node) -> None:
        node.engine.set_derp_map(derp_map(places=(FAR,)))
        await _until_home(node, FAR.region)

    return await _remapped(name, world, Servers(relays=(NEAR, FAR)), leave, FAR)


async def region_moved(name: str, world: World) -> Report:
    """Let a new map say during a stream that the region's relay is another one, and end the old one."""
    elsewhere = RelayPlace(NEAR.region, FAR.port)

    async def follow(node: Node) -> None:
        async with node.watch() as events:
            node.engine.set_derp_map(derp_map(places=(elsewhere,)))
            await _connected(events, elsewhere.region)

    return await _remapped(name, world, Servers(unlisted=(elsewhere,)), follow, elsewhere)


async def _remapped(
    name: str, world: World, servers: Servers, change: Callable[[Node], Awaitable[None]], to: RelayPlace
) -> Report:
    """Change the map of one node and then of the other during a stream, and end the relay that it began by."""
    sites = world.add_site(BY_NAME["hard"], 1), world.add_site(BY_NAME["hard"], 2)
    async with two_nodes(world, *sites, servers) as pair, _stream_over(pair, Path.RELAY) as stream:
        for node in (pair.one, pair.other):
            await change(node)
            await stream.wait_bytes(FLOW_BYTES)
        await pair.relay.kill()
        killed_at = time.monotonic()
        await stream.wait_bytes(FLOW_BYTES)
        back = time.monotonic() - killed_at
        ending = await _ending(pair, Path.RELAY)
    problems = () if ending.region == to.region else (f"the path is by region {ending.region}, not {to.region}",)
    return _report(name, Path.RELAY, ending, stream, back=back, problems=problems)


async def _until_home(node: Node, region: int) -> None:
    """Wait until a node has moved to a region."""
    with anyio.move_on_after(CHANGE_SECONDS):
        async with node.watch() as events:
            while node.net_info is None or node.net_info.preferred_region != region:
                await events.next()
        return
    raise Unavailable(f"a node has not moved to region {region} after {CHANGE_SECONDS:.0f} s")


async def _connected(events: Watch, region: int) -> None:
    """Wait until a region is connected anew."""
    with anyio.move_on_after(CHANGE_SECONDS):
        while True:
            match await events.next():
                case _engine.RelayChanged(of, True) if of == region:
                    return
                case _:
                    pass
    raise Unavailable(f"a node has not connected region {region} anew after {CHANGE_SECONDS:.0f} s")


async def suspended(name: str, world: World, *, seconds: float, path: Path) -> Report:
    """Stop the process of one node, with a connection that is idle and one that is full, and let it go on later."""
    kind = BY_NAME["easy" if path is Path.DIRECT else "hard"]
    sites = world.add_site(kind, 1), world.add_site(kind, 2)
    async with node_and_process(world, *sites) as pair:
        with await pair.connect() as idle:
            idle.setblocking(True)
            await pair.settle(path, idle)
            _require(pair, path)
            async with echoing(pair, patience_seconds=seconds + SILENCE_SECONDS) as stream:
                await stream.wait_bytes(FLOW_BYTES)
                pair.other.suspend()
                try:
                    await anyio.sleep(seconds)
                finally:
                    pair.other.resume()
                resumed_at = time.monotonic()
                await stream.wait_bytes(1)
                back = time.monotonic() - resumed_at
                await stream.wait_bytes(FLOW_BYTES)
                await pair.settle(path, idle)
                ending = await _ending(pair, path)
    return _report(name, path, ending, stream, back=back, problems=_late(back))


@asynccontextmanager
async def _stream_over(pair: Pair, path: Path) -> AsyncGenerator[Stream]:
    """Connect on the path that the fault is to hit, and start a stream."""
    with await pair.connect() as connection:
        connection.setblocking(True)
        await pair.settle(path, connection)
    _require(pair, path)
    async with streaming(pair) as stream:
        yield stream


def _require(pair: Two[Member], path: Path) -> None:
    """See that the path is the one that the fault is to hit."""
    if _path(pair) is not path:
        raise Unavailable(f"the path is not {path.value} before the fault: {pair.stats().reason}")


def _late(back: float) -> tuple[str, ...]:
    """Say what is wrong when traffic went on this many seconds after a process did."""
    return () if back <= RESUME_SECONDS else (f"traffic went on after {back:.1f} s, not within {RESUME_SECONDS:.0f}",)


async def _until(pair: Two[Member], path: Path, *, since: float) -> float:
    """Wait for a path; return how long that took."""
    with anyio.move_on_after(CHANGE_SECONDS):
        while _path(pair) is not path:  # noqa: ASYNC110  statistics have no event
            await anyio.sleep(POLL_SECONDS / 5)
        return time.monotonic() - since
    raise Unavailable(f"the path is not {path.value} after {CHANGE_SECONDS:.0f} s: {pair.stats().reason}")


async def _ending(pair: Two[Member], wanted: Path) -> _engine.PeerStats:
    """Give the path in the end a moment to be the wanted one, and return what there is to say of it."""
    await _until(pair, wanted, since=time.monotonic())
    return pair.stats()


def _path(pair: Two[Member]) -> Path:
    return Path.DIRECT if pair.stats().direct else Path.RELAY


def _report(
    name: str,
    wanted: Path,
    ending: _engine.PeerStats,
    stream: Stream,
    *,
    back: float,
    lost: float | None = None,
    problems: Sequence[str] = (),
) -> Report:
    problems = list(problems)
    if stream.error:
        problems.append(stream.error)
    elif not stream.intact:
        problems.append("what came is not what was sent")
    return Report(
        scenario=name,
        expected=wanted.value,
        why="it is the path before and after the fault",
        got=(Path.DIRECT if ending.direct else Path.RELAY).value,
        endpoint=ending.endpoint,
        reason=ending.reason,
        received_bytes=stream.received_bytes,
        longest_gap_seconds=round(stream.longest_gap_seconds, 3),
        lost_direct_seconds=None if lost is None else round(lost, 3),
        back_seconds=round(back, 3),
        problems=tuple(problems),
    )
