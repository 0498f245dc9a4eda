"""Which workspace and agent a name on the command line means."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from warren.errors import NotFound

if TYPE_CHECKING:
    from warren.sdk.types.agents import WorkspaceAgent
    from warren.sdk.types.workspaces import Workspace

_SEPARATORS = re.compile(r"[/.]+|--")


@dataclass(frozen=True, slots=True)
class Target:
    """An agent of a workspace; an empty owner is the current user, an empty agent the only one."""

    workspace: str
    owner: str = ""
    agent: str = ""

    @property
    def path(self) -> str:
        """The workspace as `owner/name` or `name`."""
        return f"{self.owner}/{self.workspace}" if self.owner else self.workspace


def parse(text: str, *, prefix: str = "", suffix: str = "") -> Target:
    """Read `name`, `owner/name`, `name.agent`, `owner/name.agent`, `owner--name--agent`, or a host name.

    A host name has the `prefix`, or ends in a dot and the `suffix`; three parts with dots alone are agent, workspace
    and owner, the order of host names.
    """
    if prefix and text.startswith(prefix):
        text = text[len(prefix) :]
    elif suffix and text.endswith("." + suffix):
        text = text[: -len(suffix) - 1]
    parts = [part for part in _SEPARATORS.split(text) if part]
    match parts:
        case [workspace]:
            return Target(workspace)
        case [first, second]:
            return Target(first, agent=second) if "." in text else Target(second, owner=first)
        case [first, second, third] if "/" not in text and "--" not in text:
            return Target(second, owner=third, agent=first)
        case [first, second, third]:
            return Target(second, owner=first, agent=third)
        case _:
            return Target(text)


def pick_agent(workspace: Workspace, wanted: str) -> WorkspaceAgent:
    """Choose the agent of that name, or the only one.

    Raises:
        NotFound: there is none of that name, or several and none was named.
    """
    agents = {agent.name: agent for resource in workspace.latest_build.resources for agent in resource.agents}
    names = sorted(agents)
    if not agents:
        raise NotFound(
            f'workspace "{workspace.name}" has no agents',
            hint="its template makes none: add a `coder_agent` resource to it, push it, and run "
            f"warren update {workspace.name}",
        )
    if wanted:
        if wanted not in agents:
            raise NotFound(f'agent not found by name "{wanted}", available agents: [{" ".join(names)}]')
        return agents[wanted]
    if len(agents) > 1:
        raise NotFound(
            f"multiple agents found, please specify the agent name, available agents: [{' '.join(names)}]",
            hint=" or ".join(f"{workspace.name}.{name}" for name in names),
        )
    return next(iter(agents.values()))
