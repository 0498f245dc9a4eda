from __future__ import annotations

from importlib import resources

import anyio
import pytest
from psycopg import AsyncConnection

from warren.errors import Conflict
from warren.storage.migrate import Migration, migrate, migrations
from warren.storage.notify import Notifier, publish
from warren.storage.schema import describe

pytestmark = pytest.mark.anyio


async def test_the_committed_schema_is_what_the_migrations_make(database_url: str) -> None:
    async with await AsyncConnection.connect(database_url) as db:
        assert await describe(db) == resources.files("warren.storage").joinpath("schema.sql").read_text()


async def test_migrations_are_applied_once_and_a_newer_database_is_refused(database_url: str) -> None:
    known = migrations()
    more = [*known, Migration(9000, "more", "CREATE TABLE more (id integer)")]
    async with await AsyncConnection.connect(database_url, autocommit=True) as db:
        assert await migrate(db, more) == 9000
        assert await migrate(db, more) == 9000
        with pytest.raises(Conflict, match="schema 9000, newer than this release knows"):
            await migrate(db, known)


async def test_a_migration_that_fails_leaves_nothing(database_url: str) -> None:
    broken = [*migrations(), Migration(9000, "broken", "CREATE TABLE half (id integer); SELECT 1/0")]
    async with await AsyncConnection.connect(database_url, autocommit=True) as db:
        with pytest.raises(Exception, match="division by zero"):
            await migrate(db, broken)
        found = await (await db.execute("SELECT to_regclass('half')")).fetchone()
        assert found == (None,)


async def test_whoever_waits_hears_of_a_commit_and_only_of_that(database_url: str) -> None:
    notifier = Notifier(database_url)
    async with anyio.create_task_group() as tasks:
        await tasks.start(notifier.run)
        async with (
            notifier.subscribe("workspace", "1") as one,
            notifier.subscribe("workspace", "2") as two,
            await AsyncConnection.connect(database_url) as db,
        ):
            await one.wait(0.01)
            await two.wait(0.01)
            await publish(db, "workspace", "1")
            assert not await one.wait(0.05)
            await db.commit()
            assert await one.wait(20)
            assert not await two.wait(0.05)
            await publish(db, "workspace", "1")
            await db.rollback()
            assert not await one.wait(0.05)
        tasks.cancel_scope.cancel()


async def test_a_lost_connection_wakes_all_and_is_made_again(database_url: str) -> None:
    notifier = Notifier(database_url)
    async with anyio.create_task_group() as tasks:
        await tasks.start(notifier.run)
        async with (
            notifier.subscribe("agent", "1") as changes,
            await AsyncConnection.connect(database_url, autocommit=True) as db,
        ):
            await changes.wait(0.01)
            await db.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'warren notifier'"
            )
            assert await changes.wait(20)
            await publish(db, "agent", "1")
            assert await changes.wait(20)
        tasks.cancel_scope.cancel()
