"""`ping`: is the workspace reached, how fast, on which path, and why that one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import TYPE_CHECKING

import anyio
import click

from warren import clock
from warren.cli import agent_wait, connect, duration, examine, params, ping_stats, target, ui
from warren.cli.command import command
from warren.cli.context import Context
from warren.cli.errors import ExitStatus

if TYPE_CHECKING:
    from warren import _engine
    from warren.net.diagnosis import Finding
    from warren.net.network_report import NodeNetwork, PeerPath
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
    regions = examine.region_names(info)
    summary = ping_stats.Summary(workspace)
    how = _How()
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
            await _conclude(context, connection, summary, info, how)
    finally:
        if output == "json":
            context.terminal.out(ui.json_text({**summary.json(), "path": how.path, "findings": how.findings}))
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


@dataclass(slots=True)
class _How:
    """How the connection stands in the end, and what keeps it from being better."""

    path: PeerPath | None = None
    findings: Sequence[Finding] = ()


async def _conclude(
    context: Context, connection: AgentConnection, summary: ping_stats.Summary, info: AgentConnectionInfo, how: _How
) -> None:
    """Say how the connection stands and what could make it better."""
    from warren.cli import findings_text
    from warren.net import diagnosis

    say, verbose = context.terminal.say, context.options.verbose
    # The agent's side is asked for only where it explains something: asking takes a moment.
    report = await examine.connection(context, connection, info, ask_agent=verbose or not summary.direct)
    assert report.workspace is not None  # `connection` is about one
    how.path = report.workspace.path
    found = diagnosis.diagnose(report)
    how.findings = found.findings
    say("\n".join(_diagnostics(how.path, report.network, examine.region_names(info))))
    if verbose and how.path is not None:
        say("\n".join(_explained(how.path, connection.node.engine)))
        say("\n".join(findings_text.pairs(found.pairs)))
    if summary.direct:
        say("✔ You are connected directly (p2p)" + (", over a private network" if _private(how.path) else ""))
        return
    say("❗ You are connected via a DERP relay, not directly (p2p)")
    say("\n".join(findings_text.findings(found)))


def _private(path: PeerPath | None) -> bool:
    if path is None or not path.direct:
        return False
    host = ip_address(path.endpoint.rpartition(":")[0].strip("[]"))
    return host.is_private and not host.is_loopback


def _diagnostics(path: PeerPath | None, network: NodeNetwork | None, regions: Mapping[int, str]) -> Iterator[str]:
    home = network.preferred_region if network else 0
    yield f"✔ preferred DERP region: {home} ({regions.get(home, '')})" if home else "✘ not connected to DERP"
    if path is None:
        yield "✘ have not received remote agent data from Coder networking coordinator"
        return
    yield "✔ sent local data to Coder networking coordinator"
    yield "✔ received remote agent data from Coder networking coordinator"
    yield f"    preferred DERP region: {path.home_region} {regions.get(path.home_region, '')}"
    yield "    endpoints: " + ", ".join(attempt.endpoint for attempt in path.attempts)
    if path.handshake_age_seconds is None:
        yield "✘ Wireguard is not connected"
        return
    mark = "✔" if path.handshake_age_seconds < OLD_HANDSHAKE_SECONDS else "⚠"
    age = duration.text(timedelta(milliseconds=round(path.handshake_age_seconds * 1000)))
    yield f"{mark} Wireguard handshake {age} ago"


def _explained(path: PeerPath, engine: _engine.Engine) -> Iterator[str]:
    """Say which way was chosen and why, how it came to that, and what carries TCP."""
    yield f"chosen: {_path(path.direct, path.endpoint, path.region, {})}: {path.reason}"
    for change in path.history:
        way = _path(change.direct, change.endpoint, change.region, {})
        yield f"    {ping_stats.rounded(change.age_seconds)} ago: {way}: {change.reason}"
    if path.inner_mtu is not None:
        yield f"MTU inside the tunnel: {path.inner_mtu}"
    yield f"TCP: {engine.stack}" + (f" ({engine.stack_reason})" if engine.stack_reason else "")
