"""What a VPN client is told of its user's workspaces: all of it first, then what changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from warren.domain.build import WorkspaceStatus


@dataclass(frozen=True, slots=True)
class WorkspaceState:
    """A workspace as far as such a client shows it."""

    id: UUID
    name: str
    status: WorkspaceStatus


@dataclass(frozen=True, slots=True)
class AgentState:
    """An agent as far as such a client shows it."""

    id: UUID
    name: str
    workspace_id: UUID


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All of them at one moment."""

    workspaces: Sequence[WorkspaceState] = ()
    agents: Sequence[AgentState] = ()


@dataclass(frozen=True, slots=True)
class Update:
    """What changed between two moments."""

    upserted_workspaces: Sequence[WorkspaceState] = ()
    upserted_agents: Sequence[AgentState] = ()
    deleted_workspaces: Sequence[WorkspaceState] = ()
    deleted_agents: Sequence[AgentState] = ()

    def __bool__(self) -> bool:
        return bool(self.upserted_workspaces or self.upserted_agents or self.deleted_workspaces or self.deleted_agents)


def diff(old: Snapshot, new: Snapshot) -> Update:
    """Say what changed from `old` to `new`; from the empty snapshot that is everything."""
    workspaces = {workspace.id for workspace in new.workspaces}
    agents = {agent.id for agent in new.agents}
    known_workspaces, known_agents = frozenset(old.workspaces), frozenset(old.agents)
    return Update(
        [workspace for workspace in new.workspaces if workspace not in known_workspaces],
        [agent for agent in new.agents if agent not in known_agents],
        [workspace for workspace in old.workspaces if workspace.id not in workspaces],
        [agent for agent in old.agents if agent.id not in agents],
    )
