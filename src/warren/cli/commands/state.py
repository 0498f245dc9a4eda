"""Pull or push a workspace's Terraform state; for template admins who repair one."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from warren.cli import build as builds
from warren.cli import params
from warren.cli.command import command, group
from warren.cli.context import Context

if TYPE_CHECKING:
    from warren.sdk.types.workspaces import Workspace, WorkspaceBuild

state = group("state", "Pull or push a workspace's Terraform state.")
build_option = params.option("--build", "-b", type=int, default=0, help="Build whose state; the last unless given.")


@command(parent=state)
@click.argument("workspace")
@click.argument("file", required=False, default="")
@build_option
async def pull(context: Context, *, workspace: str, file: str, build: int) -> None:
    """Write a workspace's state to a file, or to stdout."""
    found = await context.workspace(workspace)
    chosen = await _build(context, found, build)
    content = await context.client.builds.state(chosen.id)
    _save(file, content)


@command(parent=state)
@click.argument("workspace")
@click.argument("file")
@build_option
@params.flag("--no-build", "-n", help="Only replace the state; run nothing.")
async def push(context: Context, *, workspace: str, file: str, build: int, no_build: bool) -> None:
    """Replace a workspace's state by a file (`-` is stdin), and build with it."""
    found = await context.workspace(workspace)
    chosen = await _build(context, found, build)
    content = _load(file)
    if no_build:
        await context.client.builds.set_state(chosen.id, content)
        context.terminal.say("State updated.")
        return
    queued = await builds.queue(context, found, chosen.transition, version_id=chosen.template_version_id, state=content)
    await builds.follow(context, queued)


async def _build(context: Context, workspace: Workspace, number: int) -> WorkspaceBuild:
    if number in {0, workspace.latest_build.build_number}:
        return workspace.latest_build
    return await context.client.workspaces.build_by_number(workspace.owner_name, workspace.name, number)


def _load(file: str) -> bytes:
    return sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()


def _save(file: str, content: bytes) -> None:
    if file and file != "-":
        Path(file).write_bytes(content)
        return
    sys.stdout.buffer.write(content)
    sys.stdout.buffer.flush()
