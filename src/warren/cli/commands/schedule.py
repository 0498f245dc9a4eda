"""Schedule starts and stops."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import click

from warren import clock
from warren.cli import duration, params, schedule_text, ui
from warren.cli.command import aliased, command, group
from warren.cli.commands.workspaces import LIST as WORKSPACES
from warren.cli.commands.workspaces import search_text
from warren.cli.context import Context
from warren.errors import Invalid

if TYPE_CHECKING:
    from warren.sdk.types.workspaces import Workspace

schedule = group("schedule", "Schedule when workspaces start and stop.")

SHOWN = ("workspace", "starts at", "starts next", "stops after", "stops next")
LIST: ui.Table[Workspace] = ui.Table(columns={name: WORKSPACES.columns[name] for name in SHOWN}, default=SHOWN)


@command(parent=schedule)
@click.argument("workspace", required=False, default="")
@params.flag("--all", "-a", "everyones", help="Show the workspaces of everyone.")
@params.option("--search", default="", help="Search, as in the dashboard; `owner:me` unless given.")
@LIST.options()
async def show(
    context: Context, *, workspace: str, everyones: bool, search: str, output: str, column: tuple[str, ...]
) -> None:
    """Show the schedules of one workspace or of all."""
    if workspace:
        found = [await context.workspace(workspace)]
    else:
        found = await context.client.workspaces.list(search_text(search, everyones=everyones))
    ui.listing(context.terminal, found, LIST, output=output, column=column, empty="No workspaces found!")


@command(parent=schedule)
@click.argument("workspace")
@click.argument("when", nargs=-1, required=True, metavar="TIME [DAYS] [ZONE] | manual")
async def start(context: Context, *, workspace: str, when: tuple[str, ...]) -> None:
    """Set when a workspace starts, such as `9:30AM Mon-Fri Europe/Berlin`, or `manual`."""
    found = await context.workspace(workspace)
    await context.client.workspaces.set_autostart(found.id, schedule_text.cron(when))
    await _show(context, found.name, found)


@command(parent=schedule)
@click.argument("workspace")
@click.argument("after", metavar="DURATION | manual")
async def stop(context: Context, *, workspace: str, after: str) -> None:
    """Set after how long a workspace stops, such as `8h`, or `manual`."""
    found = await context.workspace(workspace)
    ttl = None if after.lower() == "manual" else duration.milliseconds(duration.parse(after))
    await context.client.workspaces.set_ttl(found.id, ttl)
    await _show(context, found.name, found)


@command(parent=schedule)
@click.argument("workspace")
@click.argument("by", type=params.DURATION, metavar="DURATION")
async def extend(context: Context, *, workspace: str, by: timedelta) -> None:
    """Let a running workspace stop this long from now, such as `90m`."""
    found = await context.workspace(workspace)
    if found.latest_build.transition != "start":
        raise Invalid(f"workspace `{found.name}` does not run", hint=f"{context.program} start {found.name}")
    await context.client.workspaces.extend(found.id, clock.SystemClock().now() + by)
    await _show(context, found.name, found)


aliased(extend, "override-stop", schedule)


async def _show(context: Context, name: str, workspace: Workspace) -> None:
    now = await context.client.workspaces.get(workspace.id)
    context.terminal.out(LIST.text([now]))
