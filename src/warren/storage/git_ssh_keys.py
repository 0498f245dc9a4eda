"""The keys that users' workspaces use for git."""

from __future__ import annotations

from uuid import UUID

from psycopg import AsyncConnection
from psycopg.rows import class_row

from warren.domain.user import GitSSHKey
from warren.errors import NotFound


async def get(db: AsyncConnection, user_id: UUID) -> GitSSHKey:
    """Read a user's key."""
    async with db.cursor(row_factory=class_row(GitSSHKey)) as cursor:
        await cursor.execute(
            "SELECT user_id, private_key, public_key, created_at, updated_at FROM git_ssh_keys WHERE user_id = %s",
            (user_id,),
        )
        found = await cursor.fetchone()
    if found is None:
        raise NotFound
    return found


async def upsert(db: AsyncConnection, key: GitSSHKey) -> None:
    """Store a user's key in place of the one before."""
    await db.execute(
        """
        INSERT INTO git_ssh_keys (user_id, private_key, public_key, created_at, updated_at)
        VALUES (%s, %s, %s, %s, %s)
        ON CONFLICT (user_id) DO UPDATE SET
            private_key = excluded.private_key, public_key = excluded.public_key, updated_at = excluded.updated_at""",
        (key.user_id, key.private_key, key.public_key, key.created_at, key.updated_at),
    )
