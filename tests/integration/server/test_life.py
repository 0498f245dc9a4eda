"""A server's life as an operator sees it: starts, ends, crashes, and a database that goes away."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Generator
from contextlib import AsyncExitStack
from pathlib import Path

import anyio
import httpx2
import pytest
from psycopg import AsyncConnection

from tests.integration.server.process import environment, program
from warren.sdk.client import Client
from warren.sdk.types.users import CreateFirstUser
from warren.server.postgres import Postgres

pytestmark = pytest.mark.anyio
PASSWORD = "Sup3rSecret!pw"


@pytest.fixture
def folder() -> Generator[Path]:
    with tempfile.TemporaryDirectory(prefix="warren-life-", dir="/tmp") as path:  # short: it holds a socket
        yield Path(path)


def _postmaster(folder: Path) -> int:
    return int((folder / "c/postgres/data/postmaster.pid").read_text().splitlines()[0])


async def _gone(pid: int) -> None:
    """Wait for the end of a process that is not our child."""
    with anyio.fail_after(20):
        while await anyio.Path(f"/proc/{pid}").exists():  # noqa: ASYNC110  it has no event
            await anyio.sleep(0.01)


async def test_a_new_server_gets_healthy_and_leaves_nothing_behind(folder: Path) -> None:
    async with program(folder) as new:
        pid = _postmaster(folder)
        assert await new.stop() == 0
        await _gone(pid)
    assert "Sign in with: warren login http://127.0.0.1:" in new.log.read_text()


async def test_accounts_outlive_a_killed_server(folder: Path) -> None:
    async with program(folder) as first:
        async with Client(first.url) as client:
            await client.users.create_first(CreateFirstUser(email="a@example.com", username="a", password=PASSWORD))
        await first.stop(signal.SIGKILL)
    async with program(folder) as second, Client(second.url) as client:
        assert await client.users.login("a@example.com", PASSWORD)


async def test_a_second_server_on_the_same_folder_is_refused_with_the_reason(folder: Path) -> None:
    async with program(folder):
        refused = await anyio.run_process(
            [sys.executable, "-m", "warren", "server", "--http-address", "127.0.0.1:0"],
            env=environment(folder),
            check=False,
            stderr=subprocess.STDOUT,
        )
    assert refused.returncode == 1
    assert b"Another server uses the database" in refused.stdout


async def test_a_newer_database_is_refused_with_the_reason(folder: Path) -> None:
    async with program(folder):
        postgres = Postgres(folder / "c/postgres")
        async with await AsyncConnection.connect(postgres.url(), autocommit=True) as db:
            await db.execute("INSERT INTO schema_migrations (number, name) VALUES (9000, 'from_the_future')")
    refused = await anyio.run_process(
        [sys.executable, "-m", "warren", "server", "--http-address", "127.0.0.1:0"],
        env=environment(folder),
        check=False,
        stderr=subprocess.STDOUT,
    )
    assert refused.returncode == 1
    assert b"newer than this release knows" in refused.stdout


async def test_wrong_settings_are_reported_together_before_anything_starts(folder: Path) -> None:
    (folder / "settings.yaml").write_text("networking:\n  nonsense: 1\n")
    refused = await anyio.run_process(
        [
            *(sys.executable, "-m", "warren", "server", "--config", str(folder / "settings.yaml")),
            *("--http-address", "nowhere", "--session-duration", "soon"),
        ],
        env=environment(folder, CODER_ACCESS_URL="ftp://x"),
        check=False,
        stderr=subprocess.STDOUT,
    )
    text = refused.stdout.decode()
    assert refused.returncode == 1
    for part in ("--http-address", "--session-duration", "CODER_ACCESS_URL", "networking.nonsense"):
        assert part in text
    assert not (folder / "c").exists()


async def test_the_server_restarts_its_postgres_when_that_dies(folder: Path) -> None:
    async with program(folder) as server, httpx2.AsyncClient(base_url=server.url, timeout=20) as client:
        assert (await client.get("/api/v2/users/first")).status_code == 404
        before = _postmaster(folder)
        os.kill(before, signal.SIGQUIT)
        await _gone(before)
        with anyio.fail_after(20):
            while (code := (await client.get("/api/v2/users/first")).status_code) != 404:
                assert code == 503
                await anyio.sleep(0.05)
        assert _postmaster(folder) != before


async def test_without_postgres_requests_are_refused_at_once_and_served_again_after(folder: Path) -> None:
    postgres = Postgres(folder / "pg")
    async with AsyncExitStack() as running:
        database = await running.enter_async_context(AsyncExitStack())
        await database.enter_async_context(postgres.running())
        server = await running.enter_async_context(program(folder, "--postgres-url", postgres.url()))
        client = await running.enter_async_context(httpx2.AsyncClient(base_url=server.url, timeout=20))
        assert (await client.get("/api/v2/users/first")).status_code == 404
        await database.aclose()
        slowest = 0.0
        for _ in range(20):
            started = anyio.current_time()
            answer = await client.get("/api/v2/users/first")
            slowest = max(slowest, anyio.current_time() - started)
            assert answer.status_code == 503
            assert answer.json()["message"] == "The database does not answer."
            assert (await client.get("/healthz")).status_code == 200
            assert (await client.get("/readyz")).json()["status"] == "waiting"
            await anyio.sleep(0.1)
        assert slowest < 5
        await running.enter_async_context(postgres.running())
        with anyio.fail_after(20):
            while (await client.get("/api/v2/users/first")).status_code != 404:  # noqa: ASYNC110  it has no event
                await anyio.sleep(0.05)
        assert await server.stop() == 0
