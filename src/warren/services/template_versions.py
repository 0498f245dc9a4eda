"""Template versions: importing them, and reading what the import found."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID, uuid4

from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from warren.authz.policy import Action, Actor, Object
from warren.clock import Clock
from warren.domain import parameter, tags
from warren.domain import template as rules
from warren.domain.job import Job, JobStatus, JobType
from warren.domain.parameter import Evaluated, Parameter, Preset, Variable
from warren.domain.template import ExternalAuthProvider, Template, TemplateVersion
from warren.domain.workspace import JobView
from warren.errors import Conflict, Forbidden, Invalid, NotFound, Violation
from warren.services.build_views import BuildViews, ResourceView
from warren.services.jobs import NO_QUEUE, POSTED, Jobs, Queue
from warren.services.templates import as_object, get_readable
from warren.storage import (
    files,
    jobs,
    provisioner_daemons,
    template_versions,
    templates,
)
from warren.storage.jobs import NewJob
from warren.storage.notify import publish
from warren.storage.provisioner_daemons import Matched

_TAKEN = "This value is already in use and should be unique."


class TooEarly(Conflict):
    """Something is asked of a version whose import still runs."""


@dataclass(frozen=True, slots=True)
class VersionView:
    """A version, its job and who may run that."""

    version: TemplateVersion
    job: JobView
    queue: Queue
    matched: Matched | None = None


@dataclass(frozen=True, slots=True)
class NewVersion:
    """A version that is to be imported."""

    file_id: UUID
    name: str
    message: str
    template_id: UUID | None
    provisioner: str
    tags: Mapping[str, str]
    variables: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class NewDryRun:
    """A plan that is to be made without building anything."""

    workspace_name: str
    parameters: Mapping[str, str]


class TemplateVersions:
    """Use cases around template versions."""

    def __init__(self, pool: AsyncConnectionPool, clock: Clock, job_service: Jobs, views: BuildViews) -> None:
        self._pool = pool
        self._clock = clock
        self._jobs = job_service
        self._views = views

    # Making -----------------------------------------------------------------------------------------------------------

    async def create(self, actor: Actor, organization_id: UUID, wanted: NewVersion) -> VersionView:
        """Store a version and queue its import."""
        name = wanted.name or rules.generated_name(secrets.randbits(64))
        if problem := rules.version_name_problem(name):
            raise Invalid("Validation failed.", violations=[problem])
        async with self._pool.connection() as db:
            template = await self._template_of(db, actor, organization_id, wanted.template_id)
            uploader = await files.find_uploader(db, wanted.file_id)
            if uploader is None:
                raise NotFound("File not found.")
            actor.require(Action.READ, Object("file", id=wanted.file_id, owner_id=uploader))
            if template is not None and await template_versions.find_by_name(db, template.id, name):
                text = f'A template version with name "{name}" already exists for this template.'
                raise Conflict(text, violations=[Violation("name", _TAKEN)])
            job = await self._queue_import(db, actor, organization_id, wanted, template, version_id=(new_id := uuid4()))
            await template_versions.insert(
                db,
                version_id=new_id,
                template_id=wanted.template_id,
                organization_id=organization_id,
                job_id=job.id,
                name=name,
                message=wanted.message,
                created_by=actor.user_id,
                now=job.created_at,
            )
            version = await template_versions.get(db, new_id)
            matched = await provisioner_daemons.match(db, organization_id, job.tags, job.provisioner)
        return VersionView(version, JobView(job), NO_QUEUE, matched)

    async def _template_of(
        self, db: AsyncConnection, actor: Actor, organization_id: UUID, template_id: UUID | None
    ) -> Template | None:
        if template_id is None:
            actor.require(Action.CREATE, Object("template", org_id=organization_id))
            return None
        template = await get_readable(db, actor, template_id)
        if template.organization_id != organization_id:
            raise NotFound
        actor.require(Action.CREATE, as_object(template))
        return template

    async def _queue_import(
        self,
        db: AsyncConnection,
        actor: Actor,
        organization_id: UUID,
        wanted: NewVersion,
        template: Template | None,
        *,
        version_id: UUID,
    ) -> Job:
        variables: dict[str, str] = {}
        if template is not None:
            active = await template_versions.list_variables(db, template.active_version_id)
            # A value that equals its default was not chosen: the new version may bring another default.
            variables = {item.name: item.value for item in active if item.value != item.default_value}
        variables |= wanted.variables
        job = await jobs.insert(
            db,
            NewJob(
                id=uuid4(),
                organization_id=organization_id,
                initiator_id=actor.user_id,
                type=JobType.IMPORT,
                file_id=wanted.file_id,
                input={
                    "template_version_id": str(version_id),
                    "user_variable_values": list(variables.items()),
                },
                tags=tags.scoped(wanted.tags, actor.user_id),
                created_at=self._clock.now(),
                provisioner=wanted.provisioner,
            ),
        )
        await publish(db, POSTED, organization_id)
        return job

    async def store_example(self, actor: Actor, archive: bytes) -> UUID:
        """Store a starter template as a file of the caller; return its id."""
        async with self._pool.connection() as db:
            return (await files.store(db, archive, actor.user_id, self._clock.now())).id

    async def dry_run(self, actor: Actor, version_id: UUID, wanted: NewDryRun) -> JobView:
        """Queue a plan for parameters and tell its job."""
        async with self._pool.connection() as db:
            version, _ = await self._readable(db, actor, version_id)
            owned = Object("workspace", org_id=version.organization_id, owner_id=actor.user_id)
            actor.require(Action.CREATE, owned)
            imported = await jobs.get(db, version.job_id)
            self._require_imported(imported)
            job = await jobs.insert(
                db,
                NewJob(
                    id=uuid4(),
                    organization_id=version.organization_id,
                    initiator_id=actor.user_id,
                    type=JobType.DRY_RUN,
                    file_id=imported.file_id,
                    input={
                        "template_version_id": str(version_id),
                        "workspace_name": wanted.workspace_name,
                        "rich_parameter_values": list(wanted.parameters.items()),
                    },
                    tags=imported.tags,
                    created_at=self._clock.now(),
                    provisioner=imported.provisioner,
                ),
            )
            await publish(db, POSTED, version.organization_id)
        return JobView(job)

    # Changing ---------------------------------------------------------------------------------------------------------

    async def update(self, actor: Actor, version_id: UUID, *, name: str, message: str | None) -> VersionView:
        """Rename a version, or change its message."""
        async with self._pool.connection() as db:
            version = await self._updatable(db, actor, version_id)
            name = name or version.name
            if problem := rules.version_name_problem(name):
                raise Invalid("Validation failed.", violations=[problem])
            if version.template_id is not None:
                other = await template_versions.find_by_name(db, version.template_id, name)
                if other is not None and other.id != version_id:
                    raise Invalid(
                        f'A template version with name "{name}" already exists for this template.',
                        violations=[Violation("name", _TAKEN)],
                    )
            await template_versions.update(
                db,
                version_id,
                name=name,
                message=version.message if message is None else message,
                archived=version.archived,
                now=self._clock.now(),
            )
            return await self._view(db, await template_versions.get(db, version_id))

    async def set_archived(self, actor: Actor, version_id: UUID, *, archived: bool) -> None:
        """Archive a version, or restore it."""
        async with self._pool.connection() as db:
            version = await self._updatable(db, actor, version_id)
            rules.check_archive(version, archived=archived)
            await template_versions.update(
                db,
                version_id,
                name=version.name,
                message=version.message,
                archived=archived,
                now=self._clock.now(),
            )

    async def archive_unused(self, actor: Actor, template_id: UUID, *, all_unused: bool) -> Sequence[UUID]:
        """Archive the versions that nothing uses; only failed ones unless `all_unused`."""
        async with self._pool.connection() as db:
            template = await templates.lock(db, template_id)
            actor.require(Action.UPDATE, as_object(template))
            return await template_versions.archive_unused(db, template_id, all_unused=all_unused, now=self._clock.now())

    async def cancel(self, actor: Actor, version_id: UUID) -> None:
        """Cancel the import of a version."""
        async with self._pool.connection() as db:
            version = await self._updatable(db, actor, version_id)
            await self._jobs.cancel(db, await jobs.lock(db, version.job_id))

    async def cancel_dry_run(self, actor: Actor, version_id: UUID, job_id: UUID) -> None:
        """Cancel a dry run."""
        async with self._pool.connection() as db:
            job = await self._dry_run(db, actor, version_id, job_id)
            owned = Object("workspace", org_id=job.organization_id, owner_id=job.initiator_id)
            if not actor.may(Action.UPDATE, owned):
                raise NotFound
            await self._jobs.cancel(db, await jobs.lock(db, job_id))

    # Reading ----------------------------------------------------------------------------------------------------------

    async def get(self, actor: Actor, version_id: UUID) -> VersionView:
        """Read a version."""
        async with self._pool.connection() as db:
            version, _ = await self._readable(db, actor, version_id)
            return await self._view(db, version)

    async def get_by_name(self, actor: Actor, template_id: UUID, name: str) -> VersionView:
        """Read the version of a template that has this name."""
        async with self._pool.connection() as db:
            template = await get_readable(db, actor, template_id)
            return await self._view(db, await self._named(db, template, name))

    async def get_by_names(self, actor: Actor, organization_id: UUID, template_name: str, name: str) -> VersionView:
        """Read the version that has this name, of the template that has that one."""
        async with self._pool.connection() as db:
            template = await self._template_named(db, actor, organization_id, template_name)
            return await self._view(db, await self._named(db, template, name))

    async def get_previous(
        self, actor: Actor, organization_id: UUID, template_name: str, name: str
    ) -> VersionView | None:
        """Read the version before another one; nothing when that is the first."""
        async with self._pool.connection() as db:
            template = await self._template_named(db, actor, organization_id, template_name)
            previous = await template_versions.find_previous(db, await self._named(db, template, name))
            return None if previous is None else await self._view(db, previous)

    async def list(
        self,
        actor: Actor,
        template_id: UUID,
        *,
        include_archived: bool,
        after: UUID | None,
        limit: int,
        offset: int,
    ) -> Sequence[VersionView]:
        """List the versions of a template, oldest first."""
        async with self._pool.connection() as db:
            await get_readable(db, actor, template_id)
            if after is not None and await template_versions.find(db, after) is None:
                raise Invalid(f'Record at "after_id" ("{after}") does not exist.')
            found = await template_versions.list_of_template(
                db, template_id, include_archived=include_archived, after=after, limit=limit, offset=offset
            )
            queue = await self._jobs.queue(db, [view.job for _, view in found])
        return [VersionView(version, job, queue) for version, job in found]

    async def parameters(self, actor: Actor, version_id: UUID) -> Sequence[Parameter]:
        """List the parameters of an imported version."""
        async with self._pool.connection() as db:
            version, _ = await self._readable(db, actor, version_id)
            self._require_imported(await jobs.get(db, version.job_id))
            return await template_versions.list_parameters(db, version_id)

    async def evaluate(self, actor: Actor, version_id: UUID, inputs: Mapping[str, str]) -> Sequence[Evaluated]:
        """Say what the parameters of an imported version are for some inputs."""
        return parameter.evaluate(await self.parameters(actor, version_id), inputs)

    async def variables(self, actor: Actor, version_id: UUID) -> Sequence[Variable]:
        """List the variables of an imported version."""
        async with self._pool.connection() as db:
            version, _ = await self._readable(db, actor, version_id)
            if (await jobs.get(db, version.job_id)).completed_at is None:
                raise Forbidden("Template version import job has not finished. Try again later.")
            return await template_versions.list_variables(db, version_id)

    async def presets(self, actor: Actor, version_id: UUID) -> Sequence[Preset]:
        """List the presets of a version."""
        async with self._pool.connection() as db:
            await self._readable(db, actor, version_id)
            return await template_versions.list_presets(db, version_id)

    async def external_auth(self, actor: Actor, version_id: UUID) -> Sequence[ExternalAuthProvider]:
        """List the third parties that a version needs its users to be signed in to."""
        async with self._pool.connection() as db:
            await self._readable(db, actor, version_id)
            return await template_versions.list_external_auth(db, version_id)

    async def resources(self, actor: Actor, version_id: UUID) -> Sequence[ResourceView]:
        """List what a version would make."""
        async with self._pool.connection() as db:
            version, _ = await self._readable(db, actor, version_id)
            return await self._resources_of(db, await jobs.get(db, version.job_id))

    async def job_id(self, actor: Actor, version_id: UUID) -> UUID:
        """Tell which job imports a version, to one who may read its log."""
        async with self._pool.connection() as db:
            version, _ = await self._readable(db, actor, version_id)
            return version.job_id

    async def get_dry_run(self, actor: Actor, version_id: UUID, job_id: UUID) -> tuple[JobView, Queue]:
        """Read the job of a dry run."""
        async with self._pool.connection() as db:
            job = await self._dry_run(db, actor, version_id, job_id)
            return await jobs.get_view(db, job_id), await self._jobs.queue(db, [job])

    async def dry_run_resources(self, actor: Actor, version_id: UUID, job_id: UUID) -> Sequence[ResourceView]:
        """List what a dry run would make."""
        async with self._pool.connection() as db:
            return await self._resources_of(db, await self._dry_run(db, actor, version_id, job_id))

    async def dry_run_matched(self, actor: Actor, version_id: UUID, job_id: UUID) -> Matched:
        """Count the daemons that may run a dry run."""
        async with self._pool.connection() as db:
            job = await self._dry_run(db, actor, version_id, job_id)
            return await provisioner_daemons.match(db, job.organization_id, job.tags, job.provisioner)

    async def _dry_run(self, db: AsyncConnection, actor: Actor, version_id: UUID, job_id: UUID) -> Job:
        await self._readable(db, actor, version_id)
        job = await jobs.get(db, job_id)
        owned = Object("workspace", org_id=job.organization_id, owner_id=job.initiator_id)
        right_one = job.type is JobType.DRY_RUN and job.input.get("template_version_id") == str(version_id)
        if not right_one or not actor.may(Action.READ, owned):
            raise NotFound
        return job

    async def _view(self, db: AsyncConnection, version: TemplateVersion) -> VersionView:
        job = await jobs.get_view(db, version.job_id)
        queue = await self._jobs.queue(db, [job.job])
        matched = None
        if job.job.status is JobStatus.PENDING:
            matched = await provisioner_daemons.match(db, version.organization_id, job.job.tags, job.job.provisioner)
        return VersionView(version, job, queue, matched)

    async def _readable(self, db: AsyncConnection, actor: Actor, version_id: UUID) -> tuple[TemplateVersion, Object]:
        version = await template_versions.get(db, version_id)
        if version.template_id is None:
            about = Object("template", org_id=version.organization_id)
        else:
            about = as_object(await templates.get(db, version.template_id))
        if not actor.may(Action.READ, about):
            raise NotFound
        return version, about

    async def _updatable(self, db: AsyncConnection, actor: Actor, version_id: UUID) -> TemplateVersion:
        version, about = await self._readable(db, actor, version_id)
        actor.require(Action.UPDATE, about)
        return version

    async def _template_named(self, db: AsyncConnection, actor: Actor, organization_id: UUID, name: str) -> Template:
        template = await templates.find_by_name(db, organization_id, name)
        if template is None or not actor.may(Action.READ, as_object(template)):
            raise NotFound
        return template

    async def _named(self, db: AsyncConnection, template: Template, name: str) -> TemplateVersion:
        version = await template_versions.find_by_name(db, template.id, name)
        if version is None:
            raise NotFound(f'No template version found by name "{name}".')
        return version

    async def _resources_of(self, db: AsyncConnection, job: Job) -> Sequence[ResourceView]:
        if job.completed_at is None:
            raise Invalid("Job hasn't completed!")
        found = (await self._views.resources(db, [job.id]))[job.id]
        return sorted(found, key=lambda view: view.resource.name)

    def _require_imported(self, job: Job) -> None:
        if job.completed_at is None:
            raise TooEarly("Template version job has not finished")
