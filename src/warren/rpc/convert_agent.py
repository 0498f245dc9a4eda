"""Agent messages to and from values; the only place that knows both."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from google.protobuf.timestamp_pb2 import Timestamp

from warren.domain.agent import App, Lifecycle, MetadataItem, MetadataValue, Script
from warren.errors import Invalid
from warren.rpc._pb import agent_pb2 as pb
from warren.rpc.convert_tailnet import uuid_from_bytes

GO_ZERO_SECONDS = -62135596800  # the year 1: an unset time of programs written in Go

_CONNECTION_TYPES = {
    pb.Connection.SSH: "ssh",
    pb.Connection.VSCODE: "vscode",
    pb.Connection.JETBRAINS: "jetbrains",
    pb.Connection.RECONNECTING_PTY: "reconnecting_pty",
}
_SUBSYSTEMS = {pb.Startup.ENVBOX: "envbox", pb.Startup.ENVBUILDER: "envbuilder", pb.Startup.EXECTRACE: "exectrace"}
_HEALTHS = {
    pb.DISABLED: "disabled",
    pb.INITIALIZING: "initializing",
    pb.HEALTHY: "healthy",
    pb.UNHEALTHY: "unhealthy",
}
_LEVELS = {
    pb.Log.TRACE: "trace",
    pb.Log.DEBUG: "debug",
    pb.Log.INFO: "info",
    pb.Log.WARN: "warn",
    pb.Log.ERROR: "error",
}
_STAGES = {pb.Timing.START: "start", pb.Timing.STOP: "stop", pb.Timing.CRON: "cron"}
_STATUSES = {
    pb.Timing.OK: "ok",
    pb.Timing.EXIT_FAILURE: "exit_failure",
    pb.Timing.TIMED_OUT: "timed_out",
    pb.Timing.PIPES_LEFT_OPEN: "pipes_left_open",
}
_APP_STATES = {
    pb.UpdateAppStatusRequest.WORKING: "working",
    pb.UpdateAppStatusRequest.IDLE: "idle",
    pb.UpdateAppStatusRequest.COMPLETE: "complete",
    pb.UpdateAppStatusRequest.FAILURE: "failure",
}


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a script, as an agent reports it."""

    script_id: UUID
    stage: str
    status: str
    exit_code: int
    started_at: datetime
    ended_at: datetime


@dataclass(frozen=True, slots=True)
class Connection:
    """The begin or the end of a connection to an agent; `ip` is None where the agent did not know it."""

    id: UUID
    type: str
    ended: bool
    at: datetime
    ip: str | None
    status_code: int | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class Startup:
    """What an agent says of itself when it starts."""

    version: str
    expanded_directory: str
    subsystems: Sequence[str]


def time_from_message(message: Timestamp, now: datetime) -> datetime:
    """Read a time; one that is unset in Go means now."""
    if message.seconds <= GO_ZERO_SECONDS:
        return now
    return message.ToDatetime(UTC)


def lifecycle_from_message(message: pb.Lifecycle) -> Lifecycle:
    """Read what an agent is doing.

    Raises:
        Invalid: there is no such state.
    """
    if message.state not in pb.Lifecycle.State.values() or not message.state:
        raise Invalid(f"unknown lifecycle state: {message.state}")
    return Lifecycle(pb.Lifecycle.State.Name(message.state).lower())


def startup_from_message(message: pb.Startup) -> Startup:
    """Read what an agent says of itself; its version is not checked here.

    Raises:
        Invalid: a subsystem is unknown.
    """
    found: set[str] = set()
    for number in message.subsystems:
        if number not in _SUBSYSTEMS:
            raise Invalid(f'invalid agent subsystem "{number}"')
        found.add(_SUBSYSTEMS[number])
    return Startup(message.version, message.expanded_directory, sorted(found))


def healths_from_message(message: pb.BatchUpdateAppHealthRequest) -> Sequence[tuple[UUID, str]]:
    """Read how healthy apps are.

    Raises:
        Invalid: there is no such health.
    """
    found: list[tuple[UUID, str]] = []
    for update in message.updates:
        if update.health not in _HEALTHS:
            raise Invalid(f"unknown app health: {update.health}")
        found.append((uuid_from_bytes(update.id), _HEALTHS[update.health]))
    return found


def metadata_from_message(message: pb.BatchUpdateMetadataRequest) -> Sequence[MetadataValue]:
    """Read what an agent collected."""
    return [MetadataValue(item.key, item.result.value, item.result.error) for item in message.metadata]


def logs_from_message(message: pb.BatchCreateLogsRequest) -> tuple[UUID, Sequence[tuple[str, str]]]:
    """Read the source of lines, and of each its level and output."""
    source_id = uuid_from_bytes(message.log_source_id) if message.log_source_id else UUID(int=0)
    return source_id, [(_LEVELS.get(line.level, "info"), line.output) for line in message.logs]


def run_from_message(message: pb.WorkspaceAgentScriptCompletedRequest) -> Run:
    """Read a run of a script.

    Raises:
        Invalid: it has no times, or ends before it starts.
    """
    if not message.HasField("timing"):
        raise Invalid("script timing is required")
    timing = message.timing
    if not _is_set(timing, "start"):
        raise Invalid("script start time is required and cannot be zero")
    if not _is_set(timing, "end"):
        raise Invalid("script end time is required and cannot be zero")
    started_at, ended_at = timing.start.ToDatetime(UTC), timing.end.ToDatetime(UTC)
    if started_at > ended_at:
        raise Invalid("script start time cannot be after end time")
    if timing.stage not in _STAGES or timing.status not in _STATUSES:
        raise Invalid(f"unknown script stage {timing.stage} or status {timing.status}")
    return Run(
        uuid_from_bytes(timing.script_id),
        _STAGES[timing.stage],
        _STATUSES[timing.status],
        timing.exit_code,
        started_at,
        ended_at,
    )


def _is_set(timing: pb.Timing, field: str) -> bool:
    if not timing.HasField("start" if field == "start" else "end"):
        return False
    found = timing.start if field == "start" else timing.end
    return found.seconds > GO_ZERO_SECONDS


def connection_from_message(message: pb.ReportConnectionRequest, now: datetime) -> Connection:
    """Read a report of a connection.

    Raises:
        Invalid: it has no id, or an unknown action or type.
    """
    connection = message.connection
    connection_id = uuid_from_bytes(connection.id)
    if not connection_id.int:
        raise Invalid("connection ID is nil")
    if connection.action not in (pb.Connection.CONNECT, pb.Connection.DISCONNECT):
        raise Invalid(f"unknown agent connection action {connection.action}")
    if connection.type not in _CONNECTION_TYPES:
        raise Invalid(f"unknown agent connection type {connection.type}")
    ended = connection.action == pb.Connection.DISCONNECT
    return Connection(
        connection_id,
        _CONNECTION_TYPES[connection.type],
        ended,
        time_from_message(connection.timestamp, now),
        _ip(connection.ip),
        connection.status_code if ended else None,
        connection.reason or None,
    )


def _ip(text: str) -> str | None:
    if text == "localhost":
        return "127.0.0.1"
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return None


def sessions_from_message(stats: pb.Stats) -> dict[str, int]:
    """Read how many sessions there are of each kind, in the newer form or the older one."""
    return dict(stats.session_counts) or {
        "vscode": stats.session_count_vscode,
        "jetbrains": stats.session_count_jetbrains,
        "reconnecting_pty": stats.session_count_reconnecting_pty,
        "ssh": stats.session_count_ssh,
    }


def app_state_from_message(message: pb.UpdateAppStatusRequest) -> str:
    """Read what an app says that it is doing.

    Raises:
        Invalid: there is no such state.
    """
    if message.state not in _APP_STATES:
        raise Invalid(f"Invalid state: {message.state}")
    return _APP_STATES[message.state]


def script_to_message(script: Script) -> pb.WorkspaceAgentScript:
    """Write a script."""
    message = pb.WorkspaceAgentScript(
        id=script.id.bytes,
        log_source_id=script.log_source_id.bytes,
        log_path=script.log_path,
        script=script.script,
        cron=script.cron,
        run_on_start=script.run_on_start,
        run_on_stop=script.run_on_stop,
        start_blocks_login=script.start_blocks_login,
        display_name=script.display_name,
    )
    message.timeout.FromSeconds(script.timeout_seconds)
    return message


def app_to_message(app: App, subdomain_name: str) -> pb.WorkspaceApp:
    """Write an app; its health check is always there, as agents are used to."""
    message = pb.WorkspaceApp(
        id=app.id.bytes,
        url=app.url,
        external=app.external,
        slug=app.slug,
        display_name=app.display_name,
        command=app.command,
        icon=app.icon,
        subdomain=app.subdomain,
        subdomain_name=subdomain_name,
        sharing_level=app.sharing_level.upper(),
        health=app.health.upper(),
        hidden=app.hidden,
    )
    message.healthcheck.url = app.healthcheck_url
    message.healthcheck.threshold = app.healthcheck_threshold
    message.healthcheck.interval.FromSeconds(app.healthcheck_interval)
    return message


def description_to_message(item: MetadataItem) -> pb.WorkspaceAgentMetadata.Description:
    """Write how an item is collected."""
    message = pb.WorkspaceAgentMetadata.Description(display_name=item.display_name, key=item.key, script=item.script)
    # Agents expect the number of seconds as that many nanoseconds.
    message.interval.FromNanoseconds(item.interval_seconds)
    message.timeout.FromNanoseconds(item.timeout_seconds)
    return message
