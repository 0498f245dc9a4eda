"""What jobs bring: storing it so that either all of it is there or nothing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from psycopg import AsyncConnection

from warren.domain.build import Deadlines, Transition, deadlines
from warren.domain.job import Job, JobType
from warren.domain.template import Template
from warren.domain.workspace import Workspace, next_start
from warren.errors import Invalid
from warren.rpc import convert_provisioner as convert
from warren.rpc._pb import provisioner_pb2 as pb
from warren.rpc._pb import provisionerd_pb2 as pbd
from warren.services.job_payload import pairs
from warren.services.jobs import announce_end
from warren.storage import builds, files, job_logs, resources, template_versions, templates, workspaces
from warren.storage.job_logs import Timing
from warren.storage.notify import publish


async def announce(db: AsyncConnection, job: Job) -> None:
    """Tell all who wait that a job has ended."""
    await announce_end(db, job.id)
    if job.type is JobType.BUILD:
        await publish(db, "workspace", (await builds.get_of_job(db, job.id)).workspace_id)


def version_of(job: Job) -> UUID:
    """Tell which template version an import or a dry run is about."""
    return UUID(str(job.input["template_version_id"]))


def timings(job_id: UUID, messages: Iterable[pb.Timing]) -> Sequence[Timing]:
    """Read how long the steps of a job took."""
    return [
        Timing(
            job_id,
            convert.moment(message.start),
            convert.moment(message.end),
            message.stage,
            message.source,
            message.action,
            message.resource,
        )
        for message in messages
    ]


# Imports --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Parsed:
    """The values of a template's variables, and the names of required ones that have none."""

    values: Sequence[pb.VariableValue] = ()
    missing: Sequence[str] = ()


async def store_parsed(db: AsyncConnection, job: Job, request: pbd.UpdateJobRequest) -> Parsed:
    """Store what was read in a template's source, also where values are missing: clients ask for those by name."""
    version_id = version_of(job)
    if request.readme:
        await template_versions.set_readme(db, version_id, request.readme.decode(errors="replace"))
    if request.workspace_tags:
        await template_versions.replace_tags(db, version_id, dict(request.workspace_tags))
    if not request.template_variables:
        return Parsed()
    given = dict(pairs(job.input, "user_variable_values"))
    given |= {value.name: value.value for value in request.user_variable_values}
    variables = convert.variables(request.template_variables, given)
    missing = [variable.name for variable in variables if variable.required and not variable.value]
    await template_versions.replace_variables(db, version_id, variables)
    values = [
        pb.VariableValue(name=variable.name, value=variable.value, sensitive=variable.sensitive)
        for variable in variables
    ]
    return Parsed(values, missing)


async def store_import(
    db: AsyncConnection,
    job: Job,
    result: pbd.CompletedJob.TemplateImport,
    now: datetime,
    *,
    api_version: str,
    external_auth_ids: frozenset[str],
) -> str:
    """Store what an import found; return why the import counts as failed all the same, or nothing."""
    version_id = version_of(job)
    for transition, found, modules in (
        (Transition.START, result.start_resources, result.start_modules),
        (Transition.STOP, result.stop_resources, ()),
    ):
        for resource in convert.resources(found):
            await resources.insert(db, job.id, transition, resource, now, workspace_id=None)
        await resources.insert_modules(db, job.id, transition, convert.modules(modules))
    await template_versions.insert_parameters(db, version_id, convert.parameters(result.rich_parameters))
    await template_versions.insert_presets(db, version_id, convert.presets(result.presets))
    providers = convert.external_auth(result.external_auth_providers)
    await template_versions.finish_import(
        db,
        version_id,
        external_auth=providers,
        plan=_json(result.plan),
        module_files_id=await _module_files(db, result, now),
        has_ai_task=result.has_ai_tasks,
        has_external_agent=result.has_external_agents,
        api_version=api_version,
        now=now,
    )
    unknown = next((provider.id for provider in providers if provider.id not in external_auth_ids), None)
    return "" if unknown is None else f'external auth provider "{unknown}" is not configured'


def _json(plan: bytes) -> object:
    if not plan:
        return None
    try:
        return json.loads(plan.replace(b"\\u0000", b""))  # PostgreSQL's JSON cannot hold NUL
    except ValueError as error:
        raise Invalid("the plan is not JSON") from error


async def _module_files(db: AsyncConnection, result: pbd.CompletedJob.TemplateImport, now: datetime) -> UUID | None:
    if result.module_files:
        if result.module_files_hash and hashlib.sha256(result.module_files).digest() != result.module_files_hash:
            raise Invalid("the module files are not those of the hash")
        return (await files.store(db, result.module_files, files.NOBODY, now)).id
    if result.module_files_hash:
        return await files.find_same(db, result.module_files_hash, files.NOBODY)
    return None


async def store_dry_run(db: AsyncConnection, job: Job, result: pbd.CompletedJob.TemplateDryRun, now: datetime) -> None:
    """Store what a dry run would make."""
    for resource in convert.resources(result.resources):
        await resources.insert(db, job.id, Transition.START, resource, now, workspace_id=None)
    await resources.insert_modules(db, job.id, Transition.START, convert.modules(result.modules))


# Builds ---------------------------------------------------------------------------------------------------------------


async def keep_state(db: AsyncConnection, job: Job, state: bytes, now: datetime) -> None:
    """Store what Terraform wrote of the state; a build that wrote none keeps the state it began with."""
    if state:
        build = await builds.get_of_job(db, job.id)
        await builds.set_state(db, build.id, state, now)


async def store_build(db: AsyncConnection, job: Job, result: pbd.CompletedJob.WorkspaceBuild, now: datetime) -> None:
    """Store what a build made, and what follows for its workspace."""
    build = await builds.get_of_job(db, job.id)
    workspace = await workspaces.lock(db, build.workspace_id)
    template = await templates.get(db, workspace.template_id)
    # An empty state is news here: a destroy leaves nothing.
    await builds.set_state(db, build.id, result.state, now)
    for resource in convert.resources(result.resources):
        await resources.insert(db, job.id, build.transition, resource, now, workspace_id=workspace.id)
    await resources.insert_modules(db, job.id, build.transition, convert.modules(result.modules))
    await job_logs.insert_timings(db, timings(job.id, result.timings))
    ends = _deadlines(workspace, template, now)
    await builds.finish(
        db,
        build.id,
        deadline=ends.deadline,
        max_deadline=ends.max_deadline,
        has_ai_task=bool(result.ai_tasks),
        has_external_agent=any(resource.type == "coder_external_agent" for resource in result.resources),
        now=now,
    )
    deleted = build.transition is Transition.DELETE
    await resources.delete_old_agents(db, workspace.id, except_job=None if deleted else job.id)
    if deleted:
        await workspaces.mark_deleted(db, workspace.id, now)
    elif build.transition is Transition.START:
        due = next_start(
            workspace,
            now,
            allowed_days=template.settings.autostart_days_of_week,
            allowed=template.settings.allow_user_autostart,
        )
        await workspaces.set_next_start(db, workspace.id, due)


def _deadlines(workspace: Workspace, template: Template, now: datetime) -> Deadlines:
    if template.settings.allow_user_autostop:
        ttl = workspace.ttl
    else:
        ttl = timedelta(milliseconds=template.settings.default_ttl_ms)
    schedule = workspace.schedule if template.settings.allow_user_autostart else None
    return deadlines(now, ttl, schedule, autostart_days=template.settings.autostart_days_of_week)
