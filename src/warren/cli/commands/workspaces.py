"""List workspaces; rename, favour and update them."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import click

from warren import clock
from warren.cli import duration, params, schedule_text, ui
from warren.cli.command import command
from warren.cli.context import Context

if TYPE_CHECKING:
    from warren.sdk.types.workspaces import Workspace


def age(workspace: Workspace) -> str:
    """Say how long ago the last build was queued."""
    return duration.about(clock.SystemClock().now() - workspace.latest_build.created_at)


def health(workspace: Workspace) -> str:
    """Say whether the agents do what they should; empty when the workspace does not run."""
    running = workspace.latest_build.status in {"running", "starting"}
    return ui.yes_no(workspace.health.healthy) if running else ""


def stops_after(workspace: Workspace) -> str:
    """Say how long the workspace runs before it stops."""
    return duration.short(timedelta(milliseconds=workspace.ttl_ms)) if workspace.ttl_ms else ""


def stops_next(workspace: Workspace) -> str:
    """Say when the running workspace stops."""
    return ui.when(workspace.latest_build.deadline) if workspace.latest_build.status == "running" else ""


def starts_at(workspace: Workspace) -> str:
    """Say by which schedule the workspace starts."""
    return schedule_text.text(workspace.autostart_schedule) if workspace.autostart_schedule else ""


LIST: ui.Table[Workspace] = ui.Table(
    columns={
        "favorite": lambda item: "★" if item.favorite else "",
        "workspace": lambda item: f"{item.owner_name}/{item.name}",
        "organization id": lambda item: str(item.organization_id),
        "organization name": lambda item: item.organization_name,
        "template": lambda item: item.template_name,
        "status": lambda item: item.latest_build.status.capitalize(),
        "healthy": health,
        "last built": age,
        "current version": lambda item: item.latest_build.template_version_name,
        "outdated": lambda item: ui.yes_no(item.outdated),
        "starts at": starts_at,
        "starts next": lambda item: ui.when(item.next_start_at),
        "stops after": stops_after,
        "stops next": stops_next,
        "daily cost": lambda item: str(item.latest_build.daily_cost),
    },
    default=(
        "workspace",
        "template",
        "status",
        "healthy",
        "last built",
        "current version",
        "outdated",
        "starts at",
        "stops after",
    ),
)


def search_text(search: str, *, everyones: bool) -> str:
    """Say what to search for: one's own workspaces unless told otherwise."""
    return search or ("" if everyones else "owner:me")


@command("list")
@params.flag("--all", "-a", "everyones", help="List the workspaces of everyone.")
@params.option("--search", default="", help="Search, as in the dashboard; `owner:me` unless given.")
@params.flag("--shared-with-me", hidden=True, help="List the workspaces that others share with you.")
@LIST.options()
async def list_workspaces(
    context: Context, *, everyones: bool, search: str, shared_with_me: bool, output: str, column: tuple[str, ...]
) -> None:
    """List workspaces."""
    query = "shared:true" if shared_with_me else search_text(search, everyones=everyones)
    found = await context.client.workspaces.list(query)
    empty = f"No workspaces found! Create one:\n\n  {context.program} create <name>\n"
    ui.listing(context.terminal, found, LIST, output=output, column=column, empty=empty)


@command()
@click.argument("workspace")
@click.argument("new_name")
@params.yes_option
async def rename(context: Context, *, workspace: str, new_name: str, yes: bool) -> None:
    """Rename a workspace."""
    found = await context.workspace(workspace)
    context.terminal.warn("a rename can lose data where the template names resources after the workspace")
    if not yes:
        context.terminal.prompt(
            f"Type `{found.name}` to confirm:",
            validate=lambda text: None if text == found.name else "that is not the workspace's name",
        )
    await context.client.workspaces.rename(found.id, new_name)
    context.terminal.say(f"Workspace {context.terminal.keyword(found.name)} renamed to {new_name}.")


@command()
@click.argument("workspace")
async def favorite(context: Context, *, workspace: str) -> None:
    """Mark a workspace as a favourite: it is listed first."""
    found = await context.workspace(workspace)
    await context.client.workspaces.set_favorite(found.id, favorite=True)
    context.terminal.say(f"Workspace {context.terminal.keyword(found.name)} added to favorites.")


@command()
@click.argument("workspace")
async def unfavorite(context: Context, *, workspace: str) -> None:
    """Take a workspace out of the favourites."""
    found = await context.workspace(workspace)
    await context.client.workspaces.set_favorite(found.id, favorite=False)
    context.terminal.say(f"Workspace {context.terminal.keyword(found.name)} removed from favorites.")


@command()
@click.argument("workspace")
@click.argument("policy", type=click.Choice(["always", "never"]))
@params.yes_option
async def autoupdate(context: Context, *, workspace: str, policy: str, yes: bool) -> None:
    """Choose whether starts of a workspace take the newest template version."""
    found = await context.workspace(workspace)
    context.terminal.confirm(f"Set automatic updates of {found.name} to {policy}?", yes=yes)
    await context.client.workspaces.set_automatic_updates(found.id, policy)
    context.terminal.say(f"Updated workspace {context.terminal.keyword(found.name)} auto-update policy to {policy!r}")
