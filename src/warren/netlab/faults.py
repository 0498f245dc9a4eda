"""Scenarios where something fails while a stream runs: not a byte may be lost, and the longest gap is told."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio
import anyio.to_thread

from warren import _engine
from warren.errors import Unavailable
from warren.netlab.kinds import BY_NAME, Path
from warren.netlab.pair import POLL_SECONDS, Pair, two_nodes
from warren.netlab.report import Report
from warren.netlab.stream import BLOCK_BYTES, Stream, streaming
from warren.netlab.world import Site, World

CHANGE_SECONDS = 60.0
"""A path that has not changed by then is stuck."""
FLOW_BYTES = 32 * BLOCK_BYTES
"""A stream that brings this much is flowing again."""
DOWN_SECONDS = 1.0
"""How long the relay stays away: as a quick restart."""
FLAPS, FLAP_SECONDS, FLAP_DOWN_SECONDS = 12, 5.0, 0.5
"""A minute of it."""

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


async def roam(name: str, world: World) -> Report:
    """Move a node from one home to another during a stream: another address, another NAT."""
    first, second = world.add_site(BY_NAME["easy"], 1), world.add_site(BY_NAME["easy"], 2)
    home = world.add_site(BY_NAME["easy"], 3)
    async with two_nodes(world, first, second) as pair, _stream_over(pair, Path.DIRECT) as stream:
        await anyio.to_thread.run_sync(_move, world, first, home)
        moved_at = time.monotonic()
        await stream.wait_bytes(FLOW_BYTES)
        back = await _until(pair, Path.DIRECT, since=moved_at)
        await stream.wait_bytes(FLOW_BYTES)
        ending = await _ending(pair, Path.DIRECT)
    return _report(name, Path.DIRECT, ending, stream, back=back)


async def relayed_roam(name: str, world: World) -> Report:
    """Move a node whose only way is the relay to another home during a stream."""
    first, second = world.add_site(BY_NAME["hard"], 1), world.add_site(BY_NAME["hard"], 2)
    home = world.add_site(BY_NAME["hard"], 3)
    async with two_nodes(world, first, second) as pair, _stream_over(pair, Path.RELAY) as stream:
        await anyio.to_thread.run_sync(_move, world, first, home)
        moved_at = time.monotonic()
        await stream.wait_bytes(FLOW_BYTES)
        back = time.monotonic() - moved_at
        ending = await _ending(pair, Path.RELAY)
    return _report(name, Path.RELAY, ending, stream, back=back)


def _move(world: World, site: Site, home: Site) -> None:
    """Take a node off its network, and put it into another home."""
    site.node.ip("link delete eth0")
    world.join_behind(home.edge, site.node, "lan9", "eth1", "192.168.9.1", "192.168.9.2")


async def flap(name: str, world: World) -> Report:
    """Take a node's interface down and up again and again during a stream."""
    first, second = world.add_site(BY_NAME["easy"], 1), world.add_site(BY_NAME["easy"], 2)
    async with two_nodes(world, first, second) as pair, _stream_over(pair, Path.DIRECT) as stream:
        for _ in range(FLAPS):
            await anyio.to_thread.run_sync(first.node.ip, "link set eth0 down")
            await anyio.sleep(FLAP_DOWN_SECONDS)
            # The routes went with the link; whoever configures the interface puts them back.
            route = f"route add default via 192.168.1.1 dev eth0 src {first.inside} onlink"
            await anyio.to_thread.run_sync(first.node.ip, "link set eth0 up", route)
            await anyio.sleep(FLAP_SECONDS - FLAP_DOWN_SECONDS)
        ended_at = time.monotonic()
        await stream.wait_bytes(FLOW_BYTES)
        back = await _until(pair, Path.DIRECT, since=ended_at)
        await stream.wait_bytes(FLOW_BYTES)
        ending = await _ending(pair, Path.DIRECT)
    return _report(name, Path.DIRECT, ending, stream, back=back)


@asynccontextmanager
async def _stream_over(pair: Pair, path: Path) -> AsyncGenerator[Stream]:
    """Connect on the path that the fault is to hit, and start a stream."""
    with await pair.connect() as connection:
        connection.setblocking(True)
        await pair.settle(path, connection)
    if _path(pair) is not path:
        raise Unavailable(f"the path is not {path.value} before the fault: {pair.stats().reason}")
    async with streaming(pair) as stream:
        yield stream


async def _until(pair: Pair, path: Path, *, since: float) -> float:
    """Wait for a path; return how long that took."""
    with anyio.move_on_after(CHANGE_SECONDS):
        while _path(pair) is not path:  # noqa: ASYNC110  statistics have no event
            await anyio.sleep(POLL_SECONDS / 5)
        return time.monotonic() - since
    raise Unavailable(f"the path is not {path.value} after {CHANGE_SECONDS:.0f} s: {pair.stats().reason}")


async def _ending(pair: Pair, wanted: Path) -> _engine.PeerStats:
    """Give the path in the end a moment to be the wanted one, and return what there is to say of it."""
    await _until(pair, wanted, since=time.monotonic())
    return pair.stats()


def _path(pair: Pair) -> Path:
    return Path.DIRECT if pair.stats().direct else Path.RELAY


def _report(
    name: str, wanted: Path, ending: _engine.PeerStats, stream: Stream, *, lost: float | None = None, back: float
) -> Report:
    problems: list[str] = []
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
