"""What all tests share: a real PostgreSQL, and a fresh migrated database for each test that asks for one."""

from __future__ import annotations

import shutil
import signal
import tempfile
from collections.abc import AsyncGenerator, Generator
from itertools import count
from pathlib import Path

import anyio
import pytest
from anyio.from_thread import start_blocking_portal
from psycopg import AsyncConnection, sql

from tests.server import Site, open_site
from warren.server.postgres import Postgres
from warren.storage.migrate import migrate, migrations

_TEMPLATE = "template_migrated"
_numbers = count(1)

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # So it is where a script began this in its background (POSIX.1-2017, XCU 2.11), and all programs would inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Run asynchronous tests on asyncio, which is what the program runs on."""
    return "asyncio"


async def _prepare(postgres: Postgres) -> None:
    """Migrate a database once; those of tests are copies of it."""
    async with await AsyncConnection.connect(postgres.url("postgres"), autocommit=True) as admin:
        await admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(_TEMPLATE)))
    async with await AsyncConnection.connect(postgres.url(_TEMPLATE), autocommit=True) as db:
        await migrate(db, migrations())


@pytest.fixture(scope="session")
def postgres() -> Generator[Postgres]:
    """Run one PostgreSQL for the session (for each worker of xdist), under our own supervisor."""
    folder = Path(tempfile.mkdtemp(prefix="warren-pg-", dir="/tmp"))  # a short path: it holds a socket
    server = Postgres(folder)
    try:
        with start_blocking_portal() as portal, portal.wrap_async_context_manager(server.running()):
            portal.call(_prepare, server)
            yield server
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
async def database_url(postgres: Postgres) -> AsyncGenerator[str]:
    """Make a database with the present schema and nothing in it, for one test."""
    name = f"test_{next(_numbers)}"
    async with await AsyncConnection.connect(postgres.url("postgres"), autocommit=True) as admin:
        made = sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(_TEMPLATE))
        await admin.execute(made)
        try:
            yield postgres.url(name)
        finally:
            with anyio.CancelScope(shield=True):
                await admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
async def server(database_url: str, tmp_path: Path) -> AsyncGenerator[Site]:
    """Run a whole server that builds nothing."""
    async with open_site(database_url, tmp_path, daemons=0) as site:
        yield site


@pytest.fixture
async def building_server(database_url: str, tmp_path: Path) -> AsyncGenerator[Site]:
    """Run a whole server with one provisioner daemon and the real Terraform."""
    async with open_site(database_url, tmp_path, daemons=1) as site:
        yield site
