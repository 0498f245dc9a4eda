"""The routines that tell the control plane what happens, one task each for as long as a connection lasts.

Whatever cannot be sent stays queued for the next connection. An error of a routine ends the connection, except where
it says that losing one report is better.
"""

from __future__ import annotations

from collections.abc import Callable

import anyio
import structlog

from warren.agent.control import ControlPlane
from warren.agent.resources import ResourceMonitor
from warren.agent.state import AgentState
from warren.agent.stats import StatsReport
from warren.errors import RemoteError, Unimplemented

log = structlog.get_logger()

LOG_TICK_SECONDS = 0.25
METADATA_SECONDS = 1.0
METADATA_LIMIT_SECONDS = 30.0
HEALTH_SECONDS = 1.0
BANNER_SECONDS = 120.0
SCRIPT_LIMIT_SECONDS = 30.0
DEFAULT_STATS_SECONDS = 300.0


async def send_logs(state: AgentState, control: ControlPlane) -> None:
    """Send output of scripts as it comes, until the control plane wants no more."""
    while True:
        await state.wait_lines()
        batch = state.logs.next_batch(anyio.current_time())
        if batch is None:
            await anyio.sleep(LOG_TICK_SECONDS)
            continue
        if await control.send_logs(batch):
            state.logs.confirm(batch, anyio.current_time())
        else:
            log.warning("logs.limit_reached")
            state.logs.overflow()
            return


async def report_lifecycle(state: AgentState, control: ControlPlane) -> None:
    """Report each state once, in order."""
    while True:
        await control.report_lifecycle(await state.lifecycle.next_change())
        state.lifecycle.confirm()


async def report_connections(state: AgentState, control: ControlPlane) -> None:
    """Report who comes and goes; one that is refused is dropped."""
    while True:
        report = await state.connections.reports.first()
        try:
            await control.report_connection(report)
        except RemoteError as error:
            log.warning("connection.report_refused", error=error.message)
        state.connections.reports.confirm()


async def report_scripts(state: AgentState, control: ControlPlane) -> None:
    """Report how scripts went; one that is refused is dropped."""
    while True:
        run = await state.script_runs.first()
        try:
            with anyio.fail_after(SCRIPT_LIMIT_SECONDS):
                await control.report_script(run)
        except (RemoteError, TimeoutError) as error:
            log.warning("script.report_failed", script_id=str(run.script_id), error=str(error))
        state.script_runs.confirm()


async def report_metadata(state: AgentState, control: ControlPlane) -> None:
    """Send the newest values, at most once a second."""
    while True:
        await anyio.sleep(METADATA_SECONDS)
        results = state.metadata.take()
        if not results:
            continue
        try:
            with anyio.fail_after(METADATA_LIMIT_SECONDS):
                await control.report_metadata(results)
        except BaseException:
            state.metadata.give_back(results)
            raise


async def report_healths(state: AgentState, control: ControlPlane) -> None:
    """Send the health of the apps whenever it changed."""
    while True:
        await anyio.sleep(HEALTH_SECONDS)
        picture = state.apps.changed()
        if picture is None:
            continue
        try:
            await control.report_healths(picture)
        except RemoteError as error:
            log.warning("app.report_refused", error=error.message)
        else:
            state.apps.confirm(picture)


async def refresh_banners(state: AgentState, control: ControlPlane) -> None:
    """Fetch the operator's announcements now and again."""
    while True:
        state.banners = await control.banners()
        await anyio.sleep(BANNER_SECONDS)


async def report_resources(state: AgentState, control: ControlPlane) -> None:
    """Watch memory and disks where the template asks for it."""
    try:
        plan = await control.monitoring_plan()
    except Unimplemented:
        return
    if not plan.needed:
        return
    monitor = ResourceMonitor(plan, state.system)
    while True:
        samples = monitor.measure(state.clock.now())
        if samples:
            try:
                await control.report_samples(samples)
            except RemoteError as error:
                log.warning("resources.report_refused", error=error.message)
        await anyio.sleep(plan.interval_seconds)


async def report_stats(control: ControlPlane, measure: Callable[[], StatsReport]) -> None:
    """Report traffic and sessions as often as the control plane wants."""
    interval_seconds = await control.stats_interval_seconds()
    while True:
        await anyio.sleep(interval_seconds or DEFAULT_STATS_SECONDS)
        interval_seconds = await control.report_stats(measure())
