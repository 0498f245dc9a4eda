"""The agent process against the real services on a real database, through the real routes."""

# A test has nothing to wait on outside itself.
# ruff: noqa: ASYNC110

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import LiteralString

import anyio
import pytest
from psycopg.rows import dict_row

from tests.integration.agent.test_life import AgentProcess, agent_process
from tests.integration.agents.agency import Agency, open_agency
from tests.integration.agents.http import Site, open_site
from tests.integration.builds.world import open_world
from warren.domain.agent import Lifecycle

pytestmark = pytest.mark.anyio


@pytest.fixture
async def agency(database_url: str) -> AsyncGenerator[Agency]:
    async with open_world(database_url) as world, open_agency(world) as opened:
        yield opened


@pytest.fixture
async def site(agency: Agency) -> AsyncGenerator[Site]:
    async with open_site(agency) as opened:
        yield opened


@pytest.fixture
async def running(site: Site, tmp_path: Path) -> AsyncGenerator[AgentProcess]:
    async with agent_process(site.url, tmp_path, CODER_AGENT_TOKEN=str(site.agency.token)) as started:
        yield started


async def _rows(agency: Agency, query: LiteralString) -> list[dict[str, object]]:
    async with agency.world.pool.connection() as db, db.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(query)
        return await cursor.fetchall()


async def _wait_rows(agency: Agency, query: LiteralString, count: int = 1) -> list[dict[str, object]]:
    with anyio.fail_after(15):
        while len(found := await _rows(agency, query)) < count:
            await anyio.sleep(0.05)
    return found


async def _wait_state(agency: Agency, state: Lifecycle) -> None:
    with anyio.fail_after(15):
        while (await agency.view()).parts.agent.lifecycle is not state:
            await anyio.sleep(0.05)


async def test_what_the_server_knows_of_an_agent(site: Site, running: AgentProcess) -> None:
    agency = site.agency
    await _wait_state(agency, Lifecycle.READY)
    agent = (await agency.view()).parts.agent
    assert agent.version.startswith("v")
    assert agent.expanded_directory == "/home/dev"
    assert agent.started_at is not None
    assert agent.ready_at is not None
    logs = await _wait_rows(agency, "SELECT output, level FROM workspace_agent_logs")
    assert ("hi", "info") in {(row["output"], row["level"]) for row in logs}
    timings = await _wait_rows(agency, "SELECT stage, status, exit_code FROM workspace_agent_script_timings")
    assert (timings[0]["stage"], timings[0]["status"], timings[0]["exit_code"]) == ("start", "ok", 0)
    await _wait_rows(agency, "SELECT key FROM workspace_agent_metadata WHERE collected_at > '2020-01-01'")
    assert await running.stop() == 0
    await _wait_state(agency, Lifecycle.OFF)
