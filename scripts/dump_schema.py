"""Write `src/warren/storage/schema.sql` from a freshly migrated database, so that a review sees what it becomes."""

from __future__ import annotations

import tempfile
from pathlib import Path

import anyio
from psycopg import AsyncConnection

from warren.server.postgres import Postgres
from warren.storage.migrate import migrate, migrations
from warren.storage.schema import describe

TARGET = Path(__file__).parent.parent / "src/warren/storage/schema.sql"


async def main() -> None:
    """Migrate an empty database and describe it."""
    with tempfile.TemporaryDirectory(prefix="warren-schema-", dir="/tmp") as folder:
        async with (
            Postgres(Path(folder)).running() as postgres,
            await AsyncConnection.connect(postgres.url(), autocommit=True) as db,
        ):
            await migrate(db, migrations())
            TARGET.write_text(await describe(db))


anyio.run(main)
