"""Jobs, their logs and daemons as clients see them."""

from __future__ import annotations

from uuid import UUID

from warren.domain.job import Job, QueuePlace, StoredLogLine
from warren.domain.workspace import JobView
from warren.sdk.types import jobs as wire
from warren.sdk.types.base import NIL_UUID
from warren.services.jobs import Queue
from warren.storage.jobs import JobNames, ListedJob
from warren.storage.provisioner_daemons import DaemonJob, ListedDaemon, Matched
from warren.storage.provisioner_keys import Key

_NO_NAMES = wire.JobMetadata(
    template_version_name="", template_id=NIL_UUID, template_name="", template_display_name="", template_icon=""
)


def job(view: JobView, queue: Queue) -> wire.ProvisionerJob:
    """Convert a job that is part of a version or build; clients look for names only in the list for operators."""
    return _job(JobView(view.job), queue.place(view.job), _NO_NAMES)


def _job(view: JobView, place: QueuePlace, names: wire.JobMetadata) -> wire.ProvisionerJob:
    found = view.job
    return wire.ProvisionerJob(
        id=found.id,
        created_at=found.created_at,
        status=found.status.value,
        file_id=found.file_id,
        tags=dict(found.tags),
        queue_position=place.position,
        queue_size=place.size,
        organization_id=found.organization_id,
        initiator_id=found.initiator_id,
        input=_input(found),
        type=found.type.value,
        metadata=names,
        logs_overflowed=found.logs_overflowed,
        started_at=found.started_at,
        completed_at=found.completed_at,
        canceled_at=found.canceled_at,
        error=found.error,
        error_code=found.error_code,
        worker_id=found.worker_id,
        worker_name=view.worker_name,
    )


def _input(found: Job) -> wire.JobInput:
    version, build = found.input.get("template_version_id"), found.input.get("workspace_build_id")
    return wire.JobInput(
        template_version_id=UUID(str(version)) if version else None,
        workspace_build_id=UUID(str(build)) if build else None,
    )


def listed_job(found: ListedJob, queue: Queue) -> wire.ProvisionerJob:
    """Convert a job of the list for operators."""
    return _job(found.view, queue.place(found.view.job), _names(found.names))


def _names(names: JobNames) -> wire.JobMetadata:
    return wire.JobMetadata(
        template_version_name=names.template_version_name,
        template_id=names.template_id or NIL_UUID,
        template_name=names.template_name,
        template_display_name=names.template_display_name,
        template_icon=names.template_icon,
        workspace_id=names.workspace_id,
        workspace_name=names.workspace_name,
        workspace_build_transition=names.workspace_build_transition,
    )


def log_line(line: StoredLogLine) -> wire.ProvisionerJobLog:
    """Convert a line of a job's log."""
    return wire.ProvisionerJobLog(
        id=line.id,
        created_at=line.created_at,
        log_source=line.source.value,
        log_level=line.level.value,
        stage=line.stage,
        output=line.output,
    )


def matched(found: Matched) -> wire.MatchedProvisioners:
    """Convert how many daemons can take a job."""
    return wire.MatchedProvisioners(
        count=found.count, available=found.available, most_recently_seen=found.most_recently_seen
    )


def daemon(found: ListedDaemon) -> wire.ProvisionerDaemon:
    """Convert a daemon of the list for operators."""
    status = "offline" if not found.live else "busy" if found.current_job else "idle"
    return wire.ProvisionerDaemon(
        id=found.daemon.id,
        organization_id=found.daemon.organization_id,
        key_id=found.daemon.key_id,
        created_at=found.daemon.created_at,
        last_seen_at=found.daemon.last_seen_at,
        name=found.daemon.name,
        version=found.daemon.version,
        api_version=found.daemon.api_version,
        provisioners=list(found.daemon.provisioners),
        tags=dict(found.daemon.tags),
        key_name=found.key_name,
        status=status,
        current_job=_daemon_job(found.current_job),
        previous_job=_daemon_job(found.previous_job),
    )


def _daemon_job(found: DaemonJob | None) -> wire.DaemonJob | None:
    if found is None:
        return None
    return wire.DaemonJob(
        id=found.id,
        status=found.status,
        template_name=found.template_name,
        template_icon=found.template_icon,
        template_display_name=found.template_display_name,
    )


def key(found: Key) -> wire.ProvisionerKey:
    """Convert a provisioner key."""
    return wire.ProvisionerKey(
        id=found.id,
        created_at=found.created_at,
        organization=found.organization_id,
        name=found.name,
        tags=dict(found.tags),
    )
