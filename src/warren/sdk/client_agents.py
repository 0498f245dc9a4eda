"""Workspace agents."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from uuid import UUID

import msgspec

from warren.errors import NotFound
from warren.sdk.client import Client
from warren.sdk.types import agents


@dataclass(frozen=True, slots=True)
class Agents:
    """Workspace agents."""

    client: Client

    async def get(self, agent_id: UUID) -> agents.WorkspaceAgent:
        """Get an agent."""
        return await self.client.get(f"/workspaceagents/{agent_id}", agents.WorkspaceAgent)

    async def connection(self, agent_id: UUID) -> agents.AgentConnectionInfo:
        """Get what is needed to reach an agent."""
        return await self.client.get(f"/workspaceagents/{agent_id}/connection", agents.AgentConnectionInfo)

    async def connection_generic(self) -> agents.AgentConnectionInfo:
        """Get what is needed to reach any agent."""
        return await self.client.get("/workspaceagents/connection", agents.AgentConnectionInfo)

    async def logs(self, agent_id: UUID, *, after: int = 0) -> list[agents.AgentLog]:
        """List the lines of an agent's log after the one with that id."""
        return await self.client.get(f"/workspaceagents/{agent_id}/logs", list[agents.AgentLog], {"after": after})

    async def follow_logs(self, agent_id: UUID, *, after: int = 0) -> AsyncGenerator[list[agents.AgentLog]]:
        """Follow an agent's log; each item is a batch of lines, the first may be empty."""
        path = f"/workspaceagents/{agent_id}/logs"
        query = {"follow": "", "after": after, "no_compression": ""}
        async for message in self.client.messages(path, query):
            yield msgspec.json.decode(message, type=list[agents.AgentLog])

    async def listening_ports(self, agent_id: UUID) -> agents.ListeningPorts:
        """List the ports on which something listens in the workspace."""
        return await self.client.get(f"/workspaceagents/{agent_id}/listening-ports", agents.ListeningPorts)

    async def ssh_config(self) -> agents.SSHConfig:
        """Get what `config-ssh` writes; servers that do not say use the prefix `coder.`."""
        try:
            return await self.client.get("/deployment/ssh", agents.SSHConfig)
        except NotFound:
            return agents.SSHConfig(hostname_prefix="coder.", hostname_suffix="", ssh_config_options={})
