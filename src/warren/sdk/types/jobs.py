"""Provisioner jobs, their logs, daemons and keys."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from warren.sdk.types.base import Sparse, Wire


class JobInput(Sparse, frozen=True):
    """What a job is for."""

    template_version_id: UUID | None = None
    workspace_build_id: UUID | None = None
    error: str = ""


class JobMetadata(Sparse, frozen=True):
    """Names of what a job is for."""

    template_version_name: str
    template_id: UUID
    template_name: str
    template_display_name: str
    template_icon: str
    workspace_id: UUID | None = None
    workspace_name: str = ""
    workspace_build_transition: str = ""


class ProvisionerJob(Sparse, frozen=True):
    """A piece of long work."""

    id: UUID
    created_at: datetime
    status: str
    file_id: UUID
    tags: dict[str, str]
    queue_position: int
    queue_size: int
    organization_id: UUID
    initiator_id: UUID
    input: JobInput
    type: str
    metadata: JobMetadata
    logs_overflowed: bool
    started_at: datetime | None = None
    completed_at: datetime | None = None
    canceled_at: datetime | None = None
    error: str = ""
    error_code: str = ""
    worker_id: UUID | None = None
    worker_name: str = ""
    available_workers: list[UUID] = []


class ProvisionerJobLog(Wire, frozen=True):
    """One line of a job's log."""

    id: int
    created_at: datetime
    log_source: str
    log_level: str
    stage: str
    output: str


class MatchedProvisioners(Wire, frozen=True):
    """How many daemons can take a job."""

    count: int
    available: int
    most_recently_seen: datetime | None


class DaemonJob(Wire, frozen=True):
    """The job a daemon has or had."""

    id: UUID
    status: str
    template_name: str
    template_icon: str
    template_display_name: str


class ProvisionerDaemon(Wire, frozen=True):
    """A process that takes jobs."""

    id: UUID
    organization_id: UUID
    key_id: UUID
    created_at: datetime
    last_seen_at: datetime | None
    name: str
    version: str
    api_version: str
    provisioners: list[str]
    tags: dict[str, str]
    key_name: str | None
    status: str | None
    current_job: DaemonJob | None
    previous_job: DaemonJob | None


class ProvisionerKey(Wire, frozen=True):
    """A key that external daemons sign in with."""

    id: UUID
    created_at: datetime
    organization: UUID
    name: str
    tags: dict[str, str]


class ProvisionerKeyDaemons(Wire, frozen=True):
    """A key and the daemons that signed in with it."""

    key: ProvisionerKey
    daemons: list[ProvisionerDaemon]


class CreateProvisionerKey(Sparse, frozen=True):
    """Create a provisioner key."""

    name: str
    tags: dict[str, str] | None = None
