"""What an agent's connection to the control plane serves: its manifest, its reports, and the tailnet.

An error answered to an agent makes most agents drop the connection, so errors are for what is malformed only; what is
merely too much is cut, or refused in the answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit
from uuid import UUID

import anyio
import structlog
from anyio.abc import ByteStream, TaskStatus
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message
from psycopg_pool import AsyncConnectionPool

from warren.clock import Clock
from warren.domain import agent as rules
from warren.domain.agent import AgentParts
from warren.errors import Invalid, Unavailable, Unimplemented
from warren.net.coordinator import AgentAuth
from warren.rpc import convert_agent as convert
from warren.rpc import convert_tailnet, drpc
from warren.rpc._pb import agent_pb2 as pb
from warren.rpc.drpc import Handler
from warren.rpc.methods import AgentAPI, AnyMethod
from warren.rpc.multiplexer import Multiplexer
from warren.services.agents import AgentSettings, append_logs, report_change, store_app_status
from warren.services.coordination import Coordination
from warren.services.deployment import APPEARANCE
from warren.services.metadata_writer import MetadataWriter
from warren.services.sub_agents import SubAgents
from warren.storage import agent_metadata, agent_stats, agents, connection_logs, deployment, workspaces
from warren.storage.agents import AgentIdentity
from warren.storage.connection_logs import ConnectionReport

log = structlog.get_logger()

PING_SECONDS = 15.0
SILENCE_SECONDS = rules.INACTIVE_AFTER.total_seconds()
MONITORING_DATAPOINTS = 20
MONITORING_INTERVAL_SECONDS = 10


class AgentRPC:
    """Serves the connections of agents."""

    def __init__(
        self,
        pool: AsyncConnectionPool,
        clock: Clock,
        coordination: Coordination,
        metadata: MetadataWriter,
        settings: AgentSettings,
        *,
        ping_seconds: float = PING_SECONDS,
    ) -> None:
        self.pool = pool
        self.clock = clock
        self.coordination = coordination
        self.metadata = metadata
        self.settings = settings
        self._ping_seconds = ping_seconds
        self._connections: dict[UUID, Multiplexer] = {}
        """The newest monitored connection of each agent."""

    async def serve(self, stream: ByteStream, identity: AgentIdentity, *, api_version: str, monitored: bool) -> None:
        """Serve one connection until it ends, the agent falls silent, or a newer build takes its place."""
        session = _Session(self, identity, api_version)
        async with Multiplexer(stream, client=False) as mux, anyio.create_task_group() as tasks:
            if monitored:
                await tasks.start(self._monitor, identity, mux)
            await drpc.serve(mux, session.handlers())
            tasks.cancel_scope.cancel()

    async def _monitor(self, identity: AgentIdentity, mux: Multiplexer, *, task_status: TaskStatus[None]) -> None:
        self._connections[identity.agent_id] = mux
        await self._note_connected(identity)
        log.info("agent.connected", agent=str(identity.agent_id), workspace=identity.workspace_name)
        task_status.started()
        reason = "connection closed"
        try:
            reason = await self._watch(identity, mux)
            mux.close()
        finally:
            with anyio.move_on_after(SILENCE_SECONDS, shield=True):
                await self._note_disconnected(identity, mux)
            log.info("agent.disconnected", agent=str(identity.agent_id), reason=reason)

    async def _watch(self, identity: AgentIdentity, mux: Multiplexer) -> str:
        """Ask for signs of life, and note them; return why the connection has to end."""
        while True:
            await anyio.sleep(self._ping_seconds)
            try:
                await mux.ping()
            except Unavailable:
                return "connection closed"
            except TimeoutError:
                pass
            if anyio.current_time() - mux.last_pong_at > SILENCE_SECONDS:
                return "ping timeout"
            try:
                async with self.pool.connection() as db:
                    await agents.set_connection(db, identity.agent_id, connected_at=self.clock.now())
                    found = await agents.find_identity_of_agent(db, identity.agent_id)
            except Unavailable as error:
                # The agent is not to blame, and its tunnels need no database.
                log.warning("agent.unrecorded", agent=str(identity.agent_id), error=str(error))
                continue
            if found is None or not rules.may_connect(found.build, found.latest_build):
                return "build is outdated"

    async def _note_connected(self, identity: AgentIdentity) -> None:
        try:
            async with self.pool.connection() as db:
                await agents.set_connection(
                    db, identity.agent_id, connected_at=self.clock.now(), replica_id=self.settings.replica_id
                )
                await report_change(db, identity)
        except Unavailable as error:
            log.warning("agent.unrecorded", agent=str(identity.agent_id), error=str(error))

    async def _note_disconnected(self, identity: AgentIdentity, mux: Multiplexer) -> None:
        if self._connections.get(identity.agent_id) is not mux:
            return  # the agent is back already, on another connection
        del self._connections[identity.agent_id]
        try:
            async with self.pool.connection() as db:
                await agents.set_disconnected(db, identity.agent_id, self.clock.now())
                await report_change(db, identity)
        except Unavailable as error:
            log.warning("agent.unrecorded", agent=str(identity.agent_id), error=str(error))


class _Session:
    """The handlers of one agent's connection."""

    def __init__(self, server: AgentRPC, identity: AgentIdentity, api_version: str) -> None:
        self._server = server
        self._identity = identity
        self._api_version = api_version
        self._pool = server.pool
        self._clock = server.clock

    def handlers(self) -> drpc.Handlers:
        """Name the handler of each call."""
        ours: Mapping[AnyMethod, Handler] = {
            AgentAPI.GetManifest: self.get_manifest,
            AgentAPI.GetServiceBanner: self.get_service_banner,
            AgentAPI.GetAnnouncementBanners: self.get_announcement_banners,
            AgentAPI.UpdateStats: self.update_stats,
            AgentAPI.UpdateLifecycle: self.update_lifecycle,
            AgentAPI.UpdateStartup: self.update_startup,
            AgentAPI.BatchUpdateAppHealths: self.update_app_healths,
            AgentAPI.BatchUpdateMetadata: self.update_metadata,
            AgentAPI.BatchCreateLogs: self.create_logs,
            AgentAPI.ScriptCompleted: self.script_completed,
            AgentAPI.GetResourcesMonitoringConfiguration: self.monitoring_configuration,
            AgentAPI.PushResourcesMonitoringUsage: self.push_monitoring,
            AgentAPI.ReportConnection: self.report_connection,
            AgentAPI.UpdateAppStatus: self.update_app_status,
            AgentAPI.ReportBoundaryLogs: self.report_boundary_logs,
            AgentAPI.PushContextState: unimplemented,
        }
        agent_id = self._identity.agent_id
        return {
            **ours,
            **SubAgents(self._pool, self._clock, self._identity).handlers(),
            **self._server.coordination.handlers(agent_id, AgentAuth(agent_id)),
        }

    # What an agent asks -----------------------------------------------------------------------------------------------

    async def get_manifest(self, _: pb.GetManifestRequest) -> pb.Manifest:
        """Tell an agent what it is and has to do."""
        async with self._pool.connection() as db:
            parts = await agents.get_parts(db, self._identity.agent_id)
            metadata = await agent_metadata.list_of_agent(db, self._identity.agent_id)
        agent, identity, settings = parts.agent, self._identity, self._server.settings
        message = pb.Manifest(
            agent_id=agent.id.bytes,
            agent_name=agent.name,
            owner_username=identity.owner_name,
            workspace_id=identity.workspace_id.bytes,
            workspace_name=identity.workspace_name,
            environment_variables=dict(agent.environment_variables),
            directory=agent.directory,
            motd_path=agent.motd_file,
            vs_code_port_proxy_uri=port_proxy_uri(settings, parts),
            disable_direct_connections=settings.block_direct,
            derp_force_websockets=settings.force_websockets,
            derp_map=convert_tailnet.derp_map_to_message(self._server.coordination.derp_maps.current),
            scripts=[convert.script_to_message(script) for script in parts.scripts],
            apps=[convert.app_to_message(app, rules.subdomain_name(parts, app)) for app in parts.apps],
            metadata=[convert.description_to_message(item) for item in metadata],
        )
        if agent.parent_id is not None:
            message.parent_id = agent.parent_id.bytes
        return message

    async def get_service_banner(self, _: pb.GetServiceBannerRequest) -> pb.ServiceBanner:
        """Tell the first banner, as old agents ask for it."""
        banner = next(iter(await self._banners()), rules.Banner())
        return pb.ServiceBanner(
            enabled=banner.enabled, message=banner.message, background_color=banner.background_color
        )

    async def get_announcement_banners(self, _: pb.GetAnnouncementBannersRequest) -> pb.GetAnnouncementBannersResponse:
        """Tell what the operator announces."""
        return pb.GetAnnouncementBannersResponse(
            announcement_banners=[
                pb.BannerConfig(
                    enabled=banner.enabled, message=banner.message, background_color=banner.background_color
                )
                for banner in await self._banners()
            ]
        )

    async def _banners(self) -> Sequence[rules.Banner]:
        async with self._pool.connection() as db:
            return rules.banners(await deployment.read_config(db, APPEARANCE))

    async def monitoring_configuration(
        self, _: pb.GetResourcesMonitoringConfigurationRequest
    ) -> pb.GetResourcesMonitoringConfigurationResponse:
        """Tell which resources to watch."""
        async with self._pool.connection() as db:
            agent = await agents.get(db, self._identity.agent_id)
        found = rules.monitoring(agent.resources_monitoring)
        answer = pb.GetResourcesMonitoringConfigurationResponse()
        answer.config.num_datapoints = MONITORING_DATAPOINTS
        answer.config.collection_interval_seconds = MONITORING_INTERVAL_SECONDS
        if found.memory is not None:
            answer.memory.enabled = found.memory
        for path, enabled in found.volumes.items():
            answer.volumes.add(path=path, enabled=enabled)
        return answer

    # What an agent reports --------------------------------------------------------------------------------------------

    async def push_monitoring(
        self, request: pb.PushResourcesMonitoringUsageRequest
    ) -> pb.PushResourcesMonitoringUsageResponse:
        """Check the figures; nobody is told of a full disk yet, for there are no notifications."""
        async with self._pool.connection() as db:
            agent = await agents.get(db, self._identity.agent_id)
        for datapoint in request.datapoints:
            measured = {volume.volume for volume in datapoint.volumes}
            for path in rules.monitoring(agent.resources_monitoring).volumes:
                if path not in measured:
                    raise Invalid(f'volume "{path}" is monitored but not in the datapoints')
        return pb.PushResourcesMonitoringUsageResponse()

    async def update_stats(self, request: pb.UpdateStatsRequest) -> pb.UpdateStatsResponse:
        """Store a report of connections; a workspace that is in use stays up."""
        if request.HasField("stats"):
            await self._store_stats(request.stats)
        response = pb.UpdateStatsResponse()
        response.report_interval.FromTimedelta(self._server.settings.stats_interval)
        return response

    async def _store_stats(self, message: pb.Stats) -> None:
        identity, now = self._identity, self._clock.now()
        stats = agent_stats.Stats(
            connections_by_proto=dict(message.connections_by_proto),
            connection_count=message.connection_count,
            connection_median_latency_ms=message.connection_median_latency_ms,
            rx_packets=message.rx_packets,
            rx_bytes=message.rx_bytes,
            tx_packets=message.tx_packets,
            tx_bytes=message.tx_bytes,
            sessions=convert.sessions_from_message(message),
        )
        async with self._pool.connection() as db:
            await agent_stats.insert(
                db,
                stats,
                agent_id=identity.agent_id,
                owner_id=identity.owner_id,
                workspace_id=identity.workspace_id,
                template_id=identity.template_id,
                now=now,
            )
            if not message.connection_count:
                return
            await workspaces.touch(db, identity.workspace_id, now)
            found = await agent_stats.find_deadlines(db, identity.workspace_id)
            if found is not None:
                later = rules.bumped_deadline(found.deadline, found.max_deadline, found.bump, now)
                if later is not None:
                    await agent_stats.set_deadline(db, found.build_id, later, now)
            await report_change(db, identity)

    async def update_lifecycle(self, request: pb.UpdateLifecycleRequest) -> pb.Lifecycle:
        """Store what the agent is doing."""
        lifecycle = convert.lifecycle_from_message(request.lifecycle)
        changed_at = convert.time_from_message(request.lifecycle.changed_at, self._clock.now())
        async with self._pool.connection() as db:
            agent = await agents.lock(db, self._identity.agent_id)
            started_at, ready_at = rules.lifecycle_times(agent, lifecycle, changed_at)
            await agents.set_lifecycle(db, agent.id, lifecycle, started_at=started_at, ready_at=ready_at)
            await report_change(db, self._identity)
        return request.lifecycle

    async def update_startup(self, request: pb.UpdateStartupRequest) -> pb.Startup:
        """Store what the agent says of itself."""
        startup = convert.startup_from_message(request.startup)
        async with self._pool.connection() as db:
            await agents.set_startup(
                db,
                self._identity.agent_id,
                version=rules.check_version(startup.version),
                api_version=self._api_version,
                expanded_directory=startup.expanded_directory,
                subsystems=startup.subsystems,
            )
            await report_change(db, self._identity)
        return request.startup

    async def update_app_healths(self, request: pb.BatchUpdateAppHealthRequest) -> pb.BatchUpdateAppHealthResponse:
        """Store how healthy apps are, all or none."""
        updates = convert.healths_from_message(request)
        if not updates:
            return pb.BatchUpdateAppHealthResponse()
        async with self._pool.connection() as db:
            apps = await agents.list_apps(db, self._identity.agent_id)
            for app_id, _ in updates:
                if app_id not in apps:
                    raise Invalid(f"workspace app ID {app_id} not found")
                if not apps[app_id][1]:
                    raise Invalid(f"workspace app {app_id} does not have healthchecks enabled")
            changed = [(app_id, health) for app_id, health in updates if apps[app_id][2] != health]
            for app_id, health in changed:
                await agents.set_app_health(db, app_id, health)
            if changed:
                await report_change(db, self._identity)
        return pb.BatchUpdateAppHealthResponse()

    async def update_metadata(self, request: pb.BatchUpdateMetadataRequest) -> pb.BatchUpdateMetadataResponse:
        """Take what the agent collected; it is written soon."""
        kept, problem = rules.check_metadata(convert.metadata_from_message(request))
        self._server.metadata.put(self._identity.agent_id, kept)
        if problem:
            raise Invalid(problem)
        return pb.BatchUpdateMetadataResponse()

    async def create_logs(self, request: pb.BatchCreateLogsRequest) -> pb.BatchCreateLogsResponse:
        """Store lines of the agent's log."""
        source_id, lines = convert.logs_from_message(request)
        async with self._pool.connection() as db:
            stored = await append_logs(db, self._identity, source_id, lines, self._clock.now())
        return pb.BatchCreateLogsResponse(log_limit_exceeded=not stored)

    async def script_completed(
        self, request: pb.WorkspaceAgentScriptCompletedRequest
    ) -> pb.WorkspaceAgentScriptCompletedResponse:
        """Store a run of a script."""
        run = convert.run_from_message(request)
        async with self._pool.connection() as db:
            await agents.insert_script_timing(
                db,
                self._identity.agent_id,
                run.script_id,
                stage=run.stage,
                status=run.status,
                exit_code=run.exit_code,
                started_at=run.started_at,
                ended_at=run.ended_at,
            )
            await report_change(db, self._identity)
        return pb.WorkspaceAgentScriptCompletedResponse()

    async def report_connection(self, request: pb.ReportConnectionRequest) -> Empty:
        """Store that somebody connected to the agent, or left."""
        found = convert.connection_from_message(request, self._clock.now())
        identity = self._identity
        async with self._pool.connection() as db:
            await connection_logs.upsert(
                db,
                ConnectionReport(
                    found.id, found.type, found.ip, found.at, found.ended, found.status_code, found.reason
                ),
                organization_id=identity.organization_id,
                owner_id=identity.owner_id,
                workspace_id=identity.workspace_id,
                workspace_name=identity.workspace_name,
                agent_name=identity.agent_name,
            )
        return Empty()

    async def report_boundary_logs(self, request: pb.ReportBoundaryLogsRequest) -> pb.ReportBoundaryLogsResponse:
        """Write to the server's own log what a confined process tried to reach."""
        for entry in request.logs:
            asked = entry.http_request
            log.info(
                "boundary.request",
                agent=str(self._identity.agent_id),
                workspace=self._identity.workspace_name,
                owner=self._identity.owner_name,
                allowed=entry.allowed,
                method=asked.method,
                url=asked.url,
                matched_rule=asked.matched_rule,
            )
        return pb.ReportBoundaryLogsResponse()

    async def update_app_status(self, request: pb.UpdateAppStatusRequest) -> pb.UpdateAppStatusResponse:
        """Store what an app says that it is doing."""
        state = convert.app_state_from_message(request)
        async with self._pool.connection() as db:
            await store_app_status(
                db, self._identity, request.slug, state, request.message, request.uri, self._clock.now()
            )
        return pb.UpdateAppStatusResponse()


async def unimplemented(_: Message) -> Message:
    """Refuse a call that is known and not served."""
    raise Unimplemented("Unimplemented")


def port_proxy_uri(settings: AgentSettings, parts: AgentParts) -> str:
    """Say where an editor in the workspace finds a port, with `{{port}}` in place of its number."""
    if not settings.wildcard_app_host:
        return ""
    label = "{{port}}--" + f"{parts.agent.name}--{parts.workspace_name}--{parts.owner_name}"
    host = settings.wildcard_app_host.replace("*", label, 1)
    return f"{urlsplit(settings.access_url).scheme}://{host}"
