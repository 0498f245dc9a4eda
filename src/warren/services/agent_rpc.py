"""What an agent's connection to the control plane serves: its manifest, its reports, and the tailnet.

One `AgentSession` a connection. An error answered to an agent makes most agents drop the connection, so errors are for
what is malformed only; what is merely too much is cut or refused in the answer.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit
from uuid import UUID

import anyio
import anyio.abc
import structlog
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from psycopg_pool import AsyncConnectionPool

from warren.clock import Clock
from warren.domain.agent import (
    INACTIVE_AFTER,
    PING_PERIOD,
    STARTED,
    App,
    Lifecycle,
    MetadataResult,
    Script,
    limit_metadata,
)
from warren.domain.agent import Metadata as MetadataItem
from warren.errors import Invalid, Unavailable, Unimplemented
from warren.net.coordinator import AgentAuth
from warren.rpc import convert_tailnet, drpc
from warren.rpc._pb import agent_pb2 as pb
from warren.rpc.drpc import Handler
from warren.rpc.methods import AgentAPI, AnyMethod
from warren.rpc.multiplexer import Multiplexer
from warren.services.agents import append_logs, check_app_status, report_change, store_app_status
from warren.services.coordination import Coordination
from warren.services.metadata_writer import MetadataWriter
from warren.storage import agent_metadata, agent_stats, agents, connection_logs, workspaces
from warren.storage.agents import Located

log = structlog.get_logger()

STATS_INTERVAL = timedelta(minutes=5)
MONITORING_DATAPOINTS = 20
MONITORING_INTERVAL_SECONDS = 10
SEMVER = re.compile(r"v\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?")

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
class AgentSettings:
    """What agents are told of the deployment. `replica_id` names this process."""

    replica_id: UUID
    access_url: str
    wildcard_app_host: str = ""
    block_direct: bool = False
    force_websockets: bool = False
    stats_interval: timedelta = STATS_INTERVAL
    git_auth_configs: int = 0


class AgentSessions:
    """Serves the connections of agents."""

    def __init__(
        self,
        pool: AsyncConnectionPool,
        clock: Clock,
        coordination: Coordination,
        metadata: MetadataWriter,
        settings: AgentSettings,
    ) -> None:
        self.pool, self.clock, self.coordination = pool, clock, coordination
        self.metadata, self.settings = metadata, settings

    async def serve(self, located: Located, mux: Multiplexer, *, api_version: str, monitored: bool) -> None:
        """Serve one connection until it ends, the agent is silent, or its build is not the latest any more."""
        session = _Session(self, located, api_version)
        async with anyio.create_task_group() as tasks:
            if monitored:
                await tasks.start(self._monitor, located, mux)
            await drpc.serve(mux, session.handlers())
            tasks.cancel_scope.cancel()

    async def _monitor(self, located: Located, mux: Multiplexer, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        agent_id = located.agent.id
        await self._note(agents.connected, located, agent_id, self.settings.replica_id)
        task_status.started()
        log.info("agent.connected", agent=str(agent_id), workspace=located.place.workspace_name)
        reason = "connection closed"
        try:
            reason = await self._watch(located, mux)
        finally:
            with anyio.CancelScope(shield=True), anyio.move_on_after(INACTIVE_AFTER.total_seconds()):
                await self._note(agents.disconnected, located, agent_id, self.settings.replica_id)
            log.info("agent.disconnected", agent=str(agent_id), reason=reason)
        mux.close()

    async def _watch(self, located: Located, mux: Multiplexer) -> str:
        """Ask for signs of life; return why the connection has to end."""
        last_heard = anyio.current_time()
        while True:
            await anyio.sleep(PING_PERIOD.total_seconds())
            try:
                await mux.ping()
                last_heard = anyio.current_time()
            except Unavailable:
                return "connection closed"
            except TimeoutError:
                pass
            if anyio.current_time() - last_heard > INACTIVE_AFTER.total_seconds():
                return "ping timeout"
            try:
                async with self.pool.connection() as db:
                    await agents.heard_of(db, located.agent.id, self.clock.now())
                    if not await agents.is_of_latest_build(db, located.agent.id):
                        return "build is outdated"
            except Unavailable as error:
                # The database may be away for a while: the agent is not to blame.
                log.warning("agent.unrecorded", agent=str(located.agent.id), error=str(error))

    async def _note(self, write: Callable[..., Awaitable[None]], located: Located, *values: object) -> None:
        """Store a change of the connection and tell who watches; a database that is away loses nothing else."""
        try:
            async with self.pool.connection() as db:
                await write(db, *values, self.clock.now())
                await report_change(db, located)
        except Unavailable as error:
            log.warning("agent.unrecorded", agent=str(located.agent.id), error=str(error))


class _Session:
    """The handlers of one agent's connection."""

    def __init__(self, sessions: AgentSessions, located: Located, api_version: str) -> None:
        self._sessions, self._located, self._api_version = sessions, located, api_version
        self._settings, self._clock = sessions.settings, sessions.clock
        self._agent_id = located.agent.id

    def handlers(self) -> Mapping[AnyMethod, Handler]:
        """Return what this connection answers; the rest is unimplemented."""
        handlers: dict[object, Callable[..., Awaitable[Message]]] = {
            AgentAPI.GetManifest: self._get_manifest,
            AgentAPI.GetServiceBanner: self._get_service_banner,
            AgentAPI.GetAnnouncementBanners: self._get_announcement_banners,
            AgentAPI.UpdateStats: self._update_stats,
            AgentAPI.UpdateLifecycle: self._update_lifecycle,
            AgentAPI.UpdateStartup: self._update_startup,
            AgentAPI.BatchUpdateAppHealths: self._update_app_healths,
            AgentAPI.BatchUpdateMetadata: self._update_metadata,
            AgentAPI.BatchCreateLogs: self._create_logs,
            AgentAPI.ScriptCompleted: self._script_completed,
            AgentAPI.GetResourcesMonitoringConfiguration: self._monitoring_configuration,
            AgentAPI.PushResourcesMonitoringUsage: self._push_monitoring,
            AgentAPI.ReportConnection: self._report_connection,
            AgentAPI.UpdateAppStatus: self._update_app_status,
            AgentAPI.CreateSubAgent: _unimplemented,
            AgentAPI.DeleteSubAgent: _unimplemented,
            AgentAPI.ListSubAgents: _unimplemented,
            AgentAPI.ReportBoundaryLogs: _unimplemented,
            AgentAPI.PushContextState: _unimplemented,
        }
        auth = AgentAuth(self._agent_id)
        tailnet = self._sessions.coordination.handlers(self._agent_id, auth)
        return {**handlers, **tailnet}  # pyright: ignore[reportReturnType]  each handler fits its own method

    async def _get_manifest(self, _: pb.GetManifestRequest) -> pb.Manifest:
        async with self._sessions.pool.connection() as db:
            located = await agents.get(db, self._agent_id)
            apps = await agents.list_apps(db, [self._agent_id])
            scripts = await agents.list_scripts(db, [self._agent_id])
            metadata = await agent_metadata.list_of_agent(db, self._agent_id)
        agent, place, settings = located.agent, located.place, self._settings
        names = f"{agent.name}--{place.workspace_name}--{place.owner_username}"
        return pb.Manifest(
            agent_id=agent.id.bytes,
            agent_name=agent.name,
            parent_id=None if agent.parent_id is None else agent.parent_id.bytes,
            owner_username=place.owner_username,
            workspace_id=place.workspace_id.bytes,
            workspace_name=place.workspace_name,
            git_auth_configs=settings.git_auth_configs,
            environment_variables=dict(agent.environment_variables),
            directory=agent.directory,
            motd_path=agent.motd_file,
            vs_code_port_proxy_uri=_port_proxy_uri(settings, names),
            disable_direct_connections=settings.block_direct,
            derp_force_websockets=settings.force_websockets,
            derp_map=convert_tailnet.derp_map_to_message(self._sessions.coordination.derp_maps.current),
            scripts=[_script(script) for script in scripts],
            apps=[_app(app, names) for app in apps],
            metadata=[_description(item) for item in metadata],
        )

    async def _get_service_banner(self, _: pb.GetServiceBannerRequest) -> pb.ServiceBanner:
        return pb.ServiceBanner()

    async def _get_announcement_banners(self, _: pb.GetAnnouncementBannersRequest) -> pb.GetAnnouncementBannersResponse:
        return pb.GetAnnouncementBannersResponse()

    async def _update_stats(self, request: pb.UpdateStatsRequest) -> pb.UpdateStatsResponse:
        if request.HasField("stats"):
            async with self._sessions.pool.connection() as db:
                await agent_stats.insert(db, self._stats(request.stats))
                if request.stats.connection_count > 0:
                    await workspaces.touch(db, self._located.place.workspace_id, self._clock.now())
                    await report_change(db, self._located)
        response = pb.UpdateStatsResponse()
        response.report_interval.FromTimedelta(self._settings.stats_interval)
        return response

    def _stats(self, stats: pb.Stats) -> agent_stats.Stats:
        place = self._located.place
        sessions = dict(stats.session_counts) or {
            "vscode": stats.session_count_vscode,
            "jetbrains": stats.session_count_jetbrains,
            "reconnecting_pty": stats.session_count_reconnecting_pty,
            "ssh": stats.session_count_ssh,
        }
        return agent_stats.Stats(
            agent_id=self._agent_id,
            user_id=place.owner_id,
            workspace_id=place.workspace_id,
            template_id=place.template_id,
            created_at=self._clock.now(),
            connections_by_proto=dict(stats.connections_by_proto),
            connection_count=stats.connection_count,
            connection_median_latency_ms=stats.connection_median_latency_ms,
            rx_packets=stats.rx_packets,
            rx_bytes=stats.rx_bytes,
            tx_packets=stats.tx_packets,
            tx_bytes=stats.tx_bytes,
            sessions=sessions,
        )

    async def _update_lifecycle(self, request: pb.UpdateLifecycleRequest) -> pb.Lifecycle:
        lifecycle = request.lifecycle
        if lifecycle.state == pb.Lifecycle.STATE_UNSPECIFIED or lifecycle.state not in pb.Lifecycle.State.values():
            raise Invalid(f"unknown lifecycle state: {lifecycle.state}")
        state = Lifecycle(pb.Lifecycle.State.Name(lifecycle.state).lower())
        changed_at = self._time(lifecycle.changed_at)
        async with self._sessions.pool.connection() as db:
            agent = (await agents.get(db, self._agent_id)).agent
            started_at, ready_at = agent.started_at, agent.ready_at
            if state is Lifecycle.STARTING:
                started_at, ready_at = changed_at, None
            elif state in STARTED:
                started_at, ready_at = started_at or changed_at, changed_at
            await agents.set_lifecycle(db, self._agent_id, state, started_at=started_at, ready_at=ready_at)
            await report_change(db, self._located)
        answer = pb.Lifecycle(state=lifecycle.state)
        answer.changed_at.FromDatetime(changed_at)
        return answer

    def _time(self, timestamp: Timestamp) -> datetime:
        """Read a time; the year 1, an unset time in Go, means now."""
        seconds = timestamp.seconds
        if seconds <= -62135596800:
            return self._clock.now()
        return timestamp.ToDatetime(UTC)

    async def _update_startup(self, request: pb.UpdateStartupRequest) -> pb.Startup:
        startup = request.startup
        if not SEMVER.fullmatch(startup.version):
            raise Invalid(f"invalid agent semver version {startup.version!r}")
        unknown = [number for number in startup.subsystems if number not in _SUBSYSTEMS]
        if unknown:
            raise Invalid(f"invalid agent subsystem {unknown[0]}")
        async with self._sessions.pool.connection() as db:
            await agents.set_startup(
                db,
                self._agent_id,
                version=startup.version,
                api_version=self._api_version,
                expanded_directory=startup.expanded_directory,
                subsystems=sorted({_SUBSYSTEMS[number] for number in startup.subsystems}),
            )
            await report_change(db, self._located)
        return startup

    async def _update_app_healths(self, request: pb.BatchUpdateAppHealthRequest) -> pb.BatchUpdateAppHealthResponse:
        async with self._sessions.pool.connection() as db:
            apps = {app.id: app for app in await agents.list_apps(db, [self._agent_id])}
            changed = False
            for update in request.updates:
                app = apps.get(convert_tailnet.uuid_from_bytes(update.id))
                health = _HEALTHS.get(update.health)
                if app is None or not app.healthcheck_url or health is None:
                    raise Invalid(f"cannot set the health of app {update.id.hex()}: {_health_problem(app, health)}")
                if app.health != health:
                    await agents.set_app_health(db, self._agent_id, app.id, health)
                    changed = True
            if changed:
                await report_change(db, self._located)
        return pb.BatchUpdateAppHealthResponse()

    async def _update_metadata(self, request: pb.BatchUpdateMetadataRequest) -> pb.BatchUpdateMetadataResponse:
        results = [MetadataResult(item.key, item.result.value, item.result.error) for item in request.metadata]
        kept, problem = limit_metadata(results)
        self._sessions.metadata.put(self._agent_id, kept)
        if problem:
            raise Invalid(problem)
        return pb.BatchUpdateMetadataResponse()

    async def _create_logs(self, request: pb.BatchCreateLogsRequest) -> pb.BatchCreateLogsResponse:
        lines = [(_LEVELS.get(line.level, "info"), line.output) for line in request.logs]
        source = convert_tailnet.uuid_from_bytes(request.log_source_id)
        async with self._sessions.pool.connection() as db:
            stored = await append_logs(db, self._located, source, lines, self._clock.now())
        return pb.BatchCreateLogsResponse(log_limit_exceeded=not stored)

    async def _script_completed(
        self, request: pb.WorkspaceAgentScriptCompletedRequest
    ) -> pb.WorkspaceAgentScriptCompletedResponse:
        timing = request.timing
        if not timing.HasField("start") or not timing.HasField("end"):
            raise Invalid("script start and end time are required")
        started_at, ended_at = timing.start.ToDatetime(UTC), timing.end.ToDatetime(UTC)
        if started_at > ended_at:
            raise Invalid("script start time cannot be after its end time")
        async with self._sessions.pool.connection() as db:
            known = await agents.insert_script_timing(
                db,
                convert_tailnet.uuid_from_bytes(timing.script_id),
                self._agent_id,
                stage=_STAGES.get(timing.stage, "start"),
                status=_STATUSES.get(timing.status, "exit_failure"),
                exit_code=timing.exit_code,
                started_at=started_at,
                ended_at=ended_at,
            )
            if known:
                await report_change(db, self._located)
        if not known:
            raise Invalid(f"the agent has no script {timing.script_id.hex()}")
        return pb.WorkspaceAgentScriptCompletedResponse()

    async def _monitoring_configuration(
        self, _: pb.GetResourcesMonitoringConfigurationRequest
    ) -> pb.GetResourcesMonitoringConfigurationResponse:
        answer = pb.GetResourcesMonitoringConfigurationResponse()
        answer.config.num_datapoints = MONITORING_DATAPOINTS
        answer.config.collection_interval_seconds = MONITORING_INTERVAL_SECONDS
        monitoring = self._located.agent.resources_monitoring or {}
        memory = monitoring.get("memory")
        if isinstance(memory, dict):
            answer.memory.enabled = bool(memory.get("enabled"))  # pyright: ignore[reportUnknownArgumentType, reportUnknownMemberType]
        volumes = monitoring.get("volumes")
        if isinstance(volumes, list):
            for volume in volumes:  # pyright: ignore[reportUnknownVariableType]
                answer.volumes.add(enabled=bool(volume["enabled"]), path=str(volume["path"]))  # pyright: ignore[reportUnknownArgumentType]
        return answer

    async def _push_monitoring(
        self, _: pb.PushResourcesMonitoringUsageRequest
    ) -> pb.PushResourcesMonitoringUsageResponse:
        """Take the figures; what they mean (out of memory, out of disk) is told once there are notifications."""
        return pb.PushResourcesMonitoringUsageResponse()

    async def _report_connection(self, request: pb.ReportConnectionRequest) -> Empty:
        connection = request.connection
        connection_id = convert_tailnet.uuid_from_bytes(connection.id)
        if connection_id.int == 0:
            raise Invalid("a connection report needs an id")
        kind = _CONNECTION_TYPES.get(connection.type)
        if kind is None or connection.action == pb.Connection.ACTION_UNSPECIFIED:
            raise Invalid(f"unknown connection type {connection.type} or action {connection.action}")
        report = connection_logs.Report(
            connection_id=connection_id,
            connected=connection.action == pb.Connection.CONNECT,
            type=kind,
            at=self._time(connection.timestamp),
            ip=_ip(connection.ip),
            status_code=connection.status_code,
            reason=connection.reason,
        )
        async with self._sessions.pool.connection() as db:
            await connection_logs.upsert(db, self._located.agent.name, self._located.place, report)
        return Empty()

    async def _update_app_status(self, request: pb.UpdateAppStatusRequest) -> pb.UpdateAppStatusResponse:
        state = _APP_STATES.get(request.state, "")
        check_app_status(state, request.message)
        async with self._sessions.pool.connection() as db:
            await store_app_status(
                db, self._located, request.slug, state, request.message, request.uri, self._clock.now()
            )
        return pb.UpdateAppStatusResponse()


async def _unimplemented(_: Message) -> Message:
    raise Unimplemented("Unimplemented")


def _health_problem(app: App | None, health: str | None) -> str:
    if app is None:
        return "the agent has no such app"
    return "unknown health" if health is None else "the app has no health check"


def _ip(text: str) -> str | None:
    if text == "localhost":
        return "127.0.0.1"
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return None


def _port_proxy_uri(settings: AgentSettings, names: str) -> str:
    if not settings.wildcard_app_host:
        return ""
    host = settings.wildcard_app_host.replace("*", "{{port}}--" + names)
    return f"{urlsplit(settings.access_url).scheme}://{host}"


def _script(script: Script) -> pb.WorkspaceAgentScript:
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


def _app(app: App, names: str) -> pb.WorkspaceApp:
    message = pb.WorkspaceApp(
        id=app.id.bytes,
        url=app.url,
        external=app.external,
        slug=app.slug,
        display_name=app.display_name,
        command=app.command,
        icon=app.icon,
        subdomain=app.subdomain,
        subdomain_name=f"{app.slug}--{names}" if app.subdomain else "",
        sharing_level=pb.WorkspaceApp.SharingLevel.Value(app.sharing_level.upper()),
        health=pb.WorkspaceApp.Health.Value(app.health.upper()),
        hidden=app.hidden,
    )
    message.healthcheck.url = app.healthcheck_url
    message.healthcheck.threshold = app.healthcheck_threshold
    message.healthcheck.interval.FromSeconds(app.healthcheck_interval)
    return message


def _description(item: MetadataItem) -> pb.WorkspaceAgentMetadata.Description:
    description = pb.WorkspaceAgentMetadata.Description(
        display_name=item.display_name, key=item.key, script=item.script
    )
    # Clients expect the number of seconds as that many nanoseconds.
    description.interval.FromNanoseconds(item.interval_seconds)
    description.timeout.FromNanoseconds(item.timeout_seconds)
    return description
