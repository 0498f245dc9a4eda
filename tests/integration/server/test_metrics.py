"""What a real server tells Prometheus of users, builds and agents, and what retention forgets."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import timedelta
from pathlib import Path
from typing import LiteralString
from uuid import uuid4

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.integration.agents.agency import template_agent
from tests.integration.builds.scripted_daemon import ScriptedDaemon, resource
from tests.integration.builds.world import World, open_world
from tests.ports import free_port
from warren.clock import SystemClock
from warren.metrics import Metrics
from warren.server.fleet_metrics import FRESH_SECONDS, FleetMetrics
from warren.server.purge import Retention, purge
from warren.server.run import running
from warren.settings import load
from warren.storage import agent_stats
from warren.storage.agent_stats import Stats

pytestmark = pytest.mark.anyio
STATS = Stats({"TCP": 2}, 2, 20.0, 10, 1000, 20, 2000, {"ssh": 1, "reconnecting_pty": 3})
Samples = dict[str, dict[frozenset[tuple[str, str]], float]]


@pytest.fixture
async def world(database_url: str) -> AsyncGenerator[World]:
    async with open_world(database_url) as opened:
        catch_up(opened)
        yield opened


def catch_up(world: World) -> None:
    """Set the world's clock by the server's, which is the real one."""
    world.clock.advance(SystemClock().now() - world.clock.now())


def parse(text: str) -> Samples:
    """Read the text format."""
    found: Samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[frozenset(sample.labels.items())] = sample.value
    return found


def labels(**values: str) -> frozenset[tuple[str, str]]:
    return frozenset(values.items())


async def built(world: World, daemon: ScriptedDaemon) -> None:
    """Build a workspace whose agent reports its connections, and have another build running."""
    template = await world.template(daemon)
    await world.workspace(template)
    await daemon.build(resources=[resource(template_agent(uuid4()))])
    await world.workspace(template, name="second")
    await daemon.acquire()
    async with world.pool.connection() as db:
        row = await (await db.execute("SELECT id FROM workspace_agents ORDER BY created_at DESC")).fetchall()
        place = await (await db.execute("SELECT id FROM workspaces WHERE name = 'dev'")).fetchone()
        assert place is not None
        await agent_stats.insert(
            db,
            STATS,
            agent_id=row[0][0],
            owner_id=world.admin.user_id,
            workspace_id=place[0],
            template_id=template.template.id,
            now=world.clock.now(),
        )


async def test_a_scrape_tells_of_users_builds_and_agents(world: World, database_url: str, tmp_path: Path) -> None:
    port = free_port()
    wanted = {
        "http_address": "127.0.0.1:0",
        "postgres_url": database_url,
        "cache_dir": str(tmp_path / "cache"),
        "provisioner_daemons": 0,
        "stun_address": "",
        "prometheus_enable": "true",
        "prometheus_address": f"127.0.0.1:{port}",
        "prometheus_collect_agent_stats": "true",
        "prometheus_aggregate_agent_stats_by": "username,template_name",
    }
    async with world.pool.connection() as db:
        await db.execute("UPDATE organizations SET is_default = true")
        await db.execute("INSERT INTO deployment VALUES (%s, true, now(), %s)", (uuid4(), bytes(31) + b"1"))
    daemon = await world.daemon()
    async with running(load(wanted, {}, None), tmp_path / "config"), httpx2.AsyncClient() as client:
        catch_up(world)
        await built(world, daemon)
        answer = await client.get(f"http://127.0.0.1:{port}/metrics")
    found = parse(answer.text)
    assert sum(found["coderd_api_total_user_count"].values()) == 2
    assert found["coderd_provisionerd_num_daemons"] == {labels(): 1}
    assert found["coderd_provisionerd_jobs_current"] == {labels(provisioner="terraform"): 1}
    assert found["coderd_api_workspace_latest_build"] == {labels(status="succeeded"): 1, labels(status="running"): 1}
    timings = found["coderd_provisionerd_job_timings_seconds_count"]
    assert timings == {labels(provisioner="terraform", status="success"): 2}
    (build,) = found["coderd_workspace_builds_total"].items()
    assert build[1] == 1
    assert {
        ("status", "success"),
        ("template_name", "box"),
        ("workspace_name", "dev"),
        ("workspace_transition", "start"),
    } < build[0]
    (up,) = found["coderd_agents_up"].items()
    assert (up[1], ("workspace_name", "dev") in up[0]) == (1, True)
    (connection,) = found["coderd_agents_connections"]
    assert {("status", "connecting"), ("lifecycle_state", "created")} < connection
    assert {dict(app)["workspace_name"] for app in found["coderd_agents_apps"]} == {"dev"}
    (of_user,) = found["coderd_agentstats_session_count_reconnecting_pty"].items()
    assert (of_user[1], dict(of_user[0])["template_name"], len(of_user[0])) == (3, "box", 2)
    assert list(found["coderd_agentstats_connection_median_latency_seconds"].values()) == [0.02]
    assert "coder_derp_server_accepts_total" in found


async def test_a_build_is_counted_once_and_figures_are_not_read_for_every_scrape(world: World) -> None:
    metrics = FleetMetrics(Metrics("v1"), world.pool, world.clock, agent_labels=None)
    await built(world, await world.daemon())
    builds = parse((await metrics.text()).decode())["coderd_workspace_builds_total"]
    assert list(builds.values()) == [1]
    async with world.pool.connection() as db:
        await db.execute("UPDATE users SET status = 'suspended'")
    users = "coderd_api_total_user_count"
    assert parse((await metrics.text()).decode())[users][labels(status="suspended")] == 0
    world.clock.advance(timedelta(seconds=FRESH_SECONDS))
    later = parse((await metrics.text()).decode())
    assert later[users][labels(status="suspended")] == 2
    assert list(later["coderd_workspace_builds_total"].values()) == [1]
    assert not [name for name in later if name.startswith("coderd_agentstats")]


async def test_retention_forgets_what_is_old_but_no_logs_of_latest_builds(world: World) -> None:
    daemon = await world.daemon()
    workspace = await world.running(daemon)
    await world.build(workspace, "stop")
    await daemon.build()
    now = world.clock.now()
    old = now - timedelta(days=8)
    async with world.pool.connection() as db:
        await db.execute("UPDATE workspace_agents SET created_at = %s", (old,))
        await db.execute(
            """
            INSERT INTO workspace_agent_logs (agent_id, log_source_id, level, output, created_at)
            SELECT id, id, 'info', 'hello', %s FROM workspace_agents""",
            (old,),
        )
        for age in (1, 8):
            await db.execute(
                """
                INSERT INTO connection_logs (id, organization_id, workspace_owner_id, workspace_id, workspace_name,
                    agent_name, type, connected_at) VALUES (%s, %s, %s, %s, 'dev', 'main', 'ssh', %s)""",
                (uuid4(), world.organization_id, uuid4(), uuid4(), now - timedelta(days=age)),
            )

    async def left(table: str) -> int:
        async with world.pool.connection() as db:
            queries: dict[str, LiteralString] = {
                "connections": "SELECT count(*) FROM connection_logs",
                "of old builds": """
                    SELECT count(*) FROM workspace_agent_logs l JOIN workspace_agents a ON a.id = l.agent_id
                    JOIN workspace_resources r ON r.id = a.resource_id JOIN workspace_builds b ON b.job_id = r.job_id
                    WHERE b.build_number = 1""",
                "of the latest": """
                    SELECT count(*) FROM workspace_agent_logs l JOIN workspace_agents a ON a.id = l.agent_id
                    JOIN workspace_resources r ON r.id = a.resource_id JOIN workspace_builds b ON b.job_id = r.job_id
                    WHERE b.build_number = 2""",
            }
            row = await (await db.execute(queries[table])).fetchone()
            assert row is not None
            return row[0]

    await purge(world.pool, now, Retention())
    assert [await left(each) for each in ("connections", "of old builds", "of the latest")] == [2, 1, 1]
    week = timedelta(days=7)
    await purge(world.pool, now, Retention(api_keys=week, connection_logs=week, agent_logs=week))
    assert [await left(each) for each in ("connections", "of old builds", "of the latest")] == [1, 0, 1]
