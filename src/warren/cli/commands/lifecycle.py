"""Start, stop, restart, update and delete workspaces."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

import click

from warren.cli import build, parameters, params
from warren.cli.command import command
from warren.cli.context import Context
from warren.errors import Forbidden

if TYPE_CHECKING:
    from warren.sdk.types.workspaces import Workspace, WorkspaceBuild

workspace_argument = click.argument("workspace")


@command()
@workspace_argument
@params.flag("--no-wait", help="Return when the build is queued.")
@params.option("--reason", hidden=True, default="cli", help="Why it is started.")
@parameters.options
@params.yes_option
async def start(context: Context, *, workspace: str, no_wait: bool, reason: str, yes: bool, **flags: object) -> None:
    """Start a workspace, named as `name` or `owner/name`."""
    found = await context.workspace(workspace)
    latest = found.latest_build
    if latest.transition == "start" and latest.status in {"pending", "starting"}:
        context.terminal.say(f"The {context.terminal.keyword(found.name)} workspace is starting already.")
        queued = latest
    elif latest.status == "running":
        context.terminal.say(f"The {context.terminal.keyword(found.name)} workspace is already running!")
        return
    else:
        if found.dormant_at is not None:
            context.terminal.say("Activating the dormant workspace.")
            await context.client.workspaces.wake(found.id)
        queued = await _start(context, found, parameters.Wanted.parse(flags), reason=reason)
    if no_wait:
        context.terminal.say(f"The {context.terminal.keyword(found.name)} workspace has been started in no-wait mode.")
        return
    await build.follow(context, queued)
    context.terminal.say(f"\nThe {context.terminal.keyword(found.name)} workspace has been started!")


@command()
@workspace_argument
@params.yes_option
async def stop(context: Context, *, workspace: str, yes: bool) -> None:
    """Stop a workspace, named as `name` or `owner/name`."""
    context.terminal.confirm("Confirm stop workspace?", yes=yes)
    found = await context.workspace(workspace)
    await build.follow(context, await build.queue(context, found, "stop"))
    context.terminal.say(f"\nThe {context.terminal.keyword(found.name)} workspace has been stopped!")


@command()
@workspace_argument
@parameters.options
@params.yes_option
async def restart(context: Context, *, workspace: str, yes: bool, **flags: object) -> None:
    """Stop a workspace and start it again."""
    found = await context.workspace(workspace)
    wanted = parameters.Wanted.parse(flags)
    values = await _values(context, found, wanted, found.latest_build.template_version_id)
    context.terminal.confirm("Restart workspace?", yes=yes)
    await build.follow(context, await build.queue(context, found, "stop"))
    await build.follow(context, await build.queue(context, found, "start", values=values))
    context.terminal.say(f"\nThe {context.terminal.keyword(found.name)} workspace has been restarted!")


@command()
@workspace_argument
@parameters.options
@params.yes_option
async def update(context: Context, *, workspace: str, yes: bool, **flags: object) -> None:
    """Move a workspace to its template's active version, and start it."""
    found = await context.workspace(workspace)
    wanted = parameters.Wanted.parse(flags)
    asks = wanted.always_prompt or bool(wanted.values or wanted.ephemeral)
    if not found.outdated and not asks:
        context.terminal.say("Workspace is up-to-date.")
        return
    version_id = found.template_active_version_id
    values = await _values(context, found, wanted, version_id)
    if found.latest_build.status == "running":
        await build.follow(context, await build.queue(context, found, "stop"))
    await build.follow(context, await build.queue(context, found, "start", values=values, version_id=version_id))
    context.terminal.say(f"\nThe {context.terminal.keyword(found.name)} workspace has been updated!")


@command()
@workspace_argument
@params.flag("--orphan", help="Forget the workspace without destroying its resources; for template admins.")
@params.yes_option
async def delete(context: Context, *, workspace: str, orphan: bool, yes: bool) -> None:
    """Delete a workspace and all that belongs to it."""
    found = await context.workspace(workspace)
    context.terminal.confirm("Confirm delete workspace?", yes=yes, default=False)
    await build.follow(context, await build.queue(context, found, "delete", orphan=orphan))
    context.terminal.say(f"\nThe {context.terminal.keyword(found.name)} workspace has been deleted!")


async def _start(context: Context, workspace: Workspace, wanted: parameters.Wanted, *, reason: str) -> WorkspaceBuild:
    """Queue a start: with the newest version where the workspace or its template asks for it, else as it was."""
    version_id = workspace.latest_build.template_version_id
    newest = workspace.automatic_updates == "always" or workspace.template_require_active_version
    if newest and workspace.outdated:
        version_id = workspace.template_active_version_id
    values = await _values(context, workspace, wanted, version_id)
    try:
        return await build.queue(context, workspace, "start", values=values, version_id=version_id, reason=reason)
    except Forbidden:
        if version_id == workspace.template_active_version_id:
            raise
    context.terminal.say("The template requires its active version; updating the workspace.")
    version_id = workspace.template_active_version_id
    values = await _values(context, workspace, wanted, version_id)
    return await build.queue(context, workspace, "start", values=values, version_id=version_id, reason=reason)


async def _values(
    context: Context, workspace: Workspace, wanted: parameters.Wanted, version_id: UUID
) -> dict[str, str]:
    """Choose the parameter values of the next build."""
    previous = await context.client.builds.parameters(workspace.latest_build.id)
    asked = await context.client.templates.rich_parameters(version_id)
    return parameters.resolve(context.terminal, asked, wanted, previous={value.name: value.value for value in previous})
