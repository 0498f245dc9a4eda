"""Small settings of users, by key."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from psycopg import AsyncConnection


async def read(db: AsyncConnection, user_id: UUID) -> Mapping[str, str]:
    """Read all settings of a user."""
    rows = await (await db.execute("SELECT key, value FROM user_configs WHERE user_id = %s", (user_id,))).fetchall()
    return {str(key): str(value) for key, value in rows}


async def write(db: AsyncConnection, user_id: UUID, values: Mapping[str, str]) -> None:
    """Store settings of a user; others stay."""
    async with db.cursor() as cursor:
        await cursor.executemany(
            """
            INSERT INTO user_configs (user_id, key, value) VALUES (%s, %s, %s)
            ON CONFLICT (user_id, key) DO UPDATE SET value = excluded.value""",
            [(user_id, key, value) for key, value in values.items()],
        )
