"""Queueing a build: what it is made from, which values it gets, with what state it begins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID, uuid4

import structlog
from psycopg import AsyncConnection

from warren.domain import parameter, tags
from warren.domain import template as template_rules
from warren.domain.build import Build, Deny, Enqueue, Transition, decide, reason_of
from warren.domain.job import Job, JobType
from warren.domain.parameter import Answers, Preset
from warren.domain.template import Template, TemplateVersion
from warren.domain.workspace import Workspace
from warren.errors import Conflict, Forbidden, Invalid, Violation, WarrenError
from warren.services.jobs import POSTED
from warren.storage import builds, jobs, template_versions, templates, workspaces
from warren.storage.jobs import NewJob
from warren.storage.notify import publish

log = structlog.get_logger()

TOPIC = "workspace"


@dataclass(frozen=True, slots=True)
class FollowUp:
    """A build that is to be queued when another one succeeds."""

    transition: Transition
    template_version_id: UUID | None
    preset_id: UUID | None
    parameters: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class NewBuild:
    """A build that somebody asks for."""

    transition: Transition
    template_version_id: UUID | None = None
    preset_id: UUID | None = None
    parameters: Mapping[str, str] | None = None
    state: bytes | None = None
    orphan: bool = False
    log_level: str = ""
    reason: str = ""
    follow_up: FollowUp | None = None


@dataclass(frozen=True, slots=True)
class Requester:
    """Who asks for a build, and whether they manage its template."""

    user_id: UUID
    manager: bool


async def enqueue(
    db: AsyncConnection,
    requester: Requester,
    workspace: Workspace,
    template: Template,
    wanted: NewBuild,
    now: datetime,
) -> Build:
    """Insert a build and its job for a workspace that the caller holds locked.

    Raises:
        Conflict: another build is active, or the workspace is deleted.
        Invalid: the version or the parameters cannot be used.
        Forbidden: the template insists on another version.
    """
    latest = await builds.find_latest(db, workspace.id)
    match decide(latest, wanted.transition, deleted=workspace.deleted):
        case Deny(message, detail):
            raise Conflict(message, detail=detail)
        case Enqueue(number):
            pass
    previous = await builds.get_of_number(db, workspace.id, number - 1) if number > 1 else None
    version = await _version(db, requester, template, wanted, previous)
    imported = await jobs.get(db, version.job_id)
    template_rules.check_imported(imported.status, imported.error)
    values, preset = await _parameters(db, workspace, template, version, wanted, number)
    build_id = uuid4()
    job = await _insert_job(db, requester, workspace, imported, wanted, build_id=build_id, now=now)
    build = Build(
        id=build_id,
        workspace_id=workspace.id,
        template_version_id=version.id,
        template_version_preset_id=preset.id if preset else None,
        job_id=job.id,
        initiator_id=requester.user_id,
        build_number=number,
        transition=wanted.transition,
        reason=reason_of(wanted.reason, wanted.transition),
        daily_cost=0,
        deadline=None,
        max_deadline=None,
        has_ai_task=None,
        has_external_agent=None,
        created_at=now,
        updated_at=now,
    )
    await builds.insert(db, build, await _state(db, wanted, previous), values)
    await publish(db, POSTED, workspace.organization_id)
    await publish(db, TOPIC, workspace.id)
    return build


async def _insert_job(
    db: AsyncConnection,
    requester: Requester,
    workspace: Workspace,
    imported: Job,
    wanted: NewBuild,
    *,
    build_id: UUID,
    now: datetime,
) -> Job:
    return await jobs.insert(
        db,
        NewJob(
            id=uuid4(),
            organization_id=workspace.organization_id,
            initiator_id=requester.user_id,
            type=JobType.BUILD,
            file_id=imported.file_id,
            input={
                "workspace_build_id": str(build_id),
                "log_level": wanted.log_level,
                "on_success": _stored(wanted.follow_up, requester),
            },
            tags=tags.scoped(imported.tags, workspace.owner_id),
            created_at=now,
            provisioner=imported.provisioner,
        ),
    )


async def _version(
    db: AsyncConnection, requester: Requester, template: Template, wanted: NewBuild, previous: Build | None
) -> TemplateVersion:
    version_id = wanted.template_version_id
    if version_id is None:
        version_id = previous.template_version_id if previous else template.active_version_id
    version = await template_versions.find(db, version_id)
    if version is None:
        violation = Violation("template_version_id", "template version not found")
        raise Invalid(f'Template version "{version_id}" does not exist.', violations=[violation])
    if version.template_id != template.id:
        raise Invalid("template version doesn't match template")
    wrong = version_id != template.active_version_id and template.settings.require_active_version
    if wrong and wanted.transition is Transition.START and not requester.manager:
        raise Forbidden(f"cannot use non-active version: {version.name}")
    return version


async def _parameters(
    db: AsyncConnection,
    workspace: Workspace,
    template: Template,
    version: TemplateVersion,
    wanted: NewBuild,
    number: int,
) -> tuple[Mapping[str, str], Preset | None]:
    known = await template_versions.list_parameters(db, version.id)
    presets = await template_versions.list_presets(db, version.id)
    chosen = None
    if wanted.preset_id is not None:
        chosen = next((preset for preset in presets if preset.id == wanted.preset_id), None)
        if chosen is None:
            violation = Violation("template_version_preset_id", "no such preset of the template version")
            raise Invalid("Preset does not exist.", violations=[violation])
    answers = Answers(
        requested=wanted.parameters or {},
        preset=chosen.parameters if chosen else {},
        previous=await builds.get_previous_parameters(db, workspace.id, number),
        first_build=number == 1,
    )
    resolve = parameter.resolve_classic if template.settings.use_classic_parameter_flow else parameter.resolve
    values = resolve(known, answers)
    return values, chosen or parameter.match_preset(presets, values)


async def _state(db: AsyncConnection, wanted: NewBuild, previous: Build | None) -> bytes:
    if wanted.orphan:
        return b""  # nothing that Terraform knows of, so nothing that it destroys
    if wanted.state is not None:
        return wanted.state
    return await builds.get_state(db, previous.id) if previous else b""


# Follow-up builds -----------------------------------------------------------------------------------------------------


def _stored(wanted: FollowUp | None, requester: Requester) -> list[object] | None:
    if wanted is None:
        return None
    return [
        wanted.transition.value,
        str(wanted.template_version_id or ""),
        str(wanted.preset_id or ""),
        list(wanted.parameters.items()),
        requester.manager,
    ]


async def follow_up(db: AsyncConnection, job: Job, now: datetime) -> None:
    """Queue the build that was asked for once this one has succeeded; one that cannot be queued is given up."""
    stored = job.input.get("on_success")
    if not isinstance(stored, list):
        return
    # Written by `_stored`.
    transition, version, preset, values, manager = stored  # pyright: ignore[reportUnknownVariableType]
    wanted = NewBuild(
        Transition(transition),
        template_version_id=UUID(version) if version else None,  # pyright: ignore[reportUnknownArgumentType]
        preset_id=UUID(preset) if preset else None,  # pyright: ignore[reportUnknownArgumentType]
        parameters=dict(values),  # pyright: ignore[reportUnknownArgumentType]
    )
    build = await builds.get_of_job(db, job.id)
    workspace = await workspaces.lock(db, build.workspace_id)
    template = await templates.get(db, workspace.template_id)
    try:
        async with db.transaction():
            await enqueue(db, Requester(job.initiator_id, manager=bool(manager)), workspace, template, wanted, now)  # pyright: ignore[reportUnknownArgumentType]
    except WarrenError as error:
        log.warning("build.follow_up_failed", workspace_id=str(workspace.id), error=error.message)
