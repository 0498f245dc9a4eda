"""`open`: a workspace in an editor, or an app of it in the browser."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlencode

import click

from warren.cli import agent_wait, params, target
from warren.cli.command import command, group
from warren.cli.context import Context
from warren.errors import Invalid, NotFound

if TYPE_CHECKING:
    from warren.sdk.types.agents import WorkspaceAgent

open_group = group("open", "Open a workspace in an editor, or one of its apps.")


@command(parent=open_group)
@click.argument("workspace")
@click.argument("directory", required=False, default="")
@params.flag("--generate-token", help="Put a session token into the link, for an editor that is not signed in.")
async def vscode(context: Context, *, workspace: str, directory: str, generate_token: bool) -> None:
    """Open a workspace in VS Code."""
    found, agent = await agent_wait.started_workspace(
        context, target.parse(workspace), autostart=True, reason="vscode_connection"
    )
    agent = await agent_wait.ready_agent(context, agent, wait="no")
    query = {
        "owner": found.owner_name,
        "workspace": found.name,
        "url": context.url,
        "agent": agent.name,
        "openRecent": "" if directory else "true",
        "folder": absolute(directory, agent),
        "token": await context.client.users.create_key() if generate_token else "",
    }
    link = "vscode://coder.coder-remote/open?" + urlencode({key: value for key, value in query.items() if value})
    _open(context, link)


@command(parent=open_group)
@click.argument("workspace")
@click.argument("slug", required=False, default="")
@params.option("--region", default="primary", help="Region to open it through.")
async def app(context: Context, *, workspace: str, slug: str, region: str) -> None:
    """Open an app of a workspace in the browser; without a name, list them."""
    from warren.sdk.types.deployment import Regions

    wanted = target.parse(workspace)
    found = await context.workspace(wanted.path)
    agent = target.pick_agent(found, wanted.agent)
    known = {item.slug: item for item in agent.apps}
    if slug not in known:
        raise NotFound(f"no app `{slug}` in agent `{agent.name}`", hint="there are " + (", ".join(known) or "none"))
    if known[slug].external:
        _open(context, known[slug].url)
        return
    regions = (await context.client.get("/regions", Regions)).regions
    base = next((item.path_app_url for item in regions if item.name == region), None)
    if base is None:
        raise NotFound(f"no region `{region}`", hint="there are " + ", ".join(item.name for item in regions))
    _open(context, f"{base.rstrip('/')}/@{found.owner_name}/{found.name}.{agent.name}/apps/{slug}/")


def absolute(directory: str, agent: WorkspaceAgent) -> str:
    """Complete a folder of the workspace.

    Raises:
        Invalid: it is relative and the agent does not say to what.
    """
    if not directory or directory.startswith("/"):
        return directory or agent.expanded_directory
    if directory.startswith("~"):
        return directory
    if not agent.expanded_directory:
        raise Invalid(f"`{directory}` is relative, and the agent has no folder of its own", hint="write it with a /")
    return f"{agent.expanded_directory.rstrip('/')}/{directory}"


def _open(context: Context, link: str) -> None:
    import webbrowser

    shown = link.partition("token=")[0]
    if context.options.no_open or not webbrowser.open(link):
        context.terminal.say("Open this link:")
        context.terminal.out(link)
        return
    context.terminal.say(f"Opened {shown}")
