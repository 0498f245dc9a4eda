"""Provisioner daemons, the keys they sign in with, and the jobs they run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from warren.errors import Invalid
from warren.sdk.client import Client, segment
from warren.sdk.types import jobs
from warren.sdk.types.base import Wire

KEY_HEADER = "Coder-Provisioner-Daemon-Key"
PSK_HEADER = "Coder-Provisioner-Daemon-PSK"  # the header's name


class _CreatedKey(Wire, frozen=True):
    key: str


@dataclass(frozen=True, slots=True)
class Provisioners:
    """Provisioner daemons, their keys and jobs."""

    client: Client

    async def daemons(self, organization_id: UUID, *, limit: int, offline: bool) -> list[jobs.ProvisionerDaemon]:
        """List the daemons of an organization; `offline` lists those, too, of which nobody has heard for a while."""
        path = f"/organizations/{organization_id}/provisionerdaemons"
        query = {"limit": limit, "offline": offline}
        return await self.client.get_list(path, list[jobs.ProvisionerDaemon], query)

    async def jobs(
        self, organization_id: UUID, *, limit: int, statuses: Sequence[str] = (), initiator: UUID | None = None
    ) -> list[jobs.ProvisionerJob]:
        """List the jobs of an organization, newest first."""
        query = {
            "limit": limit,
            "status": ",".join(statuses) or None,
            "initiator": None if initiator is None else str(initiator),
        }
        path = f"/organizations/{organization_id}/provisionerjobs"
        return await self.client.get_list(path, list[jobs.ProvisionerJob], query)

    async def job(self, organization_id: UUID, job_id: UUID) -> jobs.ProvisionerJob:
        """Get a job."""
        path = f"/organizations/{organization_id}/provisionerjobs/{job_id}"
        return await self.client.get(path, jobs.ProvisionerJob)

    async def cancel(self, job: jobs.ProvisionerJob) -> None:
        """Ask for a job to be canceled; the route for that depends on what it is for.

        Raises:
            Invalid: it is a kind of job that cannot be canceled.
        """
        version, build = job.input.template_version_id, job.input.workspace_build_id
        match job.type:
            case "workspace_build" if build is not None:
                path = f"/workspacebuilds/{build}/cancel"
            case "template_version_import" if version is not None:
                path = f"/templateversions/{version}/cancel"
            case "template_version_dry_run" if version is not None:
                path = f"/templateversions/{version}/dry-run/{job.id}/cancel"
            case _:
                raise Invalid(f"jobs of the type `{job.type}` cannot be canceled")
        await self.client.call("PATCH", path)

    async def keys(self, organization_id: UUID) -> list[jobs.ProvisionerKey]:
        """List the keys of an organization."""
        path = f"/organizations/{organization_id}/provisionerkeys"
        return await self.client.get_list(path, list[jobs.ProvisionerKey])

    async def create_key(self, organization_id: UUID, name: str, tags: Mapping[str, str]) -> str:
        """Make a key; return its secret, which is shown only once."""
        request = jobs.CreateProvisionerKey(name=name, tags=dict(tags))
        path = f"/organizations/{organization_id}/provisionerkeys"
        return (await self.client.post(path, _CreatedKey, request)).key

    async def delete_key(self, organization_id: UUID, name: str) -> None:
        """Remove a key."""
        await self.client.call("DELETE", f"/organizations/{organization_id}/provisionerkeys/{segment(name)}")

    async def own_key(self) -> jobs.ProvisionerKey:
        """Get the key that this client carries in `KEY_HEADER`; the path may name it too, but paths end up in logs.

        Raises:
            Unauthenticated: there is none.
        """
        return await self.client.get("/provisionerkeys/own", jobs.ProvisionerKey)
