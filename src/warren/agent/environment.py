"""Compose the environment of every command that runs in a workspace.

The layers, later ones winning: the agent's own environment with what the SSH client sent and the login variables
(of these three the *first* occurrence of a name counts), what the agent predefines, the manifest's variables, secrets,
what the agent process itself adds, and the PATH with the folder of scripts' own binaries in front.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from warren.agent.expansion import expand_variables
from warren.agent.manifest import Manifest

CONNECTION_VARIABLES = {"SSH_CLIENT": "0.0.0.0 0 0", "SSH_CONNECTION": "0.0.0.0 0 0.0.0.0 0"}
"""What says "this is a remote session" to shells and editors; the addresses inside a tunnel mean nothing to them."""


@dataclass(frozen=True, slots=True)
class Login:
    """The user that commands run as."""

    user: str
    shell: str
    home: str


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the agent process knows besides the manifest."""

    process: Mapping[str, str]
    """The agent's own environment."""
    login: Login
    token: str
    program: str
    """The path of the program that answers to `coder` and `warren`."""
    first_on_path: tuple[str, ...] = ()
    """Folders in front of the PATH, first one first."""


def compose(manifest: Manifest, around: Surroundings, sent: Mapping[str, str] | None = None) -> dict[str, str]:
    """Compose the environment of a command; `sent` is what an SSH client asked for."""
    environment = _current(around, sent or {})
    environment |= _predefined(manifest, around)
    for name, value in manifest.environment.items():
        environment[name] = expand_variables(value, around.process)
    for secret in manifest.secrets:
        if secret.variable:
            environment[secret.variable] = secret.value.decode(errors="surrogateescape")
    environment["GIT_ASKPASS"] = around.program
    environment["PATH"] = _path(around, environment)
    return environment | CONNECTION_VARIABLES


def _current(around: Surroundings, sent: Mapping[str, str]) -> dict[str, str]:
    who = around.login
    login = {"USER": who.user, "LOGNAME": who.user, "SHELL": who.shell, "HOME": who.home}
    process = {name: value for name, value in around.process.items() if (name, value) != ("GOTRACEBACK", "none")}
    return {**login, **sent, **process}


def _predefined(manifest: Manifest, around: Surroundings) -> dict[str, str]:
    variables = {
        "CODER": "true",
        "CODER_WORKSPACE_NAME": manifest.workspace_name,
        "CODER_WORKSPACE_AGENT_NAME": manifest.agent_name,
        "CODER_WORKSPACE_OWNER_NAME": manifest.owner_name,
        "CODER_WORKSPACE_ID": str(manifest.workspace_id),
        "CODER_AGENT_TOKEN": around.token,
        "GIT_SSH_COMMAND": f"{around.program} gitssh --",
        "CS_DISABLE_GETTING_STARTED_OVERRIDE": "true",
    }
    if manifest.port_proxy_uri:
        variables["VSCODE_PROXY_URI"] = manifest.port_proxy_uri
    return variables


def _path(around: Surroundings, environment: Mapping[str, str]) -> str:
    path = environment.get("PATH") or around.process.get("PATH", os.defpath)
    return os.pathsep.join((*around.first_on_path, path))
