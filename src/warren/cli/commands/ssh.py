"""`ssh`: a shell or a command in a workspace, or its bytes for another SSH client."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import anyio
import click

from warren.cli import agent_wait, connect, params, target
from warren.cli.command import Command, command
from warren.cli.context import Context
from warren.cli.errors import ExitStatus
from warren.errors import Invalid

if TYPE_CHECKING:
    from datetime import timedelta

    from warren.cli.ssh_session import Ended
    from warren.sdk.types.agents import WorkspaceAgent
    from warren.sdk.types.workspaces import Workspace
    from warren.tunnel.connection import AgentConnection


Forward: TypeAlias = tuple[int | str, str, int | str]
"""A port or socket of the workspace, the local host, and the port or socket there."""

USAGE_APPS = {"vscode": "vscode", "jetbrains": "jetbrains", "disable": ""}


class SSHCommand(Command):
    """Take options before and after the workspace, and leave those of the remote command alone."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Move the options behind the workspace's name in front of it."""
        known = self.get_params(ctx)
        args = params.take_written_flags(ctx, args, known)
        before, after = split_options(known, args)
        if after:
            options, remote = split_options(known, after[1:])
            args = [*before, *options, "--", after[0], *remote]
        return super().parse_args(ctx, args)


def split_options(known: Sequence[click.Parameter], args: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split arguments into the options in front, with their values, and the rest; a `--` between goes away."""
    takes_value = {name: not param.is_flag for param in known if isinstance(param, click.Option) for name in param.opts}
    index = 0
    while index < len(args):
        argument = args[index]
        if argument == "--":
            return list(args[:index]), list(args[index + 1 :])
        if not argument.startswith("-") or argument == "-":
            break
        index += 1
        # A value stands in the next argument unless it is written together with its name: `--wait=no`, `-eA=b`.
        if takes_value.get(argument if argument.startswith("--") else argument[:2], False):
            index += "=" not in argument if argument.startswith("--") else len(argument) == 2
    return list(args[:index]), list(args[index:])


@dataclass(frozen=True, slots=True)
class Watching:
    """What runs beside a session."""

    network_info_dir: str
    network_info_interval_seconds: float
    usage_app: str


@command(cls=SSHCommand, context_settings={"allow_interspersed_args": False})
@click.argument("workspace")
@click.argument("remote", nargs=-1, metavar="[COMMAND]...")
@params.flag("--stdio", env="SSH_STDIO", help="Copy between stdin, stdout and the workspace's SSH server.")
@params.flag("--tty", "-t", help="Give the command a terminal.")
@params.option("--ssh-host-prefix", env="SSH_SSH_HOST_PREFIX", default="", help="Prefix to strip from the host name.")
@params.option("--hostname-suffix", env="SSH_HOSTNAME_SUFFIX", default="", help="Suffix to strip from the host name.")
@params.flag("--forward-agent", "-A", env="SSH_FORWARD_AGENT", help="Forward the SSH agent.")
@params.option("--identity-agent", env="SSH_IDENTITY_AGENT", default="", help="Socket of the agent to forward.")
@params.durations("--workspace-poll-interval", env="WORKSPACE_POLL_INTERVAL", default="1m", help="How often to look.")
@params.option(
    "--wait",
    env="SSH_WAIT",
    type=click.Choice(["yes", "no", "auto"]),
    default="auto",
    help="Wait for start scripts; auto: for those that block logins.",
)
@params.flag("--no-wait", env="SSH_NO_WAIT", hidden=True, help="Use --wait=no.")
@params.option("--log-dir", "-l", env="SSH_LOG_DIR", default="", help="Folder for log files.")
@params.option(
    "--remote-forward",
    "-R",
    env="SSH_REMOTE_FORWARD",
    multiple=True,
    metavar="SPEC",
    help="Forward a port or socket of the workspace: port:host:port or socket:socket.",
)
@params.strings("--env", "-e", env="SSH_ENV", metavar="KEY=VALUE", help="Environment of the session.")
@params.option("--network-info-dir", default="", help="Folder to write the state of the connection to.")
@params.durations("--network-info-interval", default="5s", help="How often to write it.")
@params.flag("--disable-autostart", env="SSH_DISABLE_AUTOSTART", help="Do not start a stopped workspace.")
@params.option("--usage-app", env="SSH_USAGE_APP", default="ssh", hidden=True, help="Program that uses the session.")
@params.option("--container", "-c", default="", hidden=True, help="Container to open the session in.")
@params.option("--container-user", default="", hidden=True, help="User in that container.")
@params.flag("--force-new-tunnel", hidden=True, help="Accepted: every command has its own tunnel.")
async def ssh(
    context: Context,
    *,
    workspace: str,
    remote: tuple[str, ...],
    stdio: bool,
    tty: bool,
    ssh_host_prefix: str,
    hostname_suffix: str,
    forward_agent: bool,
    identity_agent: str,
    workspace_poll_interval: timedelta,
    wait: str,
    no_wait: bool,
    log_dir: str,
    remote_forward: tuple[str, ...],
    env: tuple[str, ...],
    network_info_dir: str,
    network_info_interval: timedelta,
    disable_autostart: bool,
    usage_app: str,
    container: str,
    container_user: str,
    force_new_tunnel: bool,
) -> None:
    """Open a shell in a workspace, or run a command in it.

    The workspace is `name`, `owner/name` or `name.agent`; options of the command follow it, after `--` if in doubt.
    """
    if stdio and remote_forward:
        raise Invalid("--remote-forward does not go with --stdio", hint="use the -R of the SSH client")
    wanted = target.parse(workspace, prefix=ssh_host_prefix, suffix=hostname_suffix)
    watching = Watching(network_info_dir, network_info_interval.total_seconds(), USAGE_APPS.get(usage_app, "ssh"))
    environment = params.key_values(env, "--env")
    if container:
        environment |= {"CODER_CONTAINER": container, "CODER_CONTAINER_USER": container_user}
    forwards = [_remote_forward(spec) for spec in remote_forward]
    agent_socket = _agent_socket(identity_agent, wanted=forward_agent)
    connect.preload_in_background(ssh=not stdio)
    found, agent = await agent_wait.started_workspace(
        context, wanted, autostart=not disable_autostart, reason="ssh_connection"
    )
    agent = await agent_wait.ready_agent(context, agent, wait="no" if no_wait else wait)
    info = await context.client.agents.connection(agent.id)
    status, why = 0, ""
    with connect.log_file(log_dir, stdio=stdio) as log:
        async with (
            connect.open_agent(context, agent.id, info=info, log=log) as connection,
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(_watch, context, found, agent, connection, watching)
            if stdio:
                await _pump(connection)
            else:
                ended = await _session(
                    connection,
                    command=" ".join(remote),
                    terminal=tty or (not remote and context.terminal.input_tty),
                    agent_socket=agent_socket,
                    environment=environment,
                    forwards=forwards,
                )
                status, why = ended.status, ended.why
            tasks.cancel_scope.cancel()
    if status:
        raise ExitStatus(status, why)


async def _session(
    connection: AgentConnection,
    *,
    command: str,
    terminal: bool,
    agent_socket: str,
    environment: Mapping[str, str],
    forwards: Sequence[Forward],
) -> Ended:
    from warren.cli.ssh_session import RemoteForward, SessionOptions, run

    options = SessionOptions(
        command=command,
        terminal=terminal,
        agent_socket=agent_socket,
        environment=environment,
        forwards=[RemoteForward(*forward) for forward in forwards],
    )
    return await run(await connection.dial(connect.SSH_PORT), options)


async def _pump(connection: AgentConnection) -> None:
    from warren.cli import stdio

    with await connection.dial(connect.SSH_PORT) as sock:
        await stdio.pump(sock)


async def _watch(
    context: Context, workspace: Workspace, agent: WorkspaceAgent, connection: AgentConnection, watching: Watching
) -> None:
    """Run what runs beside a session; imported late, when the session has begun."""
    await anyio.sleep(0.5)
    from warren.cli import session_watch

    await session_watch.run(
        context,
        workspace,
        agent,
        connection,
        usage_app=watching.usage_app,
        network_info_dir=watching.network_info_dir,
        network_info_interval_seconds=watching.network_info_interval_seconds,
    )


def _agent_socket(identity_agent: str, *, wanted: bool) -> str:
    if not wanted and not identity_agent:
        return ""
    path = identity_agent if identity_agent not in {"", "SSH_AUTH_SOCK"} else os.environ.get("SSH_AUTH_SOCK", "")
    if not path:
        raise Invalid("there is no SSH agent to forward", hint="start one, or name its socket with --identity-agent")
    return path


def _remote_forward(spec: str) -> Forward:
    """Read `port:host:port` or `socket:socket`.

    Raises:
        Invalid: it is neither.
    """
    match spec.split(":"):
        case [remote, host, local] if remote.isdecimal() and local.isdecimal():
            return int(remote), host, int(local)
        case [remote, local] if remote.startswith("/"):
            return remote, "", local
        case _:
            raise Invalid(f"`{spec}` is not a remote forward", hint="write port:host:port or /socket:/socket")


@click.group("connect", hidden=True)
def connect_group() -> None:
    """Ask about other ways to a workspace."""


@command("exists", parent=connect_group)
@click.argument("host")
def exists(context: Context, *, host: str) -> None:
    """Say by the exit code whether a system-wide tunnel reaches the host; Warren has none."""
    raise ExitStatus(1)
