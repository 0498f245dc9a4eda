from __future__ import annotations

from contextlib import aclosing

import anyio
import pytest

from tests.integration.builds.scripted_daemon import agent, resource
from tests.integration.builds.world import SOURCE, World
from warren.domain.build import Transition
from warren.domain.job import LEASE, LOGS_OVERFLOWED, PENDING_LIMIT
from warren.errors import Conflict, Invalid, RemoteError
from warren.rpc._pb import provisioner_pb2 as pb
from warren.rpc._pb import provisionerd_pb2 as pbd
from warren.services.build_queue import NewBuild
from warren.services.built_in_daemons import BuiltInSettings, claim
from warren.services.reaper import TICK

pytestmark = pytest.mark.anyio


async def test_a_job_carries_what_the_build_needs(world: World) -> None:
    daemon = await world.daemon()
    parameters = [pb.RichParameter(name="cpu", type="number", default_value="2", mutable=True)]
    template = await world.template(daemon, parameters=parameters)
    workspace = await world.workspace(template, cpu="4")
    job = await daemon.build(state=b"state 1")
    build = job.workspace_build
    assert job.template_source_archive == SOURCE
    assert job.user_name == "admin"
    assert [(value.name, value.value) for value in build.rich_parameter_values] == [("cpu", "4")]
    assert build.state == b""
    metadata = build.metadata
    assert metadata.coder_url == "http://warren.test"
    assert metadata.workspace_transition == pb.WorkspaceTransition.START
    assert metadata.workspace_id == str(workspace.view.workspace.id)
    assert metadata.workspace_owner == "admin"
    assert list(metadata.workspace_owner_groups) == ["Everyone"]
    assert len(metadata.workspace_owner_session_token) == 33
    roles = [(role.name, role.org_id) for role in metadata.workspace_owner_rbac_roles]
    assert roles == [("member", ""), ("owner", ""), ("organization-member", str(world.organization_id))]

    await world.build(workspace, "stop")
    job = await daemon.build(resources=[])
    assert job.workspace_build.state == b"state 1"
    assert job.workspace_build.metadata.workspace_owner_session_token == ""
    assert [value.value for value in job.workspace_build.previous_parameter_values] == ["4"]


async def test_variables_without_a_value_are_refused_but_known(world: World) -> None:
    daemon = await world.daemon()
    version = await world.version()
    job = await daemon.acquire()
    wanted = [pb.TemplateVariable(name="token", type="string", required=True)]
    with pytest.raises(RemoteError, match="required template variables need values: token"):
        await daemon.update(job.job_id, template_variables=wanted)
    error = "required template variables need values: token"
    await daemon.fail(pbd.FailedJob(job_id=job.job_id, error=error, template_import=pbd.FailedJob.TemplateImport()))

    stored = await world.versions.variables(world.admin, version.version.id)
    assert [(variable.name, variable.required) for variable in stored] == [("token", True)]


async def test_two_starts_at_once_make_one_build(world: World) -> None:
    daemon = await world.daemon()
    workspace = await world.running(daemon)
    outcomes: list[str] = []

    async def start() -> None:
        try:
            await world.build(workspace, "start")
            outcomes.append("queued")
        except Conflict as error:
            outcomes.append(error.message)

    async with anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(start)
    assert sorted(outcomes) == [*["A workspace build is already active."] * 3, "queued"]


async def test_a_build_that_fails_half_way_keeps_its_state(world: World) -> None:
    daemon = await world.daemon()
    workspace = await world.running(daemon)
    build = await world.build(workspace, "stop")
    job = await daemon.acquire()
    failed = pbd.FailedJob.WorkspaceBuild(state=b"half a state")
    await daemon.fail(pbd.FailedJob(job_id=job.job_id, error="exit status 1", workspace_build=failed))
    assert await world.status(build) == "failed"
    assert await world.builds.state(world.admin, build.view.build.id) == b"half a state"
    await world.build(workspace, "start")
    assert (await daemon.build()).workspace_build.state == b"half a state"


async def test_a_failure_without_state_keeps_the_state_before(world: World) -> None:
    daemon = await world.daemon()
    workspace = await world.running(daemon)
    build = await world.build(workspace, "stop")
    job = await daemon.acquire()
    await daemon.fail(
        pbd.FailedJob(job_id=job.job_id, error="no terraform", workspace_build=pbd.FailedJob.WorkspaceBuild())
    )
    assert await world.builds.state(world.admin, build.view.build.id) == b'{"version": 4}'


async def test_a_result_that_cannot_be_stored_changes_nothing(world: World) -> None:
    daemon = await world.daemon()
    workspace = await world.workspace(await world.template(daemon))
    job = await daemon.acquire()
    twice = [resource(agent(name="a"), agent(name="A"))]
    result = pbd.CompletedJob.WorkspaceBuild(state=b"new", resources=twice)
    with pytest.raises(RemoteError, match="duplicate agent name"):
        await daemon.complete(pbd.CompletedJob(job_id=job.job_id, workspace_build=result))
    assert await world.status(workspace.build) == "running"
    assert await world.builds.state(world.admin, workspace.build.view.build.id) == b""


async def test_agents_of_older_builds_end_with_the_next_build(world: World) -> None:
    daemon = await world.daemon()
    workspace = await world.running(daemon)

    async def live_agents() -> int:
        async with world.pool.connection() as db:
            cursor = await db.execute("""
                SELECT count(*) FROM workspace_agents a JOIN workspace_resources r ON r.id = a.resource_id
                JOIN workspace_builds b ON b.job_id = r.job_id WHERE NOT a.deleted""")
            row = await cursor.fetchone()
            return row[0] if row else -1

    assert await live_agents() == 1
    await world.build(workspace, "start")
    assert await live_agents() == 1
    await daemon.build()
    assert await live_agents() == 1
    await world.build(workspace, "delete")
    await daemon.build(resources=[], state=b"")
    assert await live_agents() == 0


async def test_a_template_without_an_agent_builds(world: World) -> None:
    daemon = await world.daemon()
    workspace = await world.workspace(await world.template(daemon))
    await daemon.build(resources=[resource(name="disk")])
    found = await world.workspaces.get(world.admin, workspace.view.workspace.id)
    assert [view.resource.name for view in found.build.resources] == ["disk"]
    assert found.build.resources[0].agents == []


async def test_an_app_of_another_workspace_is_refused(world: World) -> None:
    daemon = await world.daemon()
    app = pb.App(id="0858d247-eefc-4b07-bde1-0fa0f39e0d87", slug="docs", url="http://localhost:1")
    template = await world.template(daemon)
    await world.workspace(template, name="one")
    await daemon.build(resources=[resource(agent(apps=[app]))])
    await world.workspace(template, name="two")
    with pytest.raises(RemoteError, match="already in use by another workspace"):
        await daemon.build(resources=[resource(agent(apps=[app]))])


async def test_cancel_of_a_waiting_build_ends_it(world: World) -> None:
    daemon = await world.daemon()
    workspace = await world.running(daemon)
    build = await world.build(workspace, "stop")
    await world.builds.cancel(world.admin, build.view.build.id, expected="pending")
    assert await world.status(build) == "canceled"
    with pytest.raises(Invalid, match="Job has already completed!"):
        await world.builds.cancel(world.admin, build.view.build.id, expected="")
    await world.build(workspace, "start")
    await daemon.build()


async def test_cancel_of_a_running_build_is_heard_by_its_daemon(world: World) -> None:
    daemon = await world.daemon()
    workspace = await world.running(daemon)
    build = await world.build(workspace, "stop")
    job = await daemon.acquire()
    assert not (await daemon.update(job.job_id)).canceled
    await world.builds.cancel(world.admin, build.view.build.id, expected="")
    assert await world.status(build) == "canceling"
    assert (await daemon.update(job.job_id)).canceled
    with pytest.raises(Invalid, match="already been marked as canceled"):
        await world.builds.cancel(world.admin, build.view.build.id, expected="")
    state = pbd.FailedJob.WorkspaceBuild(state=b"what was left")
    await daemon.fail(pbd.FailedJob(job_id=job.job_id, error="", workspace_build=state))
    assert await world.status(build) == "canceled"
    assert await world.builds.state(world.admin, build.view.build.id) == b"what was left"


async def test_delete_while_building_is_refused(world: World) -> None:
    daemon = await world.daemon()
    workspace = await world.running(daemon)
    await world.build(workspace, "stop")
    with pytest.raises(Conflict, match="already active"):
        await world.build(workspace, "delete")


async def test_an_orphan_delete_needs_no_daemon(world: World) -> None:
    daemon = await world.daemon()
    workspace = await world.running(daemon)
    async with world.pool.connection() as db:
        await db.execute("UPDATE provisioner_daemons SET last_seen_at = now() - interval '1 hour'")
    new = NewBuild(Transition.DELETE, orphan=True)
    build = await world.builds.create(world.admin, workspace.view.workspace.id, new)
    assert build.view.job.job.status == "succeeded"
    found = await world.workspaces.get(world.admin, workspace.view.workspace.id, include_deleted=True)
    assert found.view.workspace.deleted


# Logs -----------------------------------------------------------------------------------------------------------------


async def test_every_watcher_sees_the_whole_log(world: World) -> None:
    daemon = await world.daemon()
    workspace = await world.workspace(await world.template(daemon))
    job = await daemon.acquire()
    job_id = workspace.build.view.build.job_id
    early: list[str] = []
    late: list[str] = []

    async def follow(into: list[str]) -> None:
        async with aclosing(world.jobs.follow_logs(job_id, 0)) as lines:
            into.extend([line.output async for line in lines])

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(follow, early)
            await daemon.log(job.job_id, "one", "two")
            tasks.start_soon(follow, late)
            await daemon.log(job.job_id, "three")
            await daemon.complete(
                pbd.CompletedJob(job_id=job.job_id, workspace_build=pbd.CompletedJob.WorkspaceBuild(state=b"s"))
            )
    assert early == late == ["one", "two", "three"]
    after: list[str] = []
    await follow(after)
    assert after == early


async def test_a_log_that_grows_too_long_is_cut_and_says_so(world: World) -> None:
    daemon = await world.daemon()
    workspace = await world.workspace(await world.template(daemon))
    job = await daemon.acquire()
    for _ in range(13):
        await daemon.log(job.job_id, *["x" * 1000] * 90)
    lines = await world.jobs.logs(workspace.build.view.build.job_id, 0)
    assert [line.output for line in lines].count(LOGS_OVERFLOWED) == 1
    assert lines[-1].output == LOGS_OVERFLOWED
    assert (await world.builds.get(world.admin, workspace.build.view.build.id)).view.job.job.logs_overflowed


# Dead workers ---------------------------------------------------------------------------------------------------------


async def expire(world: World) -> None:
    async with world.pool.connection() as db:
        await db.execute("UPDATE provisioner_jobs SET lease_until = now() - interval '1 second'")


async def settle(world: World) -> None:
    """Let the reaper look for long enough that it is not lenient any more; the leases hold meanwhile."""
    for _ in range(LEASE // TICK + 1):
        assert await world.reaper.tick() == 0
        world.clock.advance(TICK)


async def test_workers_have_time_to_renew_after_a_pause(world: World) -> None:
    daemon = await world.daemon()
    workspace = await world.running(daemon)
    build = await world.build(workspace, "stop")
    job = await daemon.acquire()
    await settle(world)
    world.clock.advance(LEASE)  # the database was away
    await expire(world)
    assert await world.reaper.tick() == 0
    await daemon.update(job.job_id)
    assert await world.status(build) == "running"


async def test_a_lease_that_ran_out_is_taken_back(world: World) -> None:
    daemon = await world.daemon()
    workspace = await world.running(daemon)
    build = await world.build(workspace, "stop")
    job = await daemon.acquire()
    job_id = build.view.build.job_id
    world.recovered[job_id] = b"what terraform had written"
    await settle(world)
    await expire(world)
    assert await world.reaper.tick() == 1
    assert await world.status(build) == "failed"
    assert await world.builds.state(world.admin, build.view.build.id) == b"what terraform had written"
    assert "stopped renewing" in (await world.jobs.logs(job_id, 0))[-3].output
    with pytest.raises(RemoteError, match="job already completed"):
        await daemon.update(job.job_id)
    with pytest.raises(RemoteError, match="job already completed"):
        await daemon.complete(
            pbd.CompletedJob(job_id=job.job_id, workspace_build=pbd.CompletedJob.WorkspaceBuild(state=b"late"))
        )
    await world.build(workspace, "start")
    assert (await daemon.build()).workspace_build.state == b"what terraform had written"


async def test_a_heartbeat_renews_the_lease(world: World) -> None:
    daemon = await world.daemon()
    workspace = await world.running(daemon)
    build = await world.build(workspace, "stop")
    job = await daemon.acquire()
    await settle(world)
    await expire(world)
    await daemon.update(job.job_id)
    assert await world.reaper.tick() == 0
    assert await world.status(build) == "running"


async def test_jobs_of_a_server_that_came_back_are_fenced_at_once(world: World) -> None:
    daemon = await world.daemon()
    workspace = await world.running(daemon)
    build = await world.build(workspace, "stop")
    await daemon.acquire()
    row = await world.register()
    assert await world.reaper.fence([row.id]) == 1
    assert await world.status(build) == "failed"
    await world.build(workspace, "start")
    with anyio.fail_after(20):
        await daemon.build()


async def test_the_state_of_a_job_that_another_server_ended_is_taken_late(world: World) -> None:
    daemon = await world.daemon()
    workspace = await world.running(daemon)
    build = await world.build(workspace, "stop")
    job = await daemon.acquire()
    await settle(world)
    await expire(world)
    assert await world.reaper.tick() == 1  # it cannot read the disk of the one that is gone

    def late(state: bytes) -> pbd.FailedJob:
        written = pbd.FailedJob.WorkspaceBuild(state=state)
        return pbd.FailedJob(job_id=job.job_id, error="interrupted", workspace_build=written)

    other = await world.daemon("vm-9")
    with pytest.raises(RemoteError, match="job already completed"):
        await other.fail(late(b"forged"))
    await daemon.fail(late(b"from the disk"))
    assert await world.builds.state(world.admin, build.view.build.id) == b"from the disk"
    await world.build(workspace, "start")
    assert (await daemon.build(state=b"newer")).workspace_build.state == b"from the disk"
    with pytest.raises(RemoteError, match="job already completed"):
        await daemon.fail(late(b"too late"))
    assert await world.builds.state(world.admin, build.view.build.id) == b"from the disk"


async def test_a_stranger_may_not_report(world: World) -> None:
    daemon, other = await world.daemon("vm-0"), await world.daemon("vm-1")
    workspace = await world.running(daemon)
    await world.build(workspace, "stop")
    job = await daemon.acquire()
    with pytest.raises(RemoteError, match="you don't own this job"):
        await other.update(job.job_id)
    with pytest.raises(RemoteError, match="no job"):
        await other.update("nonsense")


async def test_a_daemon_that_reconnects_keeps_its_job(world: World) -> None:
    daemon = await world.daemon()
    workspace = await world.running(daemon)
    build = await world.build(workspace, "stop")
    job = await daemon.acquire()
    again = await world.daemon()
    await again.complete(
        pbd.CompletedJob(job_id=job.job_id, workspace_build=pbd.CompletedJob.WorkspaceBuild(state=b"s"))
    )
    assert await world.status(build) == "succeeded"


async def test_an_old_fence_is_refused(world: World) -> None:
    daemon = await world.daemon()
    workspace = await world.running(daemon)
    await world.build(workspace, "stop")
    job = await daemon.acquire()
    async with world.pool.connection() as db:
        await db.execute("UPDATE provisioner_jobs SET fence = fence + 1 WHERE id = %s", (job.job_id,))
    with pytest.raises(RemoteError, match="you don't own this job"):
        await daemon.update(job.job_id)


async def test_a_source_that_is_too_large_fails_its_job_with_the_reason(world: World) -> None:
    daemon = await world.daemon()
    async with world.pool.connection() as db:
        await db.execute("UPDATE files SET content = %s", (b"x" * (5 << 20),))
    version = await world.version()
    with pytest.raises(RemoteError, match="request job was invalidated"):
        await daemon.acquire()
    found = await world.versions.get(world.admin, version.version.id)
    assert found.job.job.status == "failed"
    assert "a job can carry 4 MiB" in found.job.job.error


async def test_jobs_are_handed_out_once(world: World) -> None:
    daemons = [await world.daemon(f"vm-{number}") for number in range(3)]
    template = await world.template(daemons[0])
    for number in range(6):
        await world.workspace(template, name=f"w{number}")
    taken: list[str] = []

    async def take(index: int) -> None:
        taken.extend([(await daemons[index].build()).job_id for _ in range(2)])

    async with anyio.create_task_group() as tasks:
        for index in range(3):
            tasks.start_soon(take, index)
    assert len(set(taken)) == 6


# Names of the daemons inside of a server ------------------------------------------------------------------------------


async def test_servers_on_one_machine_have_daemons_of_different_names(world: World, database_url: str) -> None:
    settings = BuiltInSettings(2, "vm", "v1", world.organization_id)
    async with claim(database_url, settings, world.provisionerd, world.reaper) as first:
        async with claim(database_url, settings, world.provisionerd, world.reaper) as second:
            assert [daemon.name for daemon in (*first, *second)] == ["vm-0", "vm-1", "vm-2", "vm-3"]
        async with claim(database_url, settings, world.provisionerd, world.reaper) as again:
            assert [daemon.id for daemon in again] == [daemon.id for daemon in second]


async def test_a_server_that_comes_back_ends_what_it_left(world: World, database_url: str) -> None:
    settings = BuiltInSettings(1, "vm", "v1", world.organization_id)
    async with claim(database_url, settings, world.provisionerd, world.reaper):
        daemon = await world.daemon("vm-0")
        workspace = await world.running(daemon)
        build = await world.build(workspace, "stop")
        await daemon.acquire()
        world.recovered[build.view.build.job_id] = b"left behind"
    # Here the server was killed: its connections are gone, its job is not.
    async with claim(database_url, settings, world.provisionerd, world.reaper):
        assert await world.status(build) == "failed"
        found = await world.builds.get(world.admin, build.view.build.id)
        assert "the server that ran it was stopped" in found.view.job.job.error
        assert await world.builds.state(world.admin, build.view.build.id) == b"left behind"
        await world.build(workspace, "start")
        assert (await daemon.build()).workspace_build.state == b"left behind"


async def test_an_agent_may_keep_its_token_over_builds(world: World) -> None:
    daemon = await world.daemon()
    token = "2b6f0cc9-04d1-4b0f-9c43-2d1a0f3b1d11"
    workspace = await world.workspace(await world.template(daemon))
    await daemon.build(resources=[resource(agent(token=token))])
    await world.build(workspace, "start")
    await daemon.build(resources=[resource(agent(token=token))])
    async with world.pool.connection() as db:
        cursor = await db.execute("SELECT deleted FROM workspace_agents WHERE auth_token = %s", (token,))
        assert await cursor.fetchall() == [(False,)]


async def test_a_token_that_is_none_is_refused(world: World) -> None:
    daemon = await world.daemon()
    await world.workspace(await world.template(daemon))
    with pytest.raises(RemoteError, match="invalid auth token format; must be uuid"):
        await daemon.build(resources=[resource(agent(token="secret"))])


async def test_a_job_that_nobody_takes_is_given_up(world: World) -> None:
    version = await world.version()
    assert await world.reaper.tick() == 0
    world.clock.advance(PENDING_LIMIT)
    assert await world.reaper.tick() == 1
    found = await world.versions.get(world.admin, version.version.id)
    assert found.job.job.status == "failed"
    assert "no provisioner daemon took it" in found.job.job.error
