"""The keys that external daemons sign in with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import LiteralString
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.rows import class_row
from psycopg.types.json import Jsonb


@dataclass(frozen=True, slots=True)
class Key:
    """A provisioner key; its secret is not stored."""

    id: UUID
    organization_id: UUID
    name: str
    tags: Mapping[str, str]
    created_at: datetime


async def insert(db: AsyncConnection, key: Key, hashed_secret: bytes) -> None:
    """Store a key."""
    await db.execute(
        """
        INSERT INTO provisioner_keys (id, organization_id, name, hashed_secret, tags, created_at)
        VALUES (%s, %s, lower(%s), %s, %s, %s)""",
        (key.id, key.organization_id, key.name, hashed_secret, Jsonb(dict(key.tags)), key.created_at),
    )


async def find_by_secret(db: AsyncConnection, hashed_secret: bytes) -> Key | None:
    """Find the key with this secret."""
    return await _find(
        db,
        "SELECT id, organization_id, name, tags, created_at FROM provisioner_keys WHERE hashed_secret = %s",
        (hashed_secret,),
    )


async def find_by_name(db: AsyncConnection, organization_id: UUID, name: str) -> Key | None:
    """Find a key of an organization."""
    return await _find(
        db,
        """
        SELECT id, organization_id, name, tags, created_at FROM provisioner_keys
        WHERE organization_id = %s AND lower(name) = lower(%s)""",
        (organization_id, name),
    )


async def _find(db: AsyncConnection, query: LiteralString, values: Sequence[object]) -> Key | None:
    async with db.cursor(row_factory=class_row(Key)) as cursor:
        return await (await cursor.execute(query, values)).fetchone()


async def list_of_organization(db: AsyncConnection, organization_id: UUID) -> Sequence[Key]:
    """List the keys of an organization, by name."""
    async with db.cursor(row_factory=class_row(Key)) as cursor:
        await cursor.execute(
            """
            SELECT id, organization_id, name, tags, created_at FROM provisioner_keys
            WHERE organization_id = %s ORDER BY name""",
            (organization_id,),
        )
        return await cursor.fetchall()


async def delete(db: AsyncConnection, key_id: UUID) -> None:
    """Remove a key."""
    await db.execute("DELETE FROM provisioner_keys WHERE id = %s", (key_id,))
