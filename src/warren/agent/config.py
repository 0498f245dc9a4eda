"""How an agent process is told what to do: its flags and variables, as one value."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

from warren.errors import Invalid

SUBSYSTEMS = frozenset({"envbox", "envbuilder", "exectrace"})


@dataclass(frozen=True, slots=True)
class AgentConfig:
    """The settings of one agent process."""

    url: str
    token: str = field(repr=False)
    log_folder: Path
    data_folder: Path
    headers: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    subsystems: tuple[str, ...] = ()
    ssh_max_timeout: timedelta = timedelta(hours=72)
    listen_port: int = 0
    port_mapping: bool = True
    tunnel_stack: str = "auto"
    tunnel_congestion_control: str = "auto"
    block_file_transfer: bool = False
    block_local_forwarding: bool = False
    block_reverse_forwarding: bool = False
    prometheus_address: str = ""
    debug_address: str = ""

    @property
    def rpc_url(self) -> str:
        """Where the control plane answers agents."""
        parts = urlsplit(self.url)
        scheme = {"http": "ws", "https": "wss"}[parts.scheme]
        return f"{scheme}://{parts.netloc}{parts.path.rstrip('/')}/api/v2/workspaceagents/me/rpc"


def check_url(url: str) -> str:
    """Return the access URL without its last slash.

    Raises:
        Invalid: it is not an HTTP URL.
    """
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise Invalid(f"agent URL {url!r} is not an http or https URL", hint="set CODER_AGENT_URL")
    return url.rstrip("/")


def read_token(token: str, token_file: str) -> str:
    """Return the agent's credential, from its variable or else a file.

    Raises:
        Invalid: neither is given, or the file cannot be read.
    """
    if token:
        return token
    if not token_file:
        raise Invalid("CODER_AGENT_TOKEN or CODER_AGENT_TOKEN_FILE must be set for token auth")
    try:
        return Path(token_file).read_text().strip()
    except OSError as error:
        raise Invalid(f"cannot read the agent token from {token_file}: {error}") from error


def read_subsystems(text: str) -> tuple[str, ...]:
    """Read the comma-separated list of what the agent runs in.

    Raises:
        Invalid: one of them is unknown.
    """
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    unknown = sorted(set(names) - SUBSYSTEMS)
    if unknown:
        raise Invalid(f"invalid subsystem {unknown[0]!r}", hint=f"known are {', '.join(sorted(SUBSYSTEMS))}")
    return names


def read_headers(pairs: tuple[str, ...], command: str) -> dict[str, str]:
    """Read `name=value` pairs, those of flags and those that a command prints.

    Raises:
        Invalid: a pair has no `=`, or the command fails.
    """
    lines = list(pairs)
    if command:
        try:
            # The operator wrote this line for a shell.
            run = subprocess.run(command, shell=True, check=True, capture_output=True, text=True)  # noqa: S602
        except subprocess.CalledProcessError as error:
            raise Invalid(f"header command {command!r} failed: {error.stderr.strip() or error}") from error
        lines += [line for line in run.stdout.splitlines() if line.strip()]
    headers: dict[str, str] = {}
    for line in lines:
        name, found, value = line.partition("=")
        if not found or not name.strip():
            raise Invalid(f"header {line!r} is not of the form name=value")
        headers[name.strip()] = value
    return headers
