"""The agent's values to and from the messages of the agent API; the only place that knows both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from warren.agent.connections import ConnectionReport, ConnectionType
from warren.agent.lifecycle import LifecycleChange
from warren.agent.logs import Batch, LogLevel
from warren.agent.manifest import App, AppHealth, Banner, Manifest, MetadataDescription, Script, Secret
from warren.agent.metadata import MetadataResult
from warren.agent.resources import MonitoringPlan, Sample
from warren.agent.scripts import ScriptRun, ScriptStatus, Stage
from warren.agent.stats import StatsReport
from warren.errors import RemoteProtocolError
from warren.rpc import convert_tailnet
from warren.rpc._pb import agent_pb2 as pb

_HEALTH = {
    AppHealth.DISABLED: pb.DISABLED,
    AppHealth.INITIALIZING: pb.INITIALIZING,
    AppHealth.HEALTHY: pb.HEALTHY,
    AppHealth.UNHEALTHY: pb.UNHEALTHY,
}
_HEALTH_OF_APP = {
    pb.WorkspaceApp.DISABLED: AppHealth.DISABLED,
    pb.WorkspaceApp.INITIALIZING: AppHealth.INITIALIZING,
    pb.WorkspaceApp.HEALTHY: AppHealth.HEALTHY,
    pb.WorkspaceApp.UNHEALTHY: AppHealth.UNHEALTHY,
}
_LEVELS = {LogLevel.INFO: pb.Log.INFO, LogLevel.WARN: pb.Log.WARN, LogLevel.ERROR: pb.Log.ERROR}
_STAGES = {Stage.START: pb.Timing.START, Stage.STOP: pb.Timing.STOP, Stage.CRON: pb.Timing.CRON}
_STATUSES = {
    ScriptStatus.OK: pb.Timing.OK,
    ScriptStatus.EXIT_FAILURE: pb.Timing.EXIT_FAILURE,
    ScriptStatus.TIMED_OUT: pb.Timing.TIMED_OUT,
    ScriptStatus.PIPES_LEFT_OPEN: pb.Timing.PIPES_LEFT_OPEN,
}
_CONNECTION_TYPES = {
    ConnectionType.UNSPECIFIED: pb.Connection.TYPE_UNSPECIFIED,
    ConnectionType.SSH: pb.Connection.SSH,
    ConnectionType.VSCODE: pb.Connection.VSCODE,
    ConnectionType.JETBRAINS: pb.Connection.JETBRAINS,
    ConnectionType.RECONNECTING_PTY: pb.Connection.RECONNECTING_PTY,
}


def manifest_from_message(message: pb.Manifest) -> Manifest:
    """Read a manifest.

    Raises:
        RemoteProtocolError: an id is malformed or missing, or an app has no health.
    """
    agent_id = _uuid(message.agent_id)
    if agent_id.int == 0:
        raise RemoteProtocolError("the manifest has no agent id")
    return Manifest(
        agent_id=agent_id,
        workspace_id=_uuid(message.workspace_id),
        owner_name=message.owner_username,
        workspace_name=message.workspace_name,
        agent_name=message.agent_name,
        directory=message.directory,
        motd_path=message.motd_path,
        port_proxy_uri=message.vs_code_port_proxy_uri,
        git_providers=message.git_auth_configs,
        environment=dict(message.environment_variables),
        block_direct=message.disable_direct_connections,
        force_websockets=message.derp_force_websockets,
        derp_map=convert_tailnet.derp_map_from_message(message.derp_map) if message.HasField("derp_map") else None,
        scripts=tuple(map(_script, message.scripts)),
        apps=tuple(map(_app, message.apps)),
        metadata=tuple(map(_description, message.metadata)),
        secrets=tuple(Secret(item.value, item.env_name, item.file_path) for item in message.secrets),
        parent_id=_uuid(message.parent_id) if message.HasField("parent_id") else None,
    )


def _script(message: pb.WorkspaceAgentScript) -> Script:
    return Script(
        script_id=_uuid(message.id),
        log_source_id=_uuid(message.log_source_id),
        text=message.script,
        display_name=message.display_name,
        log_path=message.log_path,
        cron=message.cron,
        on_start=message.run_on_start,
        on_stop=message.run_on_stop,
        blocks_login=message.start_blocks_login,
        timeout=_span(message.timeout),
    )


def _app(message: pb.WorkspaceApp) -> App:
    health = _HEALTH_OF_APP.get(message.health)
    if health is None:
        raise RemoteProtocolError(f"app {message.slug!r} has the unknown health {message.health}")
    return App(
        app_id=_uuid(message.id),
        slug=message.slug,
        health=health,
        check_url=message.healthcheck.url,
        check_interval=_span(message.healthcheck.interval),
        check_threshold=message.healthcheck.threshold,
    )


def _description(message: pb.WorkspaceAgentMetadata.Description) -> MetadataDescription:
    # These two spans count seconds although they are sent as nanoseconds.
    return MetadataDescription(
        key=message.key,
        script=message.script,
        display_name=message.display_name,
        interval=timedelta(seconds=message.interval.ToNanoseconds()),
        timeout=timedelta(seconds=message.timeout.ToNanoseconds()),
    )


def banners_from_message(message: pb.GetAnnouncementBannersResponse) -> tuple[Banner, ...]:
    """Read the announcements."""
    return tuple(Banner(item.enabled, item.message) for item in message.announcement_banners)


def lifecycle_to_message(change: LifecycleChange) -> pb.UpdateLifecycleRequest:
    """Write a state; ours have the numbers of the wire."""
    state = pb.Lifecycle.State.Name(change.state.value)
    return pb.UpdateLifecycleRequest(lifecycle=pb.Lifecycle(state=state, changed_at=_stamp(change.at)))


def logs_to_message(batch: Batch) -> pb.BatchCreateLogsRequest:
    """Write lines of output."""
    lines = [
        pb.Log(created_at=_stamp(line.created_at), output=line.text, level=_LEVELS[line.level]) for line in batch.lines
    ]
    return pb.BatchCreateLogsRequest(log_source_id=batch.source_id.bytes, logs=lines)


def metadata_to_message(results: Mapping[str, MetadataResult]) -> pb.BatchUpdateMetadataRequest:
    """Write collected values."""
    return pb.BatchUpdateMetadataRequest(
        metadata=[
            pb.Metadata(
                key=key,
                result=pb.WorkspaceAgentMetadata.Result(
                    collected_at=_stamp(result.collected_at), value=result.value, error=result.error
                ),
            )
            for key, result in results.items()
        ]
    )


def healths_to_message(picture: Mapping[UUID, AppHealth]) -> pb.BatchUpdateAppHealthRequest:
    """Write the health of the apps."""
    update = pb.BatchUpdateAppHealthRequest.HealthUpdate
    updates = [update(id=app_id.bytes, health=_HEALTH[health]) for app_id, health in picture.items()]
    return pb.BatchUpdateAppHealthRequest(updates=updates)


def run_to_message(run: ScriptRun) -> pb.WorkspaceAgentScriptCompletedRequest:
    """Write how a script went."""
    timing = pb.Timing(
        script_id=run.script_id.bytes,
        start=_stamp(run.started_at),
        end=_stamp(run.ended_at),
        exit_code=run.exit_code,
        stage=_STAGES[run.stage],
        status=_STATUSES[run.status],
    )
    return pb.WorkspaceAgentScriptCompletedRequest(timing=timing)


def connection_to_message(report: ConnectionReport) -> pb.ReportConnectionRequest:
    """Write that a connection began or ended."""
    connection = pb.Connection(
        id=report.connection_id.bytes,
        action=pb.Connection.DISCONNECT if report.ended else pb.Connection.CONNECT,
        type=_CONNECTION_TYPES[report.type],
        timestamp=_stamp(report.at),
        ip=report.ip,
        status_code=report.status,
        reason=report.reason if report.ended else None,
    )
    return pb.ReportConnectionRequest(connection=connection)


def stats_to_message(report: StatsReport) -> pb.UpdateStatsRequest:
    """Write statistics."""
    stats = pb.Stats(
        connections_by_proto=dict(report.connections_by_protocol),
        connection_count=report.connections,
        connection_median_latency_ms=report.median_latency_ms,
        rx_packets=report.rx_packets,
        rx_bytes=report.rx_bytes,
        tx_packets=report.tx_packets,
        tx_bytes=report.tx_bytes,
        session_count_vscode=report.sessions[ConnectionType.VSCODE],
        session_count_jetbrains=report.sessions[ConnectionType.JETBRAINS],
        session_count_reconnecting_pty=report.sessions[ConnectionType.RECONNECTING_PTY],
        session_count_ssh=report.sessions[ConnectionType.SSH],
    )
    return pb.UpdateStatsRequest(stats=stats)


def plan_from_message(message: pb.GetResourcesMonitoringConfigurationResponse) -> MonitoringPlan:
    """Read what is to be watched."""
    return MonitoringPlan(
        samples=message.config.num_datapoints,
        interval_seconds=message.config.collection_interval_seconds,
        memory=message.HasField("memory") and message.memory.enabled,
        volumes=tuple(volume.path for volume in message.volumes if volume.enabled),
    )


def samples_to_message(samples: Sequence[Sample]) -> pb.PushResourcesMonitoringUsageRequest:
    """Write measurements."""
    return pb.PushResourcesMonitoringUsageRequest(datapoints=[_datapoint(sample) for sample in samples])


def _datapoint(sample: Sample) -> pb.PushResourcesMonitoringUsageRequest.Datapoint:
    kind = pb.PushResourcesMonitoringUsageRequest.Datapoint
    memory = sample.memory
    return kind(
        collected_at=_stamp(sample.at),
        memory=None if memory is None else kind.MemoryUsage(used=memory.used_bytes, total=memory.total_bytes),
        volumes=[
            kind.VolumeUsage(volume=volume.path, used=volume.used_bytes, total=volume.total_bytes)
            for volume in sample.volumes
        ],
    )


def _uuid(value: bytes) -> UUID:
    return convert_tailnet.uuid_from_bytes(value)


def _span(message: Duration) -> timedelta:
    return message.ToTimedelta()


def _stamp(moment: datetime) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(moment.astimezone(UTC))
    return stamp
