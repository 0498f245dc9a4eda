"""Builds: the lifecycle of a workspace, decided without touching anything."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TypeAlias
from uuid import UUID

from warren.domain.job import JobStatus
from warren.domain.schedule import Weekly


class Transition(StrEnum):
    """What a build does to its workspace."""

    START = "start"
    STOP = "stop"
    DELETE = "delete"


class BuildReason(StrEnum):
    """Why a build was made."""

    INITIATOR = "initiator"
    AUTOSTART = "autostart"
    AUTOSTOP = "autostop"
    DORMANCY = "dormancy"
    AUTODELETE = "autodelete"
    DASHBOARD = "dashboard"
    CLI = "cli"
    SSH = "ssh_connection"
    VSCODE = "vscode_connection"
    JETBRAINS = "jetbrains_connection"


CLIENT_REASONS = frozenset(
    {BuildReason.CLI, BuildReason.DASHBOARD, BuildReason.SSH, BuildReason.VSCODE, BuildReason.JETBRAINS}
)
"""The reasons that a client may give for a start or a stop."""


class WorkspaceStatus(StrEnum):
    """How a workspace stands, by its latest build."""

    PENDING = "pending"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"
    CANCELING = "canceling"
    CANCELED = "canceled"
    DELETING = "deleting"
    DELETED = "deleted"


_RUNNING = {
    Transition.START: WorkspaceStatus.STARTING,
    Transition.STOP: WorkspaceStatus.STOPPING,
    Transition.DELETE: WorkspaceStatus.DELETING,
}
_SUCCEEDED = {
    Transition.START: WorkspaceStatus.RUNNING,
    Transition.STOP: WorkspaceStatus.STOPPED,
    Transition.DELETE: WorkspaceStatus.DELETED,
}


def status_of(job: JobStatus, transition: Transition) -> WorkspaceStatus:
    """Tell how a workspace stands whose latest build has this job and transition."""
    match job:
        case JobStatus.RUNNING:
            return _RUNNING[transition]
        case JobStatus.SUCCEEDED:
            return _SUCCEEDED[transition]
        case JobStatus.PENDING | JobStatus.CANCELING | JobStatus.CANCELED | JobStatus.FAILED:
            return WorkspaceStatus(job.value)


@dataclass(frozen=True, slots=True)
class Build:
    """One run of a template version for a workspace, as it is stored; its Terraform state is read apart."""

    id: UUID
    workspace_id: UUID
    template_version_id: UUID
    template_version_preset_id: UUID | None
    job_id: UUID
    initiator_id: UUID
    build_number: int
    transition: Transition
    reason: BuildReason
    daily_cost: int
    deadline: datetime | None
    max_deadline: datetime | None
    has_ai_task: bool | None
    has_external_agent: bool | None
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Latest:
    """What decides about the next build: the latest one and how its job stands."""

    number: int
    transition: Transition
    status: JobStatus


@dataclass(frozen=True, slots=True)
class Enqueue:
    """Insert a build with this number."""

    number: int


@dataclass(frozen=True, slots=True)
class Deny:
    """Refuse, and say why."""

    message: str
    detail: str = ""


Decision: TypeAlias = Enqueue | Deny

ALREADY_ACTIVE = "A workspace build is already active."


def decide(latest: Latest | None, wanted: Transition, *, deleted: bool) -> Decision:
    """Decide about a request for `wanted`, given the latest build.

    A start of a running workspace is allowed: it is an update in place.
    """
    if deleted:
        return Deny(f"Cannot {wanted} a deleted workspace!", "This workspace has been deleted and cannot be modified.")
    if latest is None:
        return Enqueue(1)
    if latest.status.active:
        return Deny(ALREADY_ACTIVE, ALREADY_ACTIVE)
    return Enqueue(latest.number + 1)


def reason_of(wanted: str, transition: Transition) -> BuildReason:
    """Read the reason that a client gives; one it may not give counts as none."""
    try:
        reason = BuildReason(wanted)
    except ValueError:
        return BuildReason.INITIATOR
    if transition is Transition.DELETE or reason not in CLIENT_REASONS:
        return BuildReason.INITIATOR
    return reason


@dataclass(frozen=True, slots=True)
class Deadlines:
    """When a build stops by itself, and the moment past which nothing moves that."""

    deadline: datetime | None = None
    max_deadline: datetime | None = None


def deadlines(
    completed_at: datetime, ttl: timedelta | None, autostart: Weekly | None, *, autostart_days: int
) -> Deadlines:
    """Say when a workspace stops that came up at `completed_at`.

    If its autostart comes before that, it runs through the day that the autostart begins.
    """
    if not ttl:
        return Deadlines()
    deadline = completed_at + ttl
    if autostart is not None:
        next_start = autostart.next(completed_at, allowed_days=autostart_days)
        if next_start is not None and next_start < deadline:
            deadline = next_start + ttl
    return Deadlines(deadline)
