"""Bring a database to this release's schema: numbered SQL files, forward only, each in its own transaction.

Plain code instead of a migration tool: there are no Python steps, no branches and no downgrades, so a tool would be
a dependency for forty lines.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

import psycopg
import structlog
from psycopg import AsyncConnection, sql

from warren.errors import Conflict, Unavailable

log = structlog.get_logger()

LOCK = 0x57415252454E  # "WARREN": one replica migrates, the others wait
_NAME = re.compile(r"^(\d{4})_([a-z0-9_]+)\.sql$")


@dataclass(frozen=True, slots=True)
class Migration:
    """One file."""

    number: int
    name: str
    text: str


def migrations() -> Sequence[Migration]:
    """Read the migrations that this release has, in order."""
    files = resources.files("warren.storage").joinpath("migrations").iterdir()
    found = [
        Migration(int(match[1]), match[2], file.read_text()) for file in files if (match := _NAME.match(file.name))
    ]
    return sorted(found, key=lambda migration: migration.number)


async def migrate(db: AsyncConnection, wanted: Sequence[Migration]) -> int:
    """Apply what is missing; return the number of the schema. `db` must be in autocommit mode.

    Raises:
        Conflict: the database was written by a newer release.
        Unavailable: somebody holds a lock on a table for too long.
    """
    newest = wanted[-1].number if wanted else 0
    await db.execute("SELECT pg_advisory_lock(%s)", (LOCK,))
    try:
        version = await _version(db)
        if version > newest:
            raise Conflict(
                f"the database is at schema {version}, newer than this release knows ({newest})",
                hint="run the release that wrote it, or a newer one",
            )
        for migration in wanted:
            if migration.number > version:
                await _apply(db, migration)
    finally:
        await db.execute("SELECT pg_advisory_unlock(%s)", (LOCK,))
    return newest


async def _version(db: AsyncConnection) -> int:
    await db.execute("""
        CREATE TABLE IF NOT EXISTS schema_migrations (
            number integer PRIMARY KEY,
            name text NOT NULL,
            applied_at timestamptz NOT NULL DEFAULT now()
        )""")
    row = await (await db.execute("SELECT coalesce(max(number), 0) FROM schema_migrations")).fetchone()
    assert row is not None
    return int(row[0])


async def _apply(db: AsyncConnection, migration: Migration) -> None:
    try:
        async with db.transaction():
            await db.execute("SET LOCAL lock_timeout = '4s'")
            # Our own file, read from the package: as trusted as this line.
            await db.execute(sql.SQL(migration.text))  # pyright: ignore[reportArgumentType]
            await db.execute(
                "INSERT INTO schema_migrations (number, name) VALUES (%s, %s)", (migration.number, migration.name)
            )
    except psycopg.errors.LockNotAvailable as error:
        raise Unavailable(
            f"migration {migration.number} ({migration.name}) could not get its locks within 4 s",
            hint="end long transactions on this database, then start again",
        ) from error
    log.info("migration.applied", number=migration.number, name=migration.name)
