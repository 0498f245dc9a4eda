"""Templates, their versions, and uploaded files."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from uuid import UUID

import msgspec

from warren.sdk.client import Client, segment
from warren.sdk.types import jobs, templates, workspaces
from warren.sdk.types.base import NIL_UUID
from warren.sdk.types.deployment import FileUploaded


@dataclass(frozen=True, slots=True)
class Templates:
    """Templates, versions and files."""

    client: Client

    async def list(self, query: str = "") -> list[templates.Template]:
        """List the templates that match a search."""
        return await self.client.get("/templates", list[templates.Template], {"q": query})

    async def get(self, template_id: UUID) -> templates.Template:
        """Get a template."""
        return await self.client.get(f"/templates/{template_id}", templates.Template)

    async def by_name(self, organization_id: UUID, name: str) -> templates.Template:
        """Get a template of an organization by its name."""
        return await self.client.get(f"/organizations/{organization_id}/templates/{segment(name)}", templates.Template)

    async def create(self, organization_id: UUID, request: templates.CreateTemplate) -> templates.Template:
        """Make a template from an imported version."""
        return await self.client.post(f"/organizations/{organization_id}/templates", templates.Template, request)

    async def update(self, template_id: UUID, request: templates.UpdateTemplate) -> None:
        """Change a template."""
        await self.client.call("PATCH", f"/templates/{template_id}", body=request)

    async def delete(self, template_id: UUID) -> None:
        """Delete a template."""
        await self.client.call("DELETE", f"/templates/{template_id}")

    async def promote(self, template_id: UUID, version_id: UUID) -> None:
        """Make a version the active one."""
        body = templates.UpdateActiveVersion(id=version_id)
        await self.client.call("PATCH", f"/templates/{template_id}/versions", body=body)

    async def versions(self, template_id: UUID, *, archived: bool = False) -> list[templates.TemplateVersion]:
        """List the versions of a template."""
        query = {"include_archived": "true"} if archived else None
        return await self.client.get(f"/templates/{template_id}/versions", list[templates.TemplateVersion], query)

    async def version_by_name(self, template_id: UUID, name: str) -> templates.TemplateVersion:
        """Get a version of a template by its name."""
        return await self.client.get(f"/templates/{template_id}/versions/{segment(name)}", templates.TemplateVersion)

    async def archive_versions(self, template_id: UUID, *, every: bool) -> templates.ArchivedVersions:
        """Archive unused versions: the failed ones, or `every` unused one."""
        body = templates.ArchiveVersions(all=every)
        return await self.client.post(f"/templates/{template_id}/versions/archive", templates.ArchivedVersions, body)

    async def create_version(
        self, organization_id: UUID, request: templates.CreateTemplateVersion
    ) -> templates.TemplateVersion:
        """Import a version from an uploaded file."""
        path = f"/organizations/{organization_id}/templateversions"
        return await self.client.post(path, templates.TemplateVersion, request)

    async def version(self, version_id: UUID) -> templates.TemplateVersion:
        """Get a version."""
        return await self.client.get(f"/templateversions/{version_id}", templates.TemplateVersion)

    async def cancel_version(self, version_id: UUID) -> None:
        """Cancel the import of a version."""
        await self.client.call("PATCH", f"/templateversions/{version_id}/cancel")

    async def set_archived(self, version_id: UUID, *, archived: bool) -> None:
        """Archive or bring back a version."""
        await self.client.call("POST", f"/templateversions/{version_id}/{'archive' if archived else 'unarchive'}")

    async def version_logs(self, version_id: UUID, *, after: int = 0) -> AsyncGenerator[jobs.ProvisionerJobLog]:
        """Follow the log of a version's import until its job ends."""
        path = f"/templateversions/{version_id}/logs"
        async for message in self.client.messages(path, {"follow": "", "after": after or None}):
            yield msgspec.json.decode(message, type=jobs.ProvisionerJobLog)

    async def version_resources(self, version_id: UUID) -> list[workspaces.WorkspaceResource]:
        """List what a version would make."""
        return await self.client.get(f"/templateversions/{version_id}/resources", list[workspaces.WorkspaceResource])

    async def version_variables(self, version_id: UUID) -> list[templates.TemplateVersionVariable]:
        """List the Terraform variables of a version."""
        path = f"/templateversions/{version_id}/variables"
        return await self.client.get(path, list[templates.TemplateVersionVariable])

    async def rich_parameters(self, version_id: UUID) -> list[templates.TemplateVersionParameter]:
        """List the questions that a version asks."""
        path = f"/templateversions/{version_id}/rich-parameters"
        return await self.client.get(path, list[templates.TemplateVersionParameter])

    async def evaluate(
        self, version_id: UUID, inputs: dict[str, str], *, owner_id: UUID = NIL_UUID
    ) -> templates.DynamicParametersResponse:
        """Evaluate a version's parameters for these inputs."""
        path = f"/templateversions/{version_id}/dynamic-parameters/evaluate"
        request = templates.DynamicParametersRequest(id=1, inputs=inputs, owner_id=owner_id)
        return await self.client.post(path, templates.DynamicParametersResponse, request)

    async def external_auth(self, version_id: UUID) -> list[templates.TemplateVersionExternalAuth]:
        """List the third parties that a version needs the user to be signed in to."""
        path = f"/templateversions/{version_id}/external-auth"
        return await self.client.get(path, list[templates.TemplateVersionExternalAuth])

    async def presets(self, version_id: UUID) -> list[templates.Preset]:
        """List the presets of a version."""
        return await self.client.get_list(f"/templateversions/{version_id}/presets", list[templates.Preset])

    async def dry_run(self, version_id: UUID, request: templates.CreateDryRun) -> jobs.ProvisionerJob:
        """Plan a version for these values; nothing is built."""
        return await self.client.post(f"/templateversions/{version_id}/dry-run", jobs.ProvisionerJob, request)

    async def dry_run_job(self, version_id: UUID, job_id: UUID) -> jobs.ProvisionerJob:
        """Get the job of a dry run."""
        return await self.client.get(f"/templateversions/{version_id}/dry-run/{job_id}", jobs.ProvisionerJob)

    async def dry_run_logs(self, version_id: UUID, job_id: UUID) -> AsyncGenerator[jobs.ProvisionerJobLog]:
        """Follow the log of a dry run until its job ends."""
        path = f"/templateversions/{version_id}/dry-run/{job_id}/logs"
        async for message in self.client.messages(path, {"follow": ""}):
            yield msgspec.json.decode(message, type=jobs.ProvisionerJobLog)

    async def dry_run_resources(self, version_id: UUID, job_id: UUID) -> list[workspaces.WorkspaceResource]:
        """List what a dry run found."""
        path = f"/templateversions/{version_id}/dry-run/{job_id}/resources"
        return await self.client.get(path, list[workspaces.WorkspaceResource])

    async def upload(self, archive: bytes, *, content_type: str = "application/x-tar") -> UUID:
        """Upload an archive; return the id of the file."""
        answer = await self.client.call("POST", "/files", body=archive, content_type=content_type)
        return msgspec.json.decode(answer.body, type=FileUploaded).hash

    async def download(self, file_id: UUID, *, as_zip: bool = False) -> bytes:
        """Download an archive, as tar unless `as_zip`."""
        return (await self.client.call("GET", f"/files/{file_id}", query={"format": "zip" if as_zip else ""})).body
