"""Workspaces: what one is, and the rules for its settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from warren.domain.build import Build, Transition
from warren.domain.job import Job, JobStatus
from warren.domain.schedule import Weekly, parse_weekly
from warren.domain.template import MINUTE_MS
from warren.errors import Conflict, Invalid, Violation

LONGEST_TTL = timedelta(days=30)  # past a month nobody remembers why it runs
SHORTEST_EXTENSION = timedelta(minutes=29)  # announced as 30: a minute for slow clocks and slow hands
AUTOMATIC_UPDATES = ("always", "never")


@dataclass(frozen=True, slots=True)
class Workspace:
    """A developer's machine, as it is stored."""

    id: UUID
    owner_id: UUID
    organization_id: UUID
    template_id: UUID
    name: str
    autostart_schedule: str | None
    ttl_ms: int | None
    automatic_updates: str
    last_used_at: datetime
    dormant_at: datetime | None
    deleting_at: datetime | None
    next_start_at: datetime | None
    user_acl: Mapping[str, Sequence[str]]
    group_acl: Mapping[str, Sequence[str]]
    created_at: datetime
    updated_at: datetime
    deleted: bool

    @property
    def ttl(self) -> timedelta | None:
        """Say how long it runs after a start."""
        return timedelta(milliseconds=self.ttl_ms) if self.ttl_ms else None

    @property
    def schedule(self) -> Weekly | None:
        """Read its autostart schedule; one that an older release allowed and this one does not counts as none."""
        try:
            return parse_weekly(self.autostart_schedule) if self.autostart_schedule else None
        except Invalid:
            return None


@dataclass(frozen=True, slots=True)
class JobView:
    """A job, with the name of its worker."""

    job: Job
    worker_name: str = ""


@dataclass(frozen=True, slots=True)
class BuildView:
    """A build with the names and the job that go with it."""

    build: Build
    job: JobView
    workspace_name: str
    owner_id: UUID
    owner_name: str
    owner_avatar_url: str
    template_version_name: str
    initiator_name: str


@dataclass(frozen=True, slots=True)
class TemplateNames:
    """What a workspace shows of its template."""

    name: str
    display_name: str
    icon: str
    active_version_id: UUID
    allow_user_cancel_workspace_jobs: bool
    require_active_version: bool
    use_classic_parameter_flow: bool


@dataclass(frozen=True, slots=True)
class WorkspaceView:
    """A workspace with its latest build and the names that go with it."""

    workspace: Workspace
    owner_name: str
    owner_avatar_url: str
    organization_name: str
    template: TemplateNames
    build: BuildView
    favorite: bool


def check_ttl(ttl_ms: int | None) -> int | None:
    """Read a time to run, cut to whole minutes; none or zero means no limit.

    Raises:
        Invalid: it is negative, under a minute or over 30 days.
    """
    if not ttl_ms:
        return None
    if ttl_ms < MINUTE_MS:
        raise _ttl_error("time until shutdown must be at least one minute")
    if timedelta(milliseconds=ttl_ms) > LONGEST_TTL:
        raise _ttl_error("time until shutdown must be less than 30 days")
    return ttl_ms - ttl_ms % MINUTE_MS


def _ttl_error(detail: str) -> Invalid:
    return Invalid("Error updating workspace time until shutdown.", violations=[Violation("ttl_ms", detail)])


def check_schedule(schedule: str | None, *, allowed: bool) -> str | None:
    """Read an autostart schedule; empty means that the workspace starts by hand only.

    Raises:
        Invalid: it is not a weekly schedule, or the template forbids one.
    """
    if not schedule:
        return None
    if not allowed:
        raise Invalid(
            "Autostart is not allowed for workspaces using this template.",
            violations=[Violation("schedule", "Autostart is not allowed for workspaces using this template.")],
        )
    try:
        parse_weekly(schedule)
    except Invalid as error:
        violation = Violation("schedule", error.message)
        raise Invalid("Invalid autostart schedule.", violations=[violation]) from error
    return schedule


def check_automatic_updates(value: str) -> str:
    """Read whether starts take the newest version; empty means never.

    Raises:
        Invalid: it is neither `always` nor `never`.
    """
    if value and value not in AUTOMATIC_UPDATES:
        detail = "Automatic updates must be one of [always never]"
        raise Invalid("Invalid request", violations=[Violation("automatic_updates", detail)])
    return value or "never"


def check_extension(build: Build, job: JobStatus, deadline: datetime, now: datetime) -> None:
    """Refuse to move a deadline where that makes no sense.

    Raises:
        Conflict: the workspace is not up, or never stops by itself.
        Invalid: the new deadline is too close, or past the latest allowed one.
    """
    if build.transition is not Transition.START:
        raise Conflict(f"Workspace must be started, current status: {build.transition}")
    if job is not JobStatus.SUCCEEDED:
        raise Conflict("Workspace is still building!")
    if build.deadline is None:
        raise Conflict("Workspace shutdown is manual.")
    if deadline < now + SHORTEST_EXTENSION:
        raise _extension_error("new deadline must be at least 30 minutes in the future")
    if build.max_deadline is not None and deadline > build.max_deadline:
        raise _extension_error("new deadline is greater than template allows")


def _extension_error(detail: str) -> Invalid:
    return Invalid("Cannot extend workspace deadline.", violations=[Violation("deadline", detail)])


def next_start(workspace: Workspace, now: datetime, *, allowed_days: int, allowed: bool) -> datetime | None:
    """Say when a workspace starts by itself."""
    schedule = workspace.schedule
    if schedule is None or not allowed or workspace.dormant_at is not None:
        return None
    return schedule.next(now, allowed_days=allowed_days)
