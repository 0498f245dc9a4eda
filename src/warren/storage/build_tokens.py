"""The session tokens that workspaces act with for their owners."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

from psycopg import AsyncConnection


async def delete(db: AsyncConnection, owner_id: UUID, name: str) -> None:
    """Take a token back."""
    await db.execute(
        "DELETE FROM api_keys WHERE user_id = %s AND login_type = 'token' AND token_name = %s", (owner_id, name)
    )


async def insert(
    db: AsyncConnection,
    *,
    key_id: str,
    hashed_secret: bytes,
    owner_id: UUID,
    name: str,
    lifetime: timedelta,
    now: datetime,
) -> None:
    """Store a token."""
    await db.execute(
        """
        INSERT INTO api_keys (
            id, hashed_secret, user_id, login_type, token_name, lifetime_seconds, last_used, expires_at, created_at,
            updated_at)
        VALUES (%s, %s, %s, 'token', %s, %s, %s, %s, %s, %s)""",
        (key_id, hashed_secret, owner_id, name, int(lifetime.total_seconds()), now, now + lifetime, now, now),
    )
