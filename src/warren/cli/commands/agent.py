"""`agent`: what the init script of a workspace starts."""

from __future__ import annotations

import os
import sys
import tempfile
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import TypedDict

import click
from typing_extensions import Unpack

from warren.cli import params
from warren.cli.command import Command

AUTH = ("token", "aws-instance-identity", "azure-instance-identity", "google-instance-identity")


class Options(TypedDict):
    """The flags of the command, as click hands them over."""

    auth: str
    agent_token: str
    agent_token_file: str
    agent_url: str
    agent_header: tuple[str, ...]
    agent_header_command: str
    subsystem: str
    log_dir: str
    script_data_dir: str
    prometheus_address: str
    debug_address: str
    ssh_max_timeout: timedelta
    tailnet_listen_port: int
    disable_port_mapping: bool
    log_human: str
    log_json: str
    no_reap: bool
    block_file_transfer: bool
    block_local_port_forwarding: bool
    block_reverse_port_forwarding: bool


@click.command("agent", cls=Command)
@params.option("--auth", env="AGENT_AUTH", type=click.Choice(AUTH), default="token", help="How to authenticate.")
@params.option("--agent-token", env="AGENT_TOKEN", default="", help="The agent's credential.")
@params.option("--agent-token-file", env="AGENT_TOKEN_FILE", default="", help="File with the agent's credential.")
@params.option("--agent-url", env="AGENT_URL", default="", help="URL of the server.")
@params.option("--agent-header", env="AGENT_HEADER", multiple=True, help="HTTP header (key=value) of every request.")
@params.option("--agent-header-command", env="AGENT_HEADER_COMMAND", default="", help="Command that prints headers.")
@params.option("--subsystem", env="AGENT_SUBSYSTEM", default="", hidden=True, help="What the agent runs in.")
@params.option("--log-dir", env="AGENT_LOG_DIR", default=tempfile.gettempdir(), help="Folder of the agent's log.")
@params.option(
    "--script-data-dir", env="AGENT_SCRIPT_DATA_DIR", default=tempfile.gettempdir(), help="Folder of scripts' data."
)
@params.option("--prometheus-address", env="AGENT_PROMETHEUS_ADDRESS", default="127.0.0.1:2112", help="Metrics.")
@params.option("--debug-address", env="AGENT_DEBUG_ADDRESS", default="127.0.0.1:2113", help="Debug API.")
@params.durations(
    "--ssh-max-timeout", env="AGENT_SSH_MAX_TIMEOUT", default="72h", help="End SSH sessions without a sign of life."
)
@params.option(
    "--tailnet-listen-port", env="AGENT_TAILNET_LISTEN_PORT", type=int, default=0, help="UDP port; 0 is any."
)
@params.flag("--disable-port-mapping", env="AGENT_DISABLE_PORT_MAPPING", help="Ask no gateway for a port.")
@params.option("--log-human", env="AGENT_LOGGING_HUMAN", default="/dev/stderr", help="Log for people also to.")
@params.option("--log-json", env="AGENT_LOGGING_JSON", default="", help="Log as JSON also to.")
@params.option("--log-stackdriver", env="AGENT_LOGGING_STACKDRIVER", default="", expose_value=False, hidden=True)
@params.option("--pprof-address", env="AGENT_PPROF_ADDRESS", default="", expose_value=False, hidden=True)
@params.option("--agent-name", env="AGENT_NAME", default="", expose_value=False, hidden=True)
@params.flag("--no-reap", help="Do not reap orphans as process 1.")
@params.flag("--block-file-transfer", env="AGENT_BLOCK_FILE_TRANSFER", help="Refuse scp, sftp, rsync and nc.")
@params.flag("--block-local-port-forwarding", env="AGENT_BLOCK_LOCAL_PORT_FORWARDING", help="Refuse ssh -L.")
@params.flag("--block-reverse-port-forwarding", env="AGENT_BLOCK_REVERSE_PORT_FORWARDING", help="Refuse ssh -R.")
@params.option("--devcontainers-enable", env="AGENT_DEVCONTAINERS_ENABLE", default="", expose_value=False, hidden=True)
@params.option("--socket-path", env="AGENT_SOCKET_PATH", default="", expose_value=False, hidden=True)
@params.option(
    "--socket-server-enabled", env="AGENT_SOCKET_SERVER_ENABLED", default="", expose_value=False, hidden=True
)
def agent(**options: Unpack[Options]) -> None:
    """Run the workspace agent."""
    if not options["no_reap"]:
        from warren.agent.reaper import become_reaper

        become_reaper()
    _run(options)


def _import_lean_logging() -> None:
    """Import structlog without rich, which it would load for coloured tracebacks: 20 ms and 5 MB in every workspace."""
    absent: dict[str, ModuleType | None] = sys.modules  # pyright: ignore[reportAssignmentType] - None is "not there"
    if "rich" in absent or "structlog" in absent:
        return
    absent["rich"] = None
    try:
        import structlog as _structlog

        assert _structlog
    finally:
        del absent["rich"]


def _run(options: Options) -> None:
    _import_lean_logging()
    import anyio

    from warren.agent import config, log_files, program
    from warren.errors import Invalid

    if options["auth"] != "token":
        raise Invalid(
            f"agent authentication by {options['auth']} is not supported yet", hint="use CODER_AGENT_AUTH=token"
        )
    values: dict[str, object] = click.get_current_context().find_root().obj or {}
    settings = config.AgentConfig(
        url=config.check_url(options["agent_url"]),
        token=config.read_token(options["agent_token"], options["agent_token_file"]),
        log_folder=Path(options["log_dir"]),
        data_folder=Path(options["script_data_dir"]),
        headers=config.read_headers(options["agent_header"], options["agent_header_command"]),
        subsystems=config.read_subsystems(options["subsystem"]),
        ssh_max_timeout=options["ssh_max_timeout"],
        listen_port=options["tailnet_listen_port"],
        port_mapping=not options["disable_port_mapping"],
        tunnel_stack=str(values.get("tunnel_stack") or "auto"),
        tunnel_congestion_control=str(values.get("tunnel_congestion_control") or "auto"),
        block_file_transfer=options["block_file_transfer"],
        block_local_forwarding=options["block_local_port_forwarding"],
        block_reverse_forwarding=options["block_reverse_port_forwarding"],
        prometheus_address=options["prometheus_address"],
        debug_address=options["debug_address"],
    )
    verbose = bool(values.get("verbose"))
    log_files.set_up(settings.log_folder, human=options["log_human"], json_path=options["log_json"], verbose=verbose)
    # uvloop gathers small writes into one call: SSH moves two to three times as much as on asyncio's own loop.
    anyio.run(program.run, settings, dict(os.environ), backend_options={"use_uvloop": sys.platform != "win32"})
