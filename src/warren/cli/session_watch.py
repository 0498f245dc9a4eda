"""What runs beside a session: usage reports, the end of the workspace, notice of a stop, the connection's state."""

from __future__ import annotations

import os
from contextlib import aclosing, suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from warren import clock
from warren.cli import duration, ui
from warren.cli.errors import ExitStatus
from warren.errors import Unavailable, WarrenError

if TYPE_CHECKING:
    from warren.cli.context import Context
    from warren.sdk.types.agents import WorkspaceAgent
    from warren.sdk.types.workspaces import Workspace
    from warren.tunnel.connection import AgentConnection

USAGE_SECONDS = 60.0
NOTICE = timedelta(minutes=30)
FIRST_RETRY_SECONDS, LAST_RETRY_SECONDS = 1.0, 15.0
TOLERATED_SECONDS = 60.0  # a full disk for a moment is no reason to end a session


async def run(
    context: Context,
    workspace: Workspace,
    agent: WorkspaceAgent,
    connection: AgentConnection,
    *,
    usage_app: str,
    network_info_dir: str,
    network_info_interval_seconds: float,
) -> None:
    """Run all of it until cancelled; the end of the workspace ends the session with an error."""
    async with anyio.create_task_group() as tasks:
        if usage_app:
            tasks.start_soon(report_usage, context, workspace, agent, usage_app)
        tasks.start_soon(_watch_workspace, context, workspace)
        if network_info_dir:
            tasks.start_soon(_write_network_info, connection, Path(network_info_dir), network_info_interval_seconds)


async def report_usage(context: Context, workspace: Workspace, agent: WorkspaceAgent, app: str) -> None:
    """Say every minute that the workspace is in use; a server that is away is told later."""
    from warren.sdk.types.workspaces import WorkspaceUsage

    while True:
        with suppress(WarrenError):  # the next one will do: nothing depends on a single report
            await context.client.workspaces.report_usage(workspace.id, WorkspaceUsage(agent_id=agent.id, app_name=app))
        await anyio.sleep(USAGE_SECONDS)


async def _watch_workspace(context: Context, workspace: Workspace) -> None:
    pause, told = FIRST_RETRY_SECONDS, False
    while True:
        try:
            async with aclosing(context.client.workspaces.watch(workspace.id)) as states:
                async for state in states:
                    pause = FIRST_RETRY_SECONDS
                    _check_runs(workspace, state)
                    told = _notice_stop(context, state, told=told)
        except Unavailable:
            pass  # the tunnel lives without the server
        await anyio.sleep(pause)
        pause = min(pause * 2, LAST_RETRY_SECONDS)


def _check_runs(before: Workspace, now: Workspace) -> None:
    """End the session when the workspace it is in ends.

    Raises:
        ExitStatus: it was stopped, or started anew.
    """
    latest = now.latest_build
    restarted = latest.transition == "start" and latest.id != before.latest_build.id
    if restarted or latest.status in {"stopped", "deleted"}:
        word = "restarted" if restarted else latest.status
        raise ExitStatus(255, f"\r\nthe workspace was {word}; the session is over")


def _notice_stop(context: Context, state: Workspace, *, told: bool) -> bool:
    deadline = state.latest_build.deadline
    if deadline is None or told:
        return told
    left = deadline - clock.SystemClock().now()
    if timedelta() < left < NOTICE:
        context.terminal.say(f"\r\nThe workspace stops in {duration.about(left)}, at {ui.when(deadline)}.\r")
        return True
    return False


async def _write_network_info(connection: AgentConnection, folder: Path, interval_seconds: float) -> None:
    import msgspec

    agent = await connection.introduced()
    path = folder / f"{os.getppid()}.json"
    before = (0, 0)
    failed_since: float | None = None
    while True:
        peer = connection.node.peer(agent.key)
        if peer is not None:
            sent, received = peer.tx_bytes - before[0], peer.rx_bytes - before[1]
            before = (peer.tx_bytes, peer.rx_bytes)
            text = msgspec.json.encode(
                {
                    "p2p": peer.direct,
                    "endpoint": peer.endpoint,
                    "reason": peer.reason,
                    "latency": (peer.latency_seconds or 0.0) * 1000,
                    "preferred_derp": str(peer.home_region),
                    "derp_latency": _region_latencies(connection),
                    "upload_bytes_sec": int(sent / interval_seconds),
                    "download_bytes_sec": int(received / interval_seconds),
                }
            )
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(text)
                failed_since = None
            except OSError:
                failed_since = failed_since or anyio.current_time()
                if anyio.current_time() - failed_since > TOLERATED_SECONDS:
                    raise
        await anyio.sleep(interval_seconds)


def _region_latencies(connection: AgentConnection) -> dict[str, float]:
    info = connection.node.net_info
    return {name: seconds * 1000 for name, seconds in info.region_latency_seconds.items()} if info else {}
