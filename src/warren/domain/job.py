"""Jobs: long work that a provisioner daemon takes, and the log it writes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from warren.domain import tags as job_tags
from warren.errors import Conflict, Invalid

LEASE = timedelta(seconds=10)  # two missed heartbeats of the slowest daemon (5 s): its worker is dead, or cut off
PENDING_LIMIT = timedelta(minutes=30)  # nobody waits longer for a daemon to appear
DAEMON_STALE = timedelta(seconds=90)  # one and a half of the 60 s between two signs of life
LOG_LIMIT_BYTES = 1 << 20  # per job; a runaway `local-exec` must not fill the database
STAGE_LIMIT = 128
OUTPUT_LIMIT = 1024

LOGS_OVERFLOWED = (
    "Provisioner logs exceeded the max size of 1MB. Will not continue to write provisioner logs for workspace build."
)


WORKER_LOST = "Build has been terminated: its provisioner daemon stopped renewing the lease on the job."
SERVER_RESTARTED = "Build has been terminated: the server that ran it was stopped and has come back."
NEVER_TAKEN = "Build has been pending for 30 minutes and has been terminated: no provisioner daemon took it."
REAPED = frozenset({WORKER_LOST, SERVER_RESTARTED})
"""The errors of jobs that were taken from a worker which may still have something to say."""


class JobStatus(StrEnum):
    """Where a job stands."""

    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    CANCELING = "canceling"
    CANCELED = "canceled"
    FAILED = "failed"

    @property
    def active(self) -> bool:
        """Say whether the job is still to end."""
        return self in (JobStatus.PENDING, JobStatus.RUNNING, JobStatus.CANCELING)


class JobType(StrEnum):
    """What a job is for."""

    IMPORT = "template_version_import"
    BUILD = "workspace_build"
    DRY_RUN = "template_version_dry_run"


class LogSource(StrEnum):
    """Who wrote a line: the daemon, or Terraform under it."""

    DAEMON = "provisioner_daemon"
    PROVISIONER = "provisioner"


class LogLevel(StrEnum):
    """How grave a line is."""

    TRACE = "trace"
    DEBUG = "debug"
    INFO = "info"
    WARN = "warn"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Job:
    """One piece of long work, as it is stored."""

    id: UUID
    organization_id: UUID
    initiator_id: UUID
    provisioner: str
    type: JobType
    file_id: UUID
    # JSON objects: the input differs by type and is read by the one who wrote it.
    input: Mapping[str, object]
    tags: Mapping[str, str]
    worker_id: UUID | None
    fence: int
    error: str
    error_code: str
    logs_overflowed: bool
    created_at: datetime
    updated_at: datetime
    started_at: datetime | None
    canceled_at: datetime | None
    completed_at: datetime | None
    status: JobStatus


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line that is to be stored."""

    created_at: datetime
    source: LogSource
    level: LogLevel
    stage: str
    output: str


@dataclass(frozen=True, slots=True)
class StoredLogLine:
    """One line of a job's log; `id` grows."""

    id: int
    created_at: datetime
    source: LogSource
    level: LogLevel
    stage: str
    output: str

    def text(self) -> str:
        """Format the line for people."""
        who = "provisioner|" + self.stage if self.source is LogSource.PROVISIONER else self.stage
        when = self.created_at.isoformat(timespec="seconds").replace("+00:00", "Z")
        return f"{when} [{self.level}] [{who}] {self.output}"


@dataclass(frozen=True, slots=True)
class LogBatch:
    """What is stored of some lines: those that fit, and how full the log then is."""

    lines: Sequence[LogLine]
    length: int
    overflowed: bool


def fit(lines: Iterable[LogLine], *, length: int, overflowed: bool) -> LogBatch:
    """Cut lines to what a log of `length` bytes still takes; the last line says that the rest is missing."""
    kept: list[LogLine] = []
    for line in lines:
        if overflowed:
            break
        output = _cut(line.output, OUTPUT_LIMIT)
        size = len(output.encode())
        if length + size + len(LOGS_OVERFLOWED) > LOG_LIMIT_BYTES:
            kept.append(LogLine(line.created_at, LogSource.DAEMON, LogLevel.WARN, line.stage, LOGS_OVERFLOWED))
            length += len(LOGS_OVERFLOWED)
            overflowed = True
        else:
            kept.append(LogLine(line.created_at, line.source, line.level, _cut(line.stage, STAGE_LIMIT), output))
            length += size
    return LogBatch(kept, length, overflowed)


def _cut(text: str, limit: int) -> str:
    # PostgreSQL's text cannot hold NUL, and a program's output may.
    return text.replace("\0", "")[:limit]


def error_code(error: str) -> str:
    """Name the errors that clients act on."""
    if "missing parameter" in error:
        return "MISSING_TEMPLATE_PARAMETER"
    if "required template variables" in error:
        return "REQUIRED_TEMPLATE_VARIABLES"
    return ""


def check_cancel(job: Job) -> None:
    """Refuse to cancel what has ended or is being canceled.

    Raises:
        Invalid: the job has completed, or was canceled before.
    """
    if job.completed_at is not None:
        raise Invalid("Job has already completed!")
    if job.canceled_at is not None:
        raise Invalid("Job has already been marked as canceled!")


def check_owner(job: Job, worker_id: UUID, fence: int) -> None:
    """Refuse a report from anyone but the worker that holds the job's newest lease.

    Raises:
        Conflict: the job ended, never started, or was handed to somebody else since.
    """
    if job.completed_at is not None:
        raise Conflict("job already completed")
    if job.started_at is None:
        raise Conflict("job isn't running yet")
    if job.worker_id != worker_id or job.fence != fence:
        raise Conflict("you don't own this job")


def reaped(stage: str, reason: str, now: datetime) -> Sequence[LogLine]:
    """Write the lines that end the log of a job whose worker is gone."""
    rule = "=" * 20
    return [
        LogLine(now, LogSource.DAEMON, LogLevel.ERROR, stage or "Unknown", text)
        for text in ("", rule, reason, rule, "")
    ]


@dataclass(frozen=True, slots=True)
class Waiting:
    """A pending job in the queue."""

    id: UUID
    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class QueuePlace:
    """How many jobs are before this one, itself included, and how many there are."""

    position: int = 0
    size: int = 0


def places(queue: Sequence[Waiting], daemons: Iterable[Mapping[str, str]]) -> dict[UUID, QueuePlace]:
    """Tell each pending job its best place among the queues of the live daemons; `queue` is oldest first."""
    result: dict[UUID, QueuePlace] = {}
    for daemon in {tuple(sorted(tags.items())) for tags in daemons}:
        eligible = [job.id for job in queue if job_tags.runs(dict(daemon), job.tags)]
        for position, job_id in enumerate(eligible, 1):
            best = result.get(job_id, QueuePlace(position, 0))
            result[job_id] = QueuePlace(min(position, best.position), max(len(eligible), best.size))
    return result
