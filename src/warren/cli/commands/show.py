"""`show`: what a workspace consists of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from warren.cli import params, ui
from warren.cli.command import command
from warren.cli.context import Context
from warren.errors import WarrenError

if TYPE_CHECKING:
    from warren.sdk.types.agents import WorkspaceAgent
    from warren.sdk.types.workspaces import WorkspaceResource

COLOURS = {"connected": ui.GREEN, "ready": ui.GREEN, "connecting": ui.YELLOW, "starting": ui.YELLOW}


@command()
@click.argument("workspace")
@params.flag("--details", help="Show open ports and details of agents.")
@ui.output_option(formats=("text", "json"), default="text")
async def show(context: Context, *, workspace: str, details: bool, output: str) -> None:
    """Show a workspace's resources and agents, and how to reach them."""
    found = await context.workspace(workspace)
    if output == "json":
        context.terminal.out(ui.json_text(found))
        return
    terminal, latest = context.terminal, found.latest_build
    terminal.out(
        f"{found.owner_name}/{found.name}: {latest.status}, build {latest.build_number}, template {found.template_name}"
    )
    for resource in latest.resources:
        if resource.hide and not details:
            continue
        terminal.out("\n".join(_resource_lines(terminal, resource)))
        for agent in resource.agents:
            terminal.out("\n".join(_agent_lines(terminal, context.program, found.name, agent, resource)))
            if details and agent.status == "connected":
                terminal.out("\n".join([line async for line in _port_lines(context, agent)]))


def _resource_lines(terminal: ui.Terminal, resource: WorkspaceResource) -> Iterator[str]:
    yield terminal.style(f"{resource.type}.{resource.name}", ui.BOLD)
    for item in resource.metadata:
        yield f"   {item.key}: {'(sensitive)' if item.sensitive else item.value}"


def _agent_lines(
    terminal: ui.Terminal, program: str, workspace: str, agent: WorkspaceAgent, resource: WorkspaceResource
) -> Iterator[str]:
    state = terminal.style(agent.status, COLOURS.get(agent.status, ui.RED))
    life = terminal.style(agent.lifecycle_state, COLOURS.get(agent.lifecycle_state, ui.RED))
    yield f"└─ {agent.name} ({agent.operating_system}, {agent.architecture}): {state}, {life}, {agent.version}"
    if not agent.health.healthy:
        yield f"   unhealthy: {agent.health.reason}"
    full = workspace if len(resource.agents) == 1 else f"{workspace}.{agent.name}"
    yield f"   access: {program} ssh {full}"


async def _port_lines(context: Context, agent: WorkspaceAgent):
    try:
        ports = (await context.client.agents.listening_ports(agent.id)).ports
    except WarrenError as error:
        yield f"   open ports: {error.message}"
        return
    for port in ports:
        yield f"   open port {port.port}/{port.network}: {port.process_name}"
