"""What an agent says to the control plane, and what it hears, over real remote calls."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import LiteralString
from uuid import UUID, uuid4

import anyio
import pytest
from anyio.abc import TaskStatus
from psycopg.rows import dict_row

from tests.integration.agents.agency import APP_ID, Agency, template_agent
from tests.integration.builds.scripted_daemon import resource
from warren.domain.agent import LOGS_LIMIT_BYTES, AgentStatus, Lifecycle
from warren.errors import Forbidden, NotFound, RemoteError, TooLarge, Unauthenticated, Unimplemented
from warren.rpc._pb import agent_pb2 as pb
from warren.rpc.drpc import Client
from warren.rpc.methods import AgentAPI
from warren.storage import deployment

pytestmark = pytest.mark.anyio


async def rows(agency: Agency, query: LiteralString) -> list[dict[str, object]]:
    async with agency.world.pool.connection() as db, db.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(query)
        return await cursor.fetchall()


async def test_the_manifest_has_all_that_the_template_says(agency: Agency) -> None:
    async with agency.connect_agent() as (client, _):
        manifest = await client.unary(AgentAPI.GetManifest, pb.GetManifestRequest())
    assert manifest.agent_id == agency.agent_id.bytes
    assert (manifest.agent_name, manifest.workspace_name, manifest.owner_username) == ("main", "dev", "admin")
    assert manifest.environment_variables == {"A": "1"}
    assert manifest.directory == "/home/dev"
    assert manifest.vs_code_port_proxy_uri == "http://{{port}}--main--dev--admin.apps.test"
    assert manifest.derp_map.regions[999].embedded_relay
    [script] = manifest.scripts
    assert (script.script, script.run_on_start, len(script.log_source_id)) == ("echo hi", True, 16)
    code, shell = manifest.apps
    assert (code.slug, code.healthcheck.url) == ("code", "http://localhost:8080/healthz")
    assert code.health == pb.WorkspaceApp.INITIALIZING
    assert shell.health == pb.WorkspaceApp.DISABLED
    assert shell.HasField("healthcheck")
    assert code.sharing_level == pb.WorkspaceApp.OWNER
    [load] = manifest.metadata
    assert (load.key, load.interval.nanos, load.timeout.nanos) == ("load", 10, 1)
    assert not manifest.HasField("parent_id")


async def test_the_lifecycle_sets_when_scripts_started_and_ended(agency: Agency) -> None:
    started = datetime(2026, 1, 1, tzinfo=UTC)
    async with agency.connect_agent() as (client, _):
        await report_lifecycle(client, pb.Lifecycle.STARTING, started)
        await report_lifecycle(client, pb.Lifecycle.READY, started + timedelta(seconds=5))
        agent = (await agency.view()).parts.agent
        assert agent.lifecycle is Lifecycle.READY
        assert (agent.started_at, agent.ready_at) == (started, started + timedelta(seconds=5))
        await report_lifecycle(client, pb.Lifecycle.STARTING, started + timedelta(seconds=9))
        agent = (await agency.view()).parts.agent
        assert (agent.started_at, agent.ready_at) == (started + timedelta(seconds=9), None)
        with pytest.raises(RemoteError, match="unknown lifecycle state"):
            await report_lifecycle(client, pb.Lifecycle.STATE_UNSPECIFIED, started)


async def report_lifecycle(client: Client, state: pb.Lifecycle.State, at: datetime) -> None:
    request = pb.UpdateLifecycleRequest(lifecycle=pb.Lifecycle(state=state))
    request.lifecycle.changed_at.FromDatetime(at)
    answer = await client.unary(AgentAPI.UpdateLifecycle, request)
    assert answer == request.lifecycle


async def test_startup_stores_what_the_agent_is(agency: Agency) -> None:
    startup = pb.Startup(
        version="v2.31.0-devel+abc",
        expanded_directory="/home/dev/src",
        subsystems=[pb.Startup.EXECTRACE, pb.Startup.ENVBOX, pb.Startup.ENVBOX],
    )
    async with agency.connect_agent() as (client, _):
        await client.unary(AgentAPI.UpdateStartup, pb.UpdateStartupRequest(startup=startup))
        agent = (await agency.view()).parts.agent
        assert (agent.version, agent.api_version) == ("v2.31.0-devel+abc", "2.10")
        assert agent.subsystems == ["envbox", "exectrace"]
        assert agent.expanded_directory == "/home/dev/src"
        for bad in ("2.31.0", "vNext", ""):
            with pytest.raises(RemoteError, match="semver"):
                await client.unary(AgentAPI.UpdateStartup, pb.UpdateStartupRequest(startup=pb.Startup(version=bad)))


async def test_the_connection_is_watched(agency: Agency) -> None:
    assert (await agency.view()).status is AgentStatus.CONNECTING
    async with agency.world.notifier.subscribe("agent", agency.agent_id) as changes:
        async with agency.connect_agent() as (client, _):
            await client.unary(AgentAPI.GetManifest, pb.GetManifestRequest())
            assert (await agency.view()).status is AgentStatus.CONNECTED
            assert await changes.wait(20)
        while (await agency.view()).status is not AgentStatus.DISCONNECTED:
            assert await changes.wait(20)
    [row] = await rows(agency, "SELECT connected_replica_id FROM workspace_agents WHERE first_connected_at IS NOT NULL")
    assert row["connected_replica_id"] == agency.agents.settings.replica_id


async def test_signs_of_life_are_noted(agency: Agency) -> None:
    async with agency.connect_agent() as (client, mux):
        await client.unary(AgentAPI.GetManifest, pb.GetManifestRequest())
        agency.world.clock.advance(timedelta(seconds=45))
        with anyio.fail_after(20):
            while (await agency.view()).status is not AgentStatus.CONNECTED:
                await mux.ping()


async def test_a_new_connection_survives_the_end_of_an_old_one(agency: Agency) -> None:
    leave, left = anyio.Event(), anyio.Event()

    async def hold_old(*, task_status: TaskStatus[None]) -> None:
        async with agency.connect_agent() as (client, _):
            await client.unary(AgentAPI.GetManifest, pb.GetManifestRequest())
            task_status.started()
            await leave.wait()
        left.set()

    async with anyio.create_task_group() as tasks:
        await tasks.start(hold_old)
        async with agency.connect_agent() as (client, _):
            await client.unary(AgentAPI.GetManifest, pb.GetManifestRequest())
            leave.set()
            await left.wait()
            [row] = await rows(
                agency, "SELECT disconnected_at FROM workspace_agents WHERE first_connected_at IS NOT NULL"
            )
            assert row["disconnected_at"] is None
    assert (await agency.view()).status is AgentStatus.DISCONNECTED


async def test_helpers_of_an_agent_are_not_watched(agency: Agency) -> None:
    async with agency.connect_agent(monitored=False) as (client, _):
        await client.unary(AgentAPI.GetManifest, pb.GetManifestRequest())
    assert (await agency.view()).status is AgentStatus.CONNECTING


async def test_an_agent_may_report_while_its_workspace_stops_and_not_after(agency: Agency) -> None:
    world = agency.world
    async with agency.connect_agent() as (client, mux):
        await world.build(agency.workspace, "stop")
        await client.unary(AgentAPI.GetManifest, pb.GetManifestRequest())
        await agency.agents.authenticate(agency.token)
        await agency.daemon.build(resources=[])
        with anyio.fail_after(20):
            await mux.closed.wait()
    with pytest.raises((Unauthenticated, Forbidden)):
        await agency.agents.authenticate(agency.token)


async def test_an_agent_of_an_older_build_is_refused(agency: Agency) -> None:
    world = agency.world
    await world.build(agency.workspace, "stop")
    await agency.daemon.build(resources=[])
    await world.build(agency.workspace, "start")
    with pytest.raises((Unauthenticated, Forbidden)):
        await agency.agents.authenticate(agency.token)
    token = uuid4()
    await agency.daemon.build(resources=[resource(template_agent(token))])
    assert (await agency.agents.authenticate(token)).agent_id != agency.agent_id
    with pytest.raises(Unauthenticated):
        await agency.agents.authenticate(uuid4())


async def test_app_healths_are_stored_all_or_none(agency: Agency) -> None:
    async with agency.connect_agent() as (client, _):
        await report_health(client, (APP_ID, pb.HEALTHY))
        assert [app.health for app in (await agency.view()).parts.apps] == ["healthy", "disabled"]
        with pytest.raises(RemoteError, match="not found"):
            await report_health(client, (APP_ID, pb.UNHEALTHY), (uuid4(), pb.HEALTHY))
        with pytest.raises(RemoteError, match="healthchecks"):
            shell = (await agency.view()).parts.apps[1]
            await report_health(client, (APP_ID, pb.UNHEALTHY), (shell.id, pb.HEALTHY))
        assert (await agency.view()).parts.apps[0].health == "healthy"
        await report_health(client)


async def report_health(client: Client, *updates: tuple[UUID, pb.AppHealth]) -> None:
    request = pb.BatchUpdateAppHealthRequest()
    for app_id, health in updates:
        request.updates.add(id=app_id.bytes, health=health)
    await client.unary(AgentAPI.BatchUpdateAppHealths, request)


async def test_metadata_is_seen_by_who_watches(agency: Agency) -> None:
    watch = agency.agents.watch_metadata(agency.agent_id)
    [load] = await anext(watch)
    assert (load.key, load.value, load.collected_at) == ("load", "", None)
    async with agency.connect_agent() as (client, _):
        request = pb.BatchUpdateMetadataRequest()
        request.metadata.add(key="load", result=pb.WorkspaceAgentMetadata.Result(value=" 0.5\n"))
        request.metadata.add(key="nobody", result=pb.WorkspaceAgentMetadata.Result(value="x"))
        await client.unary(AgentAPI.BatchUpdateMetadata, request)
        with anyio.fail_after(20):
            while not load.value:
                [load] = await anext(watch)
        assert load.value == "0.5"
        assert load.collected_at is not None
        assert abs(load.collected_at - agency.world.clock.now()) < timedelta(seconds=1)
        request = pb.BatchUpdateMetadataRequest()
        request.metadata.add(key="k" * 7000, result=pb.WorkspaceAgentMetadata.Result(value="x"))
        with pytest.raises(RemoteError, match="metadata keys of 7000 bytes exceeded 6144 bytes"):
            await client.unary(AgentAPI.BatchUpdateMetadata, request)
    await watch.aclose()


def log_request(*outputs: str, source: bytes = bytes(16)) -> pb.BatchCreateLogsRequest:
    return pb.BatchCreateLogsRequest(
        log_source_id=source, logs=[pb.Log(output=output, level=pb.Log.WARN) for output in outputs]
    )


async def test_logs_reach_who_follows_them(agency: Agency) -> None:
    lines = agency.agents.follow_logs(agency.agent_id, 0)
    assert list(await anext(lines)) == []
    async with agency.connect_agent() as (client, _):
        await client.unary(AgentAPI.BatchCreateLogs, log_request("one", "two\x00"))
        with anyio.fail_after(20):
            first, second = await anext(lines)
        assert (first.output, first.level, second.output) == ("one", "warn", "two\ufffd")
        await client.unary(AgentAPI.BatchCreateLogs, log_request())
        await client.unary(AgentAPI.BatchCreateLogs, log_request("three"))
        assert [line.output for line in await agency.agents.list_logs(agency.world.admin, agency.agent_id, second.id)]
        parts = (await agency.view()).parts
        assert {source.display_name for source in parts.log_sources} == {"Hello", "External"}
        assert parts.agent.logs_length == len("onetwo\ufffdthree".encode())
    await agency.world.build(agency.workspace, "stop")
    with anyio.fail_after(20):
        assert [line.output for line in await anext(lines)] == ["three"]
        with pytest.raises(StopAsyncIteration):
            await anext(lines)


async def test_too_long_a_log_is_refused_whole(agency: Agency) -> None:
    async with agency.connect_agent() as (client, _):
        answer = await client.unary(AgentAPI.BatchCreateLogs, log_request("x" * LOGS_LIMIT_BYTES))
        assert not answer.log_limit_exceeded
        answer = await client.unary(AgentAPI.BatchCreateLogs, log_request("y"))
        assert answer.log_limit_exceeded
        answer = await client.unary(AgentAPI.BatchCreateLogs, log_request())
        assert answer.log_limit_exceeded
    assert (await agency.view()).parts.agent.logs_overflowed
    assert len(await agency.agents.list_logs(agency.world.admin, agency.agent_id, 0)) == 1
    identity = await agency.agents.authenticate(agency.token)
    with pytest.raises(TooLarge):
        await agency.agents.add_logs(identity, UUID(int=0), [("info", "z")])


async def test_use_keeps_a_workspace_up(agency: Agency) -> None:
    now = agency.world.clock.now()
    async with agency.world.pool.connection() as db:
        await db.execute("UPDATE workspace_builds SET deadline = %s", (now + timedelta(minutes=10),))
    async with agency.connect_agent() as (client, _):
        idle = await client.unary(AgentAPI.UpdateStats, pb.UpdateStatsRequest(stats=pb.Stats()))
        assert idle.report_interval.seconds == 30
        [build] = await rows(agency, "SELECT deadline FROM workspace_builds")
        assert build["deadline"] == now + timedelta(minutes=10)
        used = pb.Stats(connection_count=1, connections_by_proto={"TCP": 1}, session_count_ssh=1, rx_bytes=5)
        await client.unary(AgentAPI.UpdateStats, pb.UpdateStatsRequest(stats=used))
        await client.unary(AgentAPI.UpdateStats, pb.UpdateStatsRequest())
    [build] = await rows(agency, "SELECT deadline FROM workspace_builds")
    deadline = build["deadline"]
    assert isinstance(deadline, datetime)
    assert abs(deadline - now - timedelta(hours=1)) < timedelta(seconds=1)
    stats = await rows(agency, "SELECT sessions, rx_bytes, connections_by_proto FROM workspace_agent_stats ORDER BY id")
    assert len(stats) == 2
    assert stats[1]["connections_by_proto"] == {"TCP": 1}
    assert stats[1]["sessions"] == {"ssh": 1, "vscode": 0, "jetbrains": 0, "reconnecting_pty": 0}


async def test_script_runs_are_shown_with_the_script(agency: Agency) -> None:
    [script] = (await agency.view()).parts.scripts
    timing = pb.Timing(script_id=script.id.bytes, exit_code=3, status=pb.Timing.EXIT_FAILURE)
    async with agency.connect_agent() as (client, _):
        with pytest.raises(RemoteError, match="start time"):
            await complete(client, timing)
        timing.start.FromSeconds(1000)
        timing.end.FromSeconds(900)
        with pytest.raises(RemoteError, match="after end"):
            await complete(client, timing)
        timing.end.FromSeconds(1001)
        await complete(client, timing)
        with pytest.raises(RemoteError, match="no script"):
            await complete(client, pb.Timing(script_id=uuid4().bytes, start=timing.start, end=timing.end))
    [script] = (await agency.view()).parts.scripts
    assert (script.exit_code, script.status) == (3, "exit_failure")


async def complete(client: Client, timing: pb.Timing) -> None:
    await client.unary(AgentAPI.ScriptCompleted, pb.WorkspaceAgentScriptCompletedRequest(timing=timing))


async def test_connections_are_logged_in_pairs(agency: Agency) -> None:
    connection = pb.Connection(id=uuid4().bytes, action=pb.Connection.CONNECT, type=pb.Connection.SSH, ip="localhost")
    connection.timestamp.FromSeconds(1000)
    async with agency.connect_agent() as (client, _):
        await client.unary(AgentAPI.ReportConnection, pb.ReportConnectionRequest(connection=connection))
        connection.action = pb.Connection.DISCONNECT
        connection.timestamp.FromSeconds(1010)
        connection.status_code = 130
        connection.reason = "closed"
        await client.unary(AgentAPI.ReportConnection, pb.ReportConnectionRequest(connection=connection))
        for bad in (pb.Connection(), pb.Connection(id=bytes(16)), pb.Connection(id=uuid4().bytes)):
            with pytest.raises(RemoteError):
                await client.unary(AgentAPI.ReportConnection, pb.ReportConnectionRequest(connection=bad))
    [row] = await rows(agency, "SELECT * FROM connection_logs")
    assert (row["type"], str(row["ip"]), row["status_code"]) == ("ssh", "127.0.0.1", 130)
    assert row["connected_at"] == datetime.fromtimestamp(1000, UTC)
    assert row["disconnected_at"] == datetime.fromtimestamp(1010, UTC)
    assert (row["workspace_name"], row["agent_name"], row["disconnect_reason"]) == ("dev", "main", "closed")


async def test_app_statuses_are_shown_newest_first(agency: Agency) -> None:
    async with agency.connect_agent() as (client, _):
        for message in ("first", "second\x07"):
            agency.world.clock.advance(timedelta(seconds=1))
            await client.unary(AgentAPI.UpdateAppStatus, pb.UpdateAppStatusRequest(slug="code", message=message))
        with pytest.raises(RemoteError, match="too long"):
            await client.unary(AgentAPI.UpdateAppStatus, pb.UpdateAppStatusRequest(slug="code", message="x" * 161))
        with pytest.raises(RemoteError, match="Failed to get workspace app"):
            await client.unary(AgentAPI.UpdateAppStatus, pb.UpdateAppStatusRequest(slug="nope"))
    [code, _] = (await agency.view()).parts.apps
    assert [(status.state, status.message) for status in code.statuses] == [("working", "second"), ("working", "first")]


async def test_resources_are_watched_as_the_template_says(agency: Agency) -> None:
    async with agency.connect_agent() as (client, _):
        found = await client.unary(
            AgentAPI.GetResourcesMonitoringConfiguration, pb.GetResourcesMonitoringConfigurationRequest()
        )
        assert (found.config.num_datapoints, found.config.collection_interval_seconds) == (20, 10)
        assert found.memory.enabled
        assert [(volume.path, volume.enabled) for volume in found.volumes] == [("/home", True)]
        usage = pb.PushResourcesMonitoringUsageRequest()
        point = usage.datapoints.add()
        with pytest.raises(RemoteError, match="/home"):
            await client.unary(AgentAPI.PushResourcesMonitoringUsage, usage)
        point.volumes.add(volume="/home", used=1, total=2)
        await client.unary(AgentAPI.PushResourcesMonitoringUsage, usage)


async def test_calls_that_are_not_served_say_so(agency: Agency) -> None:
    async with agency.connect_agent() as (client, _):
        with pytest.raises(Unimplemented) as caught:
            await client.unary(AgentAPI.PushContextState, pb.PushContextStateRequest())
        assert caught.value.code == 12


async def test_others_may_not_see_an_agent(agency: Agency) -> None:
    with pytest.raises(NotFound):
        await agency.agents.get(agency.world.member, agency.agent_id)
    with pytest.raises(NotFound):
        await agency.agents.check_connectable(agency.world.member, agency.agent_id)
    with pytest.raises(NotFound):
        await agency.agents.get(agency.world.admin, uuid4())
    await agency.agents.check_connectable(agency.world.admin, agency.agent_id)


async def test_an_agent_keeps_sub_agents(agency: Agency) -> None:
    request = pb.CreateSubAgentRequest(
        name="web",
        directory="/workspaces/web",
        architecture="arm64",
        operating_system="linux",
        display_apps=[pb.CreateSubAgentRequest.WEB_TERMINAL],
    )
    request.apps.add(slug="code", url="http://localhost:1", share=pb.CreateSubAgentRequest.App.PUBLIC)
    request.apps.add(slug="code")
    request.apps.add(slug="No Slug")
    async with agency.connect_agent() as (client, _):
        made = await client.unary(AgentAPI.CreateSubAgent, request)
        assert [(error.index, error.field) for error in made.app_creation_errors] == [(1, "slug"), (2, "slug")]
        listed = await client.unary(AgentAPI.ListSubAgents, pb.ListSubAgentsRequest())
        assert list(listed.agents) == [made.agent]
        async with agency.connect_agent(token=UUID(bytes=made.agent.auth_token)) as (sub, _):
            manifest = await sub.unary(AgentAPI.GetManifest, pb.GetManifestRequest())
            assert (manifest.agent_name, manifest.parent_id) == ("web", agency.agent_id.bytes)
            [app] = manifest.apps
            assert app.slug.endswith("-code")
            assert app.sharing_level == pb.WorkspaceApp.OWNER  # the template allows no more
            with pytest.raises(RemoteError, match="no sub-agent"):
                await sub.unary(AgentAPI.DeleteSubAgent, pb.DeleteSubAgentRequest(id=made.agent.id))
        update = pb.CreateSubAgentRequest(id=made.agent.id, directory="/elsewhere")
        again = await client.unary(AgentAPI.CreateSubAgent, update)
        assert again.agent == made.agent
        view = await agency.agents.get(agency.world.admin, UUID(bytes=made.agent.id))
        assert (view.parts.agent.directory, view.parts.agent.display_apps) == ("/elsewhere", [])
        for name in ("", "no spaces", "-web"):
            with pytest.raises(RemoteError, match="name"):
                await client.unary(AgentAPI.CreateSubAgent, pb.CreateSubAgentRequest(name=name))
        await client.unary(AgentAPI.DeleteSubAgent, pb.DeleteSubAgentRequest(id=made.agent.id))
        assert not (await client.unary(AgentAPI.ListSubAgents, pb.ListSubAgentsRequest())).agents
    with pytest.raises(Unauthenticated):
        await agency.agents.authenticate(UUID(bytes=made.agent.auth_token))


async def test_banners_are_those_of_the_deployment(agency: Agency) -> None:
    async with agency.connect_agent() as (client, _):
        none = await client.unary(AgentAPI.GetAnnouncementBanners, pb.GetAnnouncementBannersRequest())
        assert not none.announcement_banners
        assert not (await client.unary(AgentAPI.GetServiceBanner, pb.GetServiceBannerRequest())).enabled
        banner = {"enabled": True, "message": "Maintenance", "background_color": "#ff0000"}
        async with agency.world.pool.connection() as db:
            await deployment.write_config(db, "appearance", {"announcement_banners": [banner]})
        [found] = (
            await client.unary(AgentAPI.GetAnnouncementBanners, pb.GetAnnouncementBannersRequest())
        ).announcement_banners
        assert (found.enabled, found.message, found.background_color) == (True, "Maintenance", "#ff0000")
        assert (await client.unary(AgentAPI.GetServiceBanner, pb.GetServiceBannerRequest())).message == "Maintenance"
