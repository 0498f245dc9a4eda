"""`vscodessh`: what the VS Code extension gives OpenSSH as its ProxyCommand."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import anyio
import click

from warren.cli import agent_wait, connect, params, session_watch, stdio, target
from warren.cli.command import command
from warren.cli.context import Context, Globals
from warren.errors import Invalid


@command(hidden=True)
@click.argument("host")
@params.option("--network-info-dir", default="", help="Folder to write the state of the connection to.")
@params.durations("--network-info-interval", default="5s", help="How often to write it.")
@params.option("--log-dir", "-l", default="", help="Folder for log files.")
@params.option("--session-token-file", required=True, help="File with the session token.")
@params.option("--url-file", required=True, help="File with the server's URL.")
@params.option("--wait", type=click.Choice(["yes", "no", "auto"]), default="auto", help="Wait for start scripts.")
async def vscodessh(
    context: Context,
    *,
    host: str,
    network_info_dir: str,
    network_info_interval: timedelta,
    log_dir: str,
    session_token_file: str,
    url_file: str,
    wait: str,
) -> None:
    """Copy between stdin, stdout and the SSH server of `coder-vscode--owner--workspace--agent`."""
    signed_in = Context(_options(context.options, session_token_file, url_file), program=context.program)
    wanted = parse_host(host)
    try:
        found, agent = await agent_wait.started_workspace(signed_in, wanted, autostart=True, reason="vscode_connection")
        agent = await agent_wait.ready_agent(signed_in, agent, wait=wait)
        async with connect.open_agent(signed_in, agent.id) as connection, anyio.create_task_group() as tasks:

            async def watch() -> None:
                await session_watch.run(
                    signed_in,
                    found,
                    agent,
                    connection,
                    usage_app="vscode",
                    network_info_dir=network_info_dir,
                    network_info_interval_seconds=network_info_interval.total_seconds(),
                )

            tasks.start_soon(watch)
            with await connection.dial(connect.SSH_PORT) as sock:
                await stdio.pump(sock)
            tasks.cancel_scope.cancel()
    finally:
        await signed_in.aclose()


def parse_host(host: str) -> target.Target:
    """Read the extension's host name: a label, the owner, the workspace, perhaps the agent, joined by `--`.

    Raises:
        Invalid: it is not one.
    """
    match host.split("--"):
        case [_, owner, workspace]:
            name, _, agent = workspace.partition(".")
            return target.Target(name, owner=owner, agent=agent)
        case [_, owner, workspace, agent]:
            return target.Target(workspace, owner=owner, agent=agent)
        case _:
            raise Invalid(f"`{host}` is not of the form label--owner--workspace--agent")


def _options(options: Globals, token_file: str, url_file: str) -> Globals:
    from dataclasses import replace

    return replace(options, token=Path(token_file).read_text().strip(), url=Path(url_file).read_text().strip())
