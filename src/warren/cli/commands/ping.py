"""`ping`: is the workspace reached, how fast, on which path, and why that one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import anyio
import click

from warren import clock
from warren.cli import agent_wait, connect, duration, params, ping_stats, target, ui
from warren.cli.command import command
from warren.cli.context import Context
from warren.cli.errors import ExitStatus

if TYPE_CHECKING:
    from warren import _engine
    from warren.sdk.types.agents import AgentConnectionInfo
    from warren.tunnel.connection import AgentConnection

OLD_HANDSHAKE_SECONDS = 300.0  # WireGuard renews its keys every two minutes while packets flow


@command()
@click.argument("workspace")
@params.option("--num", "-n", type=click.IntRange(min=0), default=0, help="How many pings; endless unless given.")
@params.durations("--timeout", "-t", default="5s", show_default=True, help="How long to wait for an answer.")
@params.durations("--wait", default="1s", show_default=True, help="How long to wait between pings.")
@params.flag("--time", "show_time", help="Show when each answer came.")
@params.flag("--utc", help="Show those times in UTC.")
@params.flag("--disable-autostart", env="SSH_DISABLE_AUTOSTART", help="Do not start a stopped workspace.")
@ui.output_option()
async def ping(
    context: Context,
    *,
    workspace: str,
    num: int,
    timeout: timedelta,
    wait: timedelta,
    show_time: bool,
    utc: bool,
    disable_autostart: bool,
    output: str,
) -> None:
    """Ping a workspace; -v explains the path, its candidates and each change."""
    _, agent = await agent_wait.started_workspace(
        context, target.parse(workspace), autostart=not disable_autostart, reason="ssh_connection"
    )
    agent = await agent_wait.ready_agent(context, agent, wait="no")
    info = await context.client.agents.connection(agent.id)
    regions = _region_names(info)
    summary = ping_stats.Summary(workspace)
    verbose = context.options.verbose
    try:  # interrupted or not: what was measured is shown
        async with connect.open_agent(context, agent.id, info=info) as connection:
            await connection.introduced()
            async with anyio.create_task_group() as tasks:
                if verbose:
                    tasks.start_soon(_explain_changes, context, connection, regions)
                run = _Run(context, connection, summary, regions, quiet=output == "json")
                await run.pings(num, timeout.total_seconds(), wait.total_seconds(), show_time=show_time or utc, utc=utc)
                tasks.cancel_scope.cancel()
            await _conclude(context, connection, summary, info, regions)
    finally:
        if output == "json":
            context.terminal.out(ui.json_text(summary.json()))
        elif summary.answers:
            context.terminal.out("\n" + ui.columns_text(summary.rows()))
    if not summary.latencies:
        raise ExitStatus(1)


class _Run:
    """Ping again and again."""

    def __init__(
        self,
        context: Context,
        connection: AgentConnection,
        summary: ping_stats.Summary,
        regions: Mapping[int, str],
        *,
        quiet: bool,
    ) -> None:
        self._context, self._connection, self._summary = context, connection, summary
        self._regions, self._quiet = regions, quiet
        self._began = anyio.current_time()
        self._was_direct = False

    async def pings(
        self, count: int, timeout_seconds: float, wait_seconds: float, *, show_time: bool, utc: bool
    ) -> None:
        """Ping `count` times, or without end when it is 0."""
        sequence = 0
        while True:
            sequence += 1
            now = clock.SystemClock().now()
            answer = await self._ping(sequence, now, timeout_seconds)
            self._summary.answers.append(answer)
            self._say(answer, now if utc else now.astimezone(), show_time=show_time)
            if sequence == count:
                return
            await anyio.sleep(wait_seconds)

    async def _ping(self, sequence: int, now: datetime, timeout_seconds: float) -> ping_stats.Answer:
        at = now.astimezone(UTC).isoformat().replace("+00:00", "Z")
        try:
            pong = await self._connection.ping(timeout_seconds=timeout_seconds)
        except TimeoutError:
            return ping_stats.Answer(sequence, at, error="timeout")
        region = "" if pong.direct else self._regions.get(pong.region, "unknown")
        return ping_stats.Answer(sequence, at, pong.latency_seconds, pong.direct, pong.endpoint, region)

    def _say(self, answer: ping_stats.Answer, at: datetime, *, show_time: bool) -> None:
        if self._quiet:
            return
        if answer.direct and not self._was_direct:
            self._was_direct = True
            took = ping_stats.rounded(anyio.current_time() - self._began)
            self._context.terminal.out(f"p2p connection established in {took}")
        stamp = f"[{at.isoformat(timespec='seconds')}] " if show_time else ""
        self._context.terminal.out(stamp + ping_stats.line(self._summary.workspace, answer))


def _region_names(info: AgentConnectionInfo) -> Mapping[int, str]:
    from warren.net import derp_map

    return {number: region.region_name for number, region in derp_map.parse(info.derp_map or {}).regions.items()}


async def _explain_changes(context: Context, connection: AgentConnection, regions: Mapping[int, str]) -> None:
    """Say which path is used, and why, now and whenever it changes."""
    from warren import _engine

    agent = await connection.introduced()
    async with connection.node.watch() as events:
        if peer := connection.node.peer(agent.key):
            context.terminal.say(f"path: {_path(peer.direct, peer.endpoint, peer.region, regions)}: {peer.reason}")
        async for event in events:
            if isinstance(event, _engine.PathChanged) and event.key == agent.key:
                way = _path(event.direct, event.endpoint, event.region, regions)
                context.terminal.say(f"path: {way}: {event.reason}")


def _path(direct: bool, endpoint: str, region: int, regions: Mapping[int, str]) -> str:
    return f"direct {endpoint}" if direct else f"relay {regions.get(region) or region}"


async def _conclude(
    context: Context,
    connection: AgentConnection,
    summary: ping_stats.Summary,
    info: AgentConnectionInfo,
    regions: Mapping[int, str],
) -> None:
    """Say how the connection stands and what could make it better."""
    say = context.terminal.say
    agent = await connection.introduced()
    peer = connection.node.peer(agent.key)
    net = connection.node.net_info
    say("\n".join(_diagnostics(peer, net, regions)))
    if context.options.verbose and peer is not None:
        say("\n".join(_candidates(peer)))
        if reason := connection.node.engine.stack_reason:
            say(f"stack: {connection.node.engine.stack} ({reason})")
    if summary.direct:
        say("✔ You are connected directly (p2p)")
        return
    say("❗ You are connected via a DERP relay, not directly (p2p)")
    for advice in _advice(context, info, net):
        say(f"  {advice}")


def _diagnostics(
    peer: _engine.PeerStats | None, net: _engine.NetInfo | None, regions: Mapping[int, str]
) -> Iterator[str]:
    home = net.preferred_region if net else 0
    yield f"✔ preferred DERP region: {home} ({regions.get(home, '')})" if home else "✘ not connected to DERP"
    if peer is None:
        yield "✘ have not received remote agent data from Coder networking coordinator"
        return
    yield "✔ sent local data to Coder networking coordinator"
    yield "✔ received remote agent data from Coder networking coordinator"
    yield f"    preferred DERP region: {peer.home_region} {regions.get(peer.home_region, '')}"
    yield "    endpoints: " + ", ".join(candidate.endpoint for candidate in peer.candidates)
    if peer.last_handshake_age_seconds is None:
        yield "✘ Wireguard is not connected"
        return
    mark = "✔" if peer.last_handshake_age_seconds < OLD_HANDSHAKE_SECONDS else "⚠"
    age = duration.text(timedelta(milliseconds=round(peer.last_handshake_age_seconds * 1000)))
    yield f"{mark} Wireguard handshake {age} ago"


def _candidates(peer: _engine.PeerStats) -> Iterator[str]:
    yield f"candidates: {len(peer.candidates)}"
    for item in peer.candidates:
        took = f", {ping_stats.rounded(item.latency_seconds)}" if item.latency_seconds is not None else ""
        counts = f"{item.pings_sent} pings sent, {item.pongs_received} answered"
        yield f"  {item.endpoint} ({item.source}): {item.state}{took}; {counts}"
    yield f"chosen: {peer.reason}"


def _advice(context: Context, info: AgentConnectionInfo, net: _engine.NetInfo | None) -> Iterator[str]:
    if context.options.disable_direct:
        yield "direct connections are disabled here, by --disable-direct-connections"
    elif info.disable_direct_connections:
        yield "your administrator has disabled direct connections"
    from warren.net import derp_map

    regions = derp_map.parse(info.derp_map or {}).regions.values()
    if not any(node.stun_port >= 0 for region in regions for node in region.nodes):
        yield "the DERP map has no STUN server, so that this machine cannot learn its public address"
    if net is not None and not net.udp:
        yield "this machine cannot send UDP, or got no answer from a STUN server"
    if net is not None and net.mapping_varies_by_destination:
        yield "this machine is behind a hard NAT: its public port changes with the destination"
