"""Builds while PostgreSQL is away."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import AsyncGenerator
from pathlib import Path

import anyio
import pytest
from psycopg import AsyncConnection

from tests.integration.builds.world import open_world
from warren.rpc._pb import provisionerd_pb2 as pbd
from warren.server.postgres import Postgres
from warren.storage.migrate import migrate, migrations

pytestmark = pytest.mark.anyio


@pytest.fixture
async def own_postgres() -> AsyncGenerator[Postgres]:
    folder = Path(tempfile.mkdtemp(prefix="warren-pg-", dir="/tmp"))
    try:
        async with Postgres(folder).running() as server:
            yield server
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def postmaster(server: Postgres) -> int:
    async with await AsyncConnection.connect(server.url("postgres"), autocommit=True) as db:
        cursor = await db.execute("SELECT pg_read_file('postmaster.pid')")
        row = await cursor.fetchone()
    assert row is not None
    return int(str(row[0]).split("\n", 1)[0])


async def test_a_build_survives_an_absence_of_the_database(own_postgres: Postgres) -> None:
    url = own_postgres.url("postgres")
    async with await AsyncConnection.connect(url, autocommit=True) as db:
        await migrate(db, migrations())
    pid = await postmaster(own_postgres)
    async with open_world(url) as world:
        daemon = await world.daemon()
        workspace = await world.workspace(await world.template(daemon))
        job = await daemon.acquire()
        os.kill(pid, signal.SIGINT)  # the supervisor starts it again
        with anyio.fail_after(15):
            await daemon.log(job.job_id, "written while the database was away")
            await daemon.complete(
                pbd.CompletedJob(job_id=job.job_id, workspace_build=pbd.CompletedJob.WorkspaceBuild(state=b"s"))
            )
        assert await postmaster(own_postgres) != pid
        assert await world.status(workspace.build) == "succeeded"
        lines = await world.jobs.logs(workspace.build.view.build.job_id, 0)
        assert [line.output for line in lines] == ["written while the database was away"]
