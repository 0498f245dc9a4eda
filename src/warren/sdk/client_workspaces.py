"""Workspaces and builds."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import msgspec

from warren.sdk.client import Client, segment
from warren.sdk.types import jobs, templates, workspaces


@dataclass(frozen=True, slots=True)
class Workspaces:
    """Workspaces."""

    client: Client

    async def list(
        self, query: str = "", *, limit: int | None = None, offset: int | None = None
    ) -> list[workspaces.Workspace]:
        """List the workspaces that match a search."""
        parameters = {"q": query, "limit": limit, "offset": offset}
        return (await self.client.get("/workspaces", workspaces.WorkspaceList, parameters)).workspaces

    async def get(self, workspace_id: UUID, *, deleted: bool = False) -> workspaces.Workspace:
        """Get a workspace by its id."""
        query = {"include_deleted": "true"} if deleted else None
        return await self.client.get(f"/workspaces/{workspace_id}", workspaces.Workspace, query)

    async def by_name(self, owner: str, name: str) -> workspaces.Workspace:
        """Get a workspace by its owner and name."""
        return await self.client.get(f"/users/{segment(owner)}/workspace/{segment(name)}", workspaces.Workspace)

    async def create(self, owner: str, request: workspaces.CreateWorkspace) -> workspaces.Workspace:
        """Create a workspace and queue its first build."""
        return await self.client.post(f"/users/{segment(owner)}/workspaces", workspaces.Workspace, request)

    async def build(self, workspace_id: UUID, request: workspaces.CreateWorkspaceBuild) -> workspaces.WorkspaceBuild:
        """Queue a build: start, stop or delete."""
        return await self.client.post(f"/workspaces/{workspace_id}/builds", workspaces.WorkspaceBuild, request)

    async def rename(self, workspace_id: UUID, name: str) -> None:
        """Rename a workspace."""
        await self.client.call("PATCH", f"/workspaces/{workspace_id}", body=workspaces.UpdateWorkspace(name=name))

    async def set_favorite(self, workspace_id: UUID, *, favorite: bool) -> None:
        """Mark a workspace as a favourite, or not."""
        await self.client.call("PUT" if favorite else "DELETE", f"/workspaces/{workspace_id}/favorite")

    async def set_autostart(self, workspace_id: UUID, schedule: str | None) -> None:
        """Set the schedule by which a workspace starts; `None` means by hand."""
        body = workspaces.UpdateAutostart(schedule=schedule)
        await self.client.call("PUT", f"/workspaces/{workspace_id}/autostart", body=body)

    async def set_ttl(self, workspace_id: UUID, ttl_ms: int | None) -> None:
        """Set how long a workspace runs; `None` means until it is stopped."""
        await self.client.call("PUT", f"/workspaces/{workspace_id}/ttl", body=workspaces.UpdateTTL(ttl_ms=ttl_ms))

    async def extend(self, workspace_id: UUID, deadline: datetime) -> None:
        """Move the moment at which a workspace stops."""
        body = workspaces.ExtendWorkspace(deadline=deadline)
        await self.client.call("PUT", f"/workspaces/{workspace_id}/extend", body=body)

    async def set_automatic_updates(self, workspace_id: UUID, policy: str) -> None:
        """Choose whether a start takes the newest version: `always` or `never`."""
        body = workspaces.UpdateAutomaticUpdates(automatic_updates=policy)
        await self.client.call("PUT", f"/workspaces/{workspace_id}/autoupdates", body=body)

    async def wake(self, workspace_id: UUID) -> None:
        """Take a workspace out of dormancy."""
        body = workspaces.UpdateDormancy(dormant=False)
        await self.client.call("PUT", f"/workspaces/{workspace_id}/dormant", body=body)

    async def report_usage(self, workspace_id: UUID, usage: workspaces.WorkspaceUsage) -> None:
        """Say that a workspace is in use."""
        await self.client.call("POST", f"/workspaces/{workspace_id}/usage", body=usage)

    async def watch(self, workspace_id: UUID) -> AsyncGenerator[workspaces.Workspace]:
        """Follow a workspace: as it is now, and again whenever it changed."""
        async for name, data in self.client.events(f"/workspaces/{workspace_id}/watch"):
            if name == "data":
                yield msgspec.json.decode(data, type=workspaces.Workspace)

    async def build_by_number(self, owner: str, name: str, number: int) -> workspaces.WorkspaceBuild:
        """Get a build of a workspace by its number."""
        path = f"/users/{segment(owner)}/workspace/{segment(name)}/builds/{number}"
        return await self.client.get(path, workspaces.WorkspaceBuild)


@dataclass(frozen=True, slots=True)
class Builds:
    """Workspace builds."""

    client: Client

    async def get(self, build_id: UUID) -> workspaces.WorkspaceBuild:
        """Get a build."""
        return await self.client.get(f"/workspacebuilds/{build_id}", workspaces.WorkspaceBuild)

    async def cancel(self, build_id: UUID) -> None:
        """Ask for a build to be canceled."""
        await self.client.call("PATCH", f"/workspacebuilds/{build_id}/cancel")

    async def parameters(self, build_id: UUID) -> list[templates.BuildParameter]:
        """List the parameter values of a build."""
        return await self.client.get(f"/workspacebuilds/{build_id}/parameters", list[templates.BuildParameter])

    async def logs(self, build_id: UUID, *, after: int = 0) -> AsyncGenerator[jobs.ProvisionerJobLog]:
        """Follow the log of a build until its job ends."""
        path = f"/workspacebuilds/{build_id}/logs"
        async for message in self.client.messages(path, {"follow": "", "after": after or None}):
            yield msgspec.json.decode(message, type=jobs.ProvisionerJobLog)

    async def state(self, build_id: UUID) -> bytes:
        """Get the Terraform state of a build."""
        return (await self.client.call("GET", f"/workspacebuilds/{build_id}/state")).body

    async def set_state(self, build_id: UUID, state: bytes) -> None:
        """Replace the Terraform state of a build without running anything."""
        body = workspaces.UpdateBuildState(state=state)
        await self.client.call("PUT", f"/workspacebuilds/{build_id}/state", body=body)
