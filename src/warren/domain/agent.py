"""Agents: what one is, how it does, and the rules for what it reports."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import cast
from uuid import UUID

from warren.errors import Invalid, Violation

INACTIVE_AFTER = timedelta(seconds=30)  # two missed signs of life; a sign comes every 15 s
LOGS_LIMIT_BYTES = 1 << 20
METADATA_VALUE_BYTES = 2048
METADATA_KEYS_BYTES = 6144
STATUS_MESSAGE_BYTES = 160
EXTERNAL_LOG_SOURCE = UUID("3b579bf4-1ed8-4b99-87a8-e9a1e3410410")
"""The source of lines whose sender named none."""

LOG_LEVELS = ("trace", "debug", "info", "warn", "error")
APP_STATES = ("working", "idle", "complete", "failure")
SUBSYSTEMS = ("envbox", "envbuilder", "exectrace")
_SEMVER = re.compile(r"v\d+(\.\d+(\.\d+(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?)?)?")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


class AgentStatus(StrEnum):
    """Whether the control plane hears from an agent."""

    CONNECTING = "connecting"
    CONNECTED = "connected"
    DISCONNECTED = "disconnected"
    TIMEOUT = "timeout"


class Lifecycle(StrEnum):
    """What an agent says that it is doing."""

    CREATED = "created"
    STARTING = "starting"
    START_TIMEOUT = "start_timeout"
    START_ERROR = "start_error"
    READY = "ready"
    SHUTTING_DOWN = "shutting_down"
    SHUTDOWN_TIMEOUT = "shutdown_timeout"
    SHUTDOWN_ERROR = "shutdown_error"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class Agent:
    """The process in a workspace, as it is stored."""

    id: UUID
    parent_id: UUID | None
    resource_id: UUID
    name: str
    auth_instance_id: str | None
    architecture: str
    operating_system: str
    directory: str
    expanded_directory: str
    environment_variables: Mapping[str, str]
    motd_file: str
    connection_timeout_seconds: int
    troubleshooting_url: str
    display_apps: Sequence[str]
    api_key_scope: str
    resources_monitoring: Mapping[str, object] | None
    version: str
    api_version: str
    subsystems: Sequence[str]
    lifecycle: Lifecycle
    started_at: datetime | None
    ready_at: datetime | None
    first_connected_at: datetime | None
    last_connected_at: datetime | None
    disconnected_at: datetime | None
    logs_length: int
    logs_overflowed: bool
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class AppStatus:
    """What an app said that it is doing."""

    id: UUID
    created_at: datetime
    workspace_id: UUID
    agent_id: UUID
    app_id: UUID
    state: str
    message: str
    uri: str


@dataclass(frozen=True, slots=True)
class App:
    """A port or command that an agent offers, as it is stored."""

    id: UUID
    slug: str
    display_name: str
    icon: str
    command: str
    url: str
    external: bool
    subdomain: bool
    sharing_level: str
    healthcheck_url: str
    healthcheck_interval: int
    healthcheck_threshold: int
    health: str
    display_group: str
    hidden: bool
    open_in: str
    tooltip: str
    statuses: Sequence[AppStatus] = ()


@dataclass(frozen=True, slots=True)
class Script:
    """A script of an agent, with how its latest run ended."""

    id: UUID
    log_source_id: UUID
    display_name: str
    log_path: str
    script: str
    cron: str
    start_blocks_login: bool
    run_on_start: bool
    run_on_stop: bool
    timeout_seconds: int
    exit_code: int | None = None
    status: str | None = None


@dataclass(frozen=True, slots=True)
class LogSource:
    """Where lines of an agent's log come from."""

    id: UUID
    created_at: datetime
    display_name: str
    icon: str


@dataclass(frozen=True, slots=True)
class AgentParts:
    """An agent with what belongs to it, and the names around it."""

    agent: Agent
    apps: Sequence[App]
    scripts: Sequence[Script]
    log_sources: Sequence[LogSource]
    workspace_name: str = ""
    owner_name: str = ""


@dataclass(frozen=True, slots=True)
class Health:
    """Whether an agent does what it should."""

    healthy: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Latency:
    """How far a relay region is from an agent."""

    preferred: bool
    milliseconds: float


@dataclass(frozen=True, slots=True)
class AgentView:
    """An agent as people see it at one moment."""

    parts: AgentParts
    status: AgentStatus
    disconnected_at: datetime | None
    health: Health
    latency: Mapping[str, Latency] = field(default_factory=dict[str, Latency])
    subdomain_apps: bool = False
    """Whether the deployment has a wildcard host for apps."""


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line of an agent's log, as it is stored."""

    id: int
    created_at: datetime
    output: str
    level: str
    source_id: UUID


@dataclass(frozen=True, slots=True)
class MetadataItem:
    """A value that an agent collects again and again."""

    key: str
    display_name: str
    script: str
    interval_seconds: int
    timeout_seconds: int
    value: str
    error: str
    collected_at: datetime | None


@dataclass(frozen=True, slots=True)
class MetadataValue:
    """A new value of a metadata item."""

    key: str
    value: str
    error: str


@dataclass(frozen=True, slots=True)
class BuildPoint:
    """As much of a build as decides which agents may connect."""

    number: int
    transition: str
    job_status: str


def may_connect(own: BuildPoint, latest: BuildPoint) -> bool:
    """Say whether an agent of build `own` still speaks for its workspace.

    The agents of a running workspace also do while it stops, so that their stop scripts can report.
    """
    if own.number == latest.number:
        return True
    started = own.transition == "start" and own.job_status == "succeeded"
    stopping = latest.transition == "stop" and latest.job_status in ("pending", "running")
    return started and stopping and latest.number == own.number + 1


def status(agent: Agent, now: datetime) -> tuple[AgentStatus, datetime | None]:
    """Say whether an agent is connected, and since when it is not."""
    if agent.first_connected_at is None or agent.last_connected_at is None:
        patience = timedelta(seconds=agent.connection_timeout_seconds)
        late = patience and now - agent.created_at > patience
        return (AgentStatus.TIMEOUT if late else AgentStatus.CONNECTING), agent.disconnected_at
    if agent.disconnected_at is not None and agent.disconnected_at >= agent.last_connected_at:
        return AgentStatus.DISCONNECTED, agent.disconnected_at
    if now - agent.last_connected_at > INACTIVE_AFTER:
        return AgentStatus.DISCONNECTED, agent.last_connected_at
    return AgentStatus.CONNECTED, agent.disconnected_at


def health(found: AgentStatus, lifecycle: Lifecycle) -> Health:
    """Say whether an agent does what it should, and why not."""
    reason = _illness(found, lifecycle)
    return Health(not reason, reason)


def _illness(found: AgentStatus, lifecycle: Lifecycle) -> str:
    if found is not AgentStatus.CONNECTED and lifecycle is Lifecycle.OFF:
        return "agent is not running"
    match found:
        case AgentStatus.CONNECTING:
            return "agent has not yet connected"
        case AgentStatus.TIMEOUT:
            return "agent is taking too long to connect"
        case AgentStatus.DISCONNECTED:
            return "agent has lost connection"
        case AgentStatus.CONNECTED:
            pass
    if lifecycle is Lifecycle.START_ERROR:
        return "agent startup script exited with an error"
    if lifecycle in (Lifecycle.SHUTTING_DOWN, Lifecycle.SHUTDOWN_TIMEOUT, Lifecycle.SHUTDOWN_ERROR, Lifecycle.OFF):
        return "agent is shutting down"
    return ""


def view(
    parts: AgentParts, now: datetime, *, latency: Mapping[str, Latency] | None = None, subdomain_apps: bool = False
) -> AgentView:
    """Say how an agent looks now."""
    found, disconnected_at = status(parts.agent, now)
    return AgentView(parts, found, disconnected_at, health(found, parts.agent.lifecycle), latency or {}, subdomain_apps)


def latencies(
    seconds_by_family: Mapping[str, float], home_region: int, region_names: Mapping[int, str]
) -> Mapping[str, Latency]:
    """Name the regions that an agent measured (`"<region>-v4"`, `"<region>-v6"`); IPv4 counts where both are known."""
    found: dict[str, Latency] = {}
    for family in ("-v6", "-v4"):
        for key, seconds in seconds_by_family.items():
            number = key.removesuffix(family)
            if number == key or not number.isdecimal() or int(number) not in region_names:
                continue
            found[region_names[int(number)]] = Latency(int(number) == home_region, seconds * 1000)
    return found


def lifecycle_times(agent: Agent, new: Lifecycle, changed_at: datetime) -> tuple[datetime | None, datetime | None]:
    """Say when the agent's scripts started and were done, after a change of its lifecycle."""
    match new:
        case Lifecycle.STARTING:
            return changed_at, None
        case Lifecycle.READY | Lifecycle.START_TIMEOUT | Lifecycle.START_ERROR:
            return agent.started_at or changed_at, changed_at
        case _:
            return agent.started_at, agent.ready_at


def subdomain_name(parts: AgentParts, app: App) -> str:
    """Say which host label an app has; empty for one that is not reached by a host of its own."""
    return f"{app.slug}--{parts.workspace_name}--{parts.owner_name}" if app.subdomain else ""


@dataclass(frozen=True, slots=True)
class Monitoring:
    """Which resources an agent watches; `memory` is None where the template says nothing of it."""

    memory: bool | None
    volumes: Mapping[str, bool]


def monitoring(document: Mapping[str, object] | None) -> Monitoring:
    """Read which resources an agent watches, as its template says."""
    document = document or {}
    memory, volumes = document.get("memory"), document.get("volumes")
    found: dict[str, bool] = {}
    for volume in cast("list[object]", volumes) if isinstance(volumes, list) else []:  # isinstance leaves it unknown
        path, enabled = _entry(volume, "path"), _entry(volume, "enabled")
        found[str(path)] = bool(enabled)
    return Monitoring(None if memory is None else bool(_entry(memory, "enabled")), found)


@dataclass(frozen=True, slots=True)
class Banner:
    """A message to all who log in to a workspace."""

    enabled: bool = False
    message: str = ""
    background_color: str = ""


def banners(appearance: object) -> Sequence[Banner]:
    """Read the banners of a deployment's appearance, as it is stored."""
    found = _entry(appearance, "announcement_banners")
    return [
        Banner(
            bool(_entry(each, "enabled")),
            str(_entry(each, "message") or ""),
            str(_entry(each, "background_color") or ""),
        )
        for each in (cast("list[object]", found) if isinstance(found, list) else [])  # isinstance leaves it unknown
    ]


def _entry(document: object, name: str) -> object:
    # What isinstance leaves unknown came from JSON: its keys are texts.
    return cast("dict[str, object]", document).get(name) if isinstance(document, dict) else None


def check_version(version: str) -> str:
    """Read an agent's version.

    Raises:
        Invalid: it is not a semantic version with a leading `v`.
    """
    if not _SEMVER.fullmatch(version):
        raise Invalid(f'invalid agent semver version "{version}"')
    return version


def check_metadata(items: Iterable[MetadataValue]) -> tuple[list[MetadataValue], str]:
    """Cut values and errors to what is kept; the text is the error to answer when keys are too long in all."""
    kept: list[MetadataValue] = []
    total = 0
    problem = ""
    for item in items:
        total += len(item.key.encode())
        if total > METADATA_KEYS_BYTES:
            problem = f"metadata keys of {total} bytes exceeded {METADATA_KEYS_BYTES} bytes"
            continue
        kept.append(_cut(item))
    return kept, problem


def _cut(item: MetadataValue) -> MetadataValue:
    value, error = item.value.strip(), item.error.strip()
    size, error_size = len(value.encode()), len(error.encode())
    if error_size > METADATA_VALUE_BYTES:
        error = f"error of {error_size} bytes exceeded {METADATA_VALUE_BYTES} bytes"
    if size > METADATA_VALUE_BYTES:
        value = value.encode()[:METADATA_VALUE_BYTES].decode(errors="ignore")
        error = f"value of {size} bytes exceeded {METADATA_VALUE_BYTES} bytes"
    return MetadataValue(item.key, value, error)


def clean_output(text: str) -> str:
    """Make log output storable: PostgreSQL has no NUL in texts."""
    return text.replace("\x00", "\N{REPLACEMENT CHARACTER}")


def check_app_status(state: str, message: str) -> str:
    """Read the message of an app's status.

    Raises:
        Invalid: the message is too long, or there is no such state.
    """
    if state not in APP_STATES:
        raise Invalid("Failed to parse request.", detail=f'invalid state "{state}"')
    if len(message.encode()) > STATUS_MESSAGE_BYTES:
        detail = f"Message must be less than {STATUS_MESSAGE_BYTES} characters."
        raise Invalid("Message is too long.", detail=detail, violations=[Violation("message", detail)])
    return _CONTROL.sub("", message)


def bumped_deadline(
    deadline: datetime | None, max_deadline: datetime | None, bump: timedelta, now: datetime
) -> datetime | None:
    """Say when a workspace in use stops; None when that does not change.

    A deadline is moved once a twentieth of the bump is used up, so that not every report writes.
    """
    if deadline is None or not bump or deadline < now:
        return None
    wanted = now + bump
    if max_deadline is not None:
        wanted = min(wanted, max_deadline)
    return wanted if wanted - deadline > bump / 20 else None
