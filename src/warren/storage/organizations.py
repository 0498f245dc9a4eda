"""Organizations and memberships in the database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from psycopg import AsyncConnection, sql
from psycopg.rows import class_row

from warren.domain.organization import Member, Organization
from warren.errors import NotFound
from warren.storage.users import WHOLE, Page

_SELECT = sql.SQL("""
    SELECT o.id, o.name, o.display_name, o.description, o.icon, o.is_default, o.default_member_roles, o.created_at,
        o.updated_at
    FROM organizations o
""")
_SELECT_MEMBERS = sql.SQL("""
    SELECT m.organization_id, m.user_id, m.roles, m.created_at, m.updated_at, u.username, u.name, u.avatar_url, u.email,
        u.status::text, u.login_type::text, u.roles AS site_roles, u.is_service_account, u.last_seen_at,
        u.created_at AS user_created_at, u.updated_at AS user_updated_at
    FROM organization_members m JOIN users u ON u.id = m.user_id
""")


@dataclass(frozen=True, slots=True)
class OrganizationRef:
    """Which organization a word stands for."""

    id: UUID
    is_default: bool


async def get(db: AsyncConnection, organization_id: UUID) -> Organization:
    """Read an organization."""
    return await _one(db, sql.SQL("WHERE o.id = %s AND NOT o.deleted"), (organization_id,))


async def get_default(db: AsyncConnection) -> Organization:
    """Read the organization that everybody joins."""
    return await _one(db, sql.SQL("WHERE o.is_default"), ())


async def find_ref(db: AsyncConnection, word: str) -> OrganizationRef | None:
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


async def _one(db: AsyncConnection, condition: sql.SQL, values: Sequence[object]) -> Organization:
    async with db.cursor(row_factory=class_row(Organization)) as cursor:
        found = await (await cursor.execute(_SELECT + condition, values)).fetchone()
    if found is None:
        raise NotFound
    return found


async def insert(db: AsyncConnection, organization: Organization) -> None:
    """Store a new organization and its group of everyone, which has the same id."""
    await db.execute(
        """
        INSERT INTO organizations (id, name, display_name, description, icon, is_default, default_member_roles,
            created_at, updated_at)
        VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)""",
        (
            organization.id,
            organization.name,
            organization.display_name,
            organization.description,
            organization.icon,
            organization.is_default,
            list(organization.default_member_roles),
            organization.created_at,
            organization.updated_at,
        ),
    )
    await db.execute(
        "INSERT INTO groups (id, organization_id, name) VALUES (%s, %s, 'Everyone')",
        (organization.id, organization.id),
    )


async def list_readable(db: AsyncConnection, readable: sql.Composable) -> Sequence[Organization]:
    """List the organizations that may be read, the default one first."""
    query = _SELECT + sql.SQL("WHERE NOT o.deleted AND {} ORDER BY NOT o.is_default, lower(o.name)").format(readable)
    async with db.cursor(row_factory=class_row(Organization)) as cursor:
        return await (await cursor.execute(query)).fetchall()


async def list_of_user(db: AsyncConnection, readable: sql.Composable, user_id: UUID) -> Sequence[Organization]:
    """List the organizations of a user that may be read."""
    query = _SELECT + sql.SQL("""
        JOIN organization_members m ON m.organization_id = o.id
        WHERE NOT o.deleted AND m.user_id = %s AND {} ORDER BY NOT o.is_default, lower(o.name)
    """).format(readable)
    async with db.cursor(row_factory=class_row(Organization)) as cursor:
        return await (await cursor.execute(query, (user_id,))).fetchall()


async def list_ids(db: AsyncConnection) -> Sequence[UUID]:
    """List all organizations."""
    rows = await (await db.execute("SELECT id FROM organizations WHERE NOT deleted ORDER BY created_at")).fetchall()
    return [row[0] for row in rows]


async def insert_member(
    db: AsyncConnection, organization_id: UUID, user_id: UUID, roles: Sequence[str], now: datetime
) -> None:
    """Make a user a member."""
    await db.execute(
        """
        INSERT INTO organization_members (organization_id, user_id, roles, created_at, updated_at)
        VALUES (%s, %s, %s, %s, %s)""",
        (organization_id, user_id, list(roles), now, now),
    )


async def get_member(db: AsyncConnection, organization_id: UUID, user_id: UUID) -> Member:
    """Read a membership."""
    query = _SELECT_MEMBERS + sql.SQL("WHERE m.organization_id = %s AND m.user_id = %s AND NOT u.deleted")
    async with db.cursor(row_factory=class_row(Member)) as cursor:
        found = await (await cursor.execute(query, (organization_id, user_id))).fetchone()
    if found is None:
        raise NotFound
    return found


async def list_members(
    db: AsyncConnection, readable: sql.Composable, organization_id: UUID, page: Page
) -> tuple[Sequence[Member], int]:
    """List members that may be read by name, one page of them, and count all."""
    values = {
        "organization_id": organization_id,
        "after_id": page.after_id,
        "limit": page.limit or None,
        "offset": page.offset,
    }
    condition = sql.SQL("""
        WHERE m.organization_id = %(organization_id)s AND NOT u.deleted AND NOT u.is_system AND {}
    """).format(readable)
    tail = sql.SQL("""
            AND (%(after_id)s::uuid IS NULL
                OR lower(u.username) > (SELECT lower(a.username) FROM users a WHERE a.id = %(after_id)s))
        ORDER BY lower(u.username) LIMIT %(limit)s OFFSET %(offset)s
    """)
    async with db.cursor(row_factory=class_row(Member)) as cursor:
        found = await (await cursor.execute(_SELECT_MEMBERS + condition + tail, values)).fetchall()
    if page == WHOLE:
        return found, len(found)
    counting = sql.SQL("SELECT count(*) FROM organization_members m JOIN users u ON u.id = m.user_id ") + condition
    row = await (await db.execute(counting, values)).fetchone()
    assert row is not None
    return found, int(row[0])


async def set_member_roles(
    db: AsyncConnection, organization_id: UUID, user_id: UUID, roles: Sequence[str], now: datetime
) -> None:
    """Store the roles of a member."""
    await db.execute(
        "UPDATE organization_members SET roles = %s, updated_at = %s WHERE organization_id = %s AND user_id = %s",
        (list(roles), now, organization_id, user_id),
    )


async def delete_member(db: AsyncConnection, organization_id: UUID, user_id: UUID) -> None:
    """End a membership, and those in the organization's groups."""
    await db.execute(
        """
        DELETE FROM group_members WHERE user_id = %s
            AND group_id IN (SELECT id FROM groups WHERE organization_id = %s)""",
        (user_id, organization_id),
    )
    await db.execute(
        "DELETE FROM organization_members WHERE organization_id = %s AND user_id = %s", (organization_id, user_id)
    )
