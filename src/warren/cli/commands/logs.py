"""`logs`: what a build and its agents printed."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

import anyio
import click

from warren.cli import params
from warren.cli.command import command
from warren.cli.context import Context
from warren.errors import NotFound

if TYPE_CHECKING:
    from datetime import datetime

    from warren.sdk.types.agents import WorkspaceAgent
    from warren.sdk.types.workspaces import Workspace, WorkspaceBuild


@command()
@click.argument("workspace")
@params.option("--build-number", "-n", type=int, default=0, help="Build to show; negative counts back from the last.")
@params.flag("--follow", "-f", help="Go on as more is printed.")
async def logs(context: Context, *, workspace: str, build_number: int, follow: bool) -> None:
    """Show the log of a workspace's build and of its agents' scripts."""
    found = await context.workspace(workspace)
    build = await _build(context, found, build_number)
    async with aclosing(context.client.builds.logs(build.id)) as lines:
        async for line in lines:
            if line.output:
                context.terminal.out(_line(line.created_at, f"{line.log_level} {line.stage}", line.output))
    agents = [agent for resource in build.resources for agent in resource.agents]
    if build.id != found.latest_build.id:
        agents = []  # an agent keeps the log of its own build only
    if follow:
        async with anyio.create_task_group() as tasks:
            for agent in agents:
                tasks.start_soon(_follow, context, agent)
        return
    for agent in agents:
        for line in await context.client.agents.logs(agent.id):
            context.terminal.out(_line(line.created_at, f"{line.level} {agent.name}", line.output))


async def _build(context: Context, workspace: Workspace, number: int) -> WorkspaceBuild:
    latest = workspace.latest_build
    wanted = number if number > 0 else latest.build_number + number
    if wanted == latest.build_number:
        return latest
    try:
        return await context.client.workspaces.build_by_number(workspace.owner_name, workspace.name, wanted)
    except NotFound as error:
        raise NotFound(
            f"workspace `{workspace.name}` has no build {wanted}", hint=f"the last is {latest.build_number}"
        ) from error


async def _follow(context: Context, agent: WorkspaceAgent) -> None:
    async with aclosing(context.client.agents.follow_logs(agent.id)) as batches:
        async for batch in batches:
            for line in batch:
                context.terminal.out(_line(line.created_at, f"{line.level} {agent.name}", line.output))


def _line(at: datetime, where: str, text: str) -> str:
    return f"{at.isoformat(timespec='milliseconds')} [{where}] {text}"
