"""Users and organizations by the words that stand for them in paths."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from psycopg import AsyncConnection


@dataclass(frozen=True, slots=True)
class OrganizationRef:
    """Which organization a word stands for."""

    id: UUID
    is_default: bool


async def find_organization_ref(db: AsyncConnection, word: str) -> OrganizationRef | None:
    """Find an organization by id or name; `default` and the nil id mean the default one."""
    cursor = await db.execute(
        """
        SELECT id, is_default FROM organizations
        WHERE NOT deleted AND (id::text = lower(%(word)s) OR lower(name) = lower(%(word)s)
            OR (is_default AND %(word)s IN ('default', '00000000-0000-0000-0000-000000000000')))
        ORDER BY id::text = lower(%(word)s) DESC LIMIT 1""",
        {"word": word},
    )
    row = await cursor.fetchone()
    return OrganizationRef(*row) if row else None


async def find_organization(db: AsyncConnection, word: str) -> UUID | None:
    """Find the id of an organization, as `find_organization_ref` does."""
    found = await find_organization_ref(db, word)
    return None if found is None else found.id


async def find_user(db: AsyncConnection, word: str) -> UUID | None:
    """Find a user by id or name."""
    cursor = await db.execute(
        """
        SELECT id FROM users WHERE NOT deleted AND (id::text = lower(%(word)s) OR lower(username) = lower(%(word)s))
        ORDER BY id::text = lower(%(word)s) DESC LIMIT 1""",
        {"word": word},
    )
    row = await cursor.fetchone()
    return row[0] if row else None
