"""What a daemon is given to do a job."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from psycopg import AsyncConnection

from warren.domain.build import Transition
from warren.domain.job import Job, JobType
from warren.errors import Invalid
from warren.rpc._pb import provisioner_pb2 as pb
from warren.rpc._pb import provisionerd_pb2 as pbd
from warren.services import build_tokens
from warren.storage import build_owners, builds, files, template_versions, templates, workspaces
from warren.storage.build_owners import Owner
from warren.storage.notify import publish

MESSAGE_LIMIT_BYTES = 4 << 20  # the protocol's; the source archive travels inside the message

_TRANSITIONS = {
    Transition.START: pb.WorkspaceTransition.START,
    Transition.STOP: pb.WorkspaceTransition.STOP,
    Transition.DELETE: pb.WorkspaceTransition.DESTROY,
}


@dataclass(frozen=True, slots=True)
class PayloadSettings:
    """What builds are told of the deployment."""

    access_url: str
    token_lifetime: timedelta


async def announce_start(db: AsyncConnection, job: Job) -> None:
    """Wake whoever watches the workspace that a job builds."""
    if job.type is JobType.BUILD:
        build = await builds.get_of_job(db, job.id)
        await publish(db, "workspace", build.workspace_id)


async def build(db: AsyncConnection, job: Job, settings: PayloadSettings, now: datetime) -> pbd.AcquiredJob:
    """Gather all that a job needs.

    Raises:
        WarrenError: it cannot be done; the message says why.
    """
    source = await files.get(db, job.file_id)
    owner = await build_owners.get(db, job.initiator_id, job.organization_id)
    payload = pbd.AcquiredJob(
        job_id=str(job.id),
        created_at=int(job.created_at.timestamp() * 1000),
        provisioner=job.provisioner,
        user_name=owner.username,
        template_source_archive=source.content,
    )
    match job.type:
        case JobType.IMPORT:
            payload.template_import.CopyFrom(_import(job, settings))
        case JobType.DRY_RUN:
            payload.template_dry_run.CopyFrom(await _dry_run(db, job, settings))
        case JobType.BUILD:
            payload.workspace_build.CopyFrom(await _build(db, job, settings, now))
    if payload.ByteSize() > MESSAGE_LIMIT_BYTES:
        size = payload.ByteSize() / (1 << 20)
        raise Invalid(f"the template's files and state are {size:.1f} MiB together; a job can carry 4 MiB")
    return payload


def _import(job: Job, settings: PayloadSettings) -> pbd.AcquiredJob.TemplateImport:
    return pbd.AcquiredJob.TemplateImport(
        metadata=pb.Metadata(coder_url=settings.access_url, workspace_owner_groups=["Everyone"]),
        user_variable_values=[
            pb.VariableValue(name=name, value=value) for name, value in pairs(job.input, "user_variable_values")
        ],
    )


async def _dry_run(db: AsyncConnection, job: Job, settings: PayloadSettings) -> pbd.AcquiredJob.TemplateDryRun:
    version_id = UUID(str(job.input["template_version_id"]))
    return pbd.AcquiredJob.TemplateDryRun(
        rich_parameter_values=[
            pb.RichParameterValue(name=name, value=value) for name, value in pairs(job.input, "rich_parameter_values")
        ],
        variable_values=await _variables(db, version_id),
        metadata=pb.Metadata(
            coder_url=settings.access_url, workspace_name=str(job.input.get("workspace_name") or "dryrun")
        ),
    )


def pairs(value: Mapping[str, object], key: str) -> Sequence[tuple[str, str]]:
    """Read a list of names and values from a job's input."""
    found = value.get(key)
    # Written by us as a list of pairs, see `services.template_versions`.
    return [(str(name), str(text)) for name, text in found] if isinstance(found, list) else []  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]


async def _variables(db: AsyncConnection, version_id: UUID) -> Sequence[pb.VariableValue]:
    return [
        pb.VariableValue(name=variable.name, value=variable.value, sensitive=variable.sensitive)
        for variable in await template_versions.list_variables(db, version_id)
        if variable.passed
    ]


async def _build(
    db: AsyncConnection, job: Job, settings: PayloadSettings, now: datetime
) -> pbd.AcquiredJob.WorkspaceBuild:
    found = await builds.get_of_job(db, job.id)
    workspace = await workspaces.get(db, found.workspace_id)
    template = await templates.get(db, workspace.template_id)
    version = await template_versions.get(db, found.template_version_id)
    owner = await build_owners.get(db, workspace.owner_id, workspace.organization_id)
    token = await build_tokens.replace(
        db,
        owner_id=owner.id,
        workspace_id=workspace.id,
        transition=found.transition,
        lifetime=settings.token_lifetime,
        now=now,
    )
    modules_id = (
        None
        if template.settings.disable_module_cache
        else (await template_versions.get_module_files_id(db, version.id))
    )
    metadata = _owner_metadata(owner)
    metadata.MergeFrom(
        pb.Metadata(
            coder_url=settings.access_url,
            workspace_transition=_TRANSITIONS[found.transition],
            workspace_name=workspace.name,
            workspace_id=str(workspace.id),
            workspace_owner_session_token=token,
            template_id=str(template.id),
            template_name=template.settings.name,
            template_version=version.name,
            template_version_id=str(version.id),
            workspace_build_id=str(found.id),
            template_version_modules_file=str(modules_id or ""),
        )
    )
    values = await builds.get_parameters(db, found.id)
    previous = await builds.get_previous_parameters(db, workspace.id, found.build_number)
    return pbd.AcquiredJob.WorkspaceBuild(
        workspace_build_id=str(found.id),
        workspace_name=workspace.name,
        rich_parameter_values=[pb.RichParameterValue(name=n, value=v) for n, v in values.items()],
        previous_parameter_values=[pb.RichParameterValue(name=n, value=v) for n, v in previous.items()],
        variable_values=await _variables(db, version.id),
        metadata=metadata,
        state=await builds.get_state(db, found.id),
        log_level=str(job.input.get("log_level") or ""),
    )


def _owner_metadata(owner: Owner) -> pb.Metadata:
    roles = [pb.Role(name=name) for name in ("member", *owner.roles)]
    organization_id = str(owner.organization_id)
    roles += [pb.Role(name=name, org_id=organization_id) for name in ("organization-member", *owner.organization_roles)]
    return pb.Metadata(
        workspace_owner=owner.username,
        workspace_owner_id=str(owner.id),
        workspace_owner_email=owner.email,
        workspace_owner_name=owner.name,
        workspace_owner_groups=list(owner.groups),
        workspace_owner_ssh_public_key=owner.ssh_public_key,
        workspace_owner_ssh_private_key=owner.ssh_private_key,
        workspace_owner_login_type=owner.login_type,
        workspace_owner_rbac_roles=roles,
    )
