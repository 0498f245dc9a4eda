"""Users in the database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from psycopg import AsyncConnection, sql
from psycopg.rows import class_row

from warren.domain.user import User
from warren.errors import NotFound

_SELECT = sql.SQL("""
    SELECT u.id, u.email, u.username, u.name, u.avatar_url, u.login_type::text, u.status::text, u.roles, u.is_system,
        u.is_service_account, u.quiet_hours_schedule, u.last_seen_at, u.created_at, u.updated_at, u.deleted,
        ARRAY (
            SELECT m.organization_id FROM organization_members m JOIN organizations o ON o.id = m.organization_id
            WHERE m.user_id = u.id AND NOT o.deleted ORDER BY m.created_at, o.id) AS organization_ids
    FROM users u
""")


@dataclass(frozen=True, slots=True)
class UserFilter:
    """Which users are wanted; empty lists and `None` mean any."""

    search: str = ""
    name: str = ""
    statuses: Sequence[str] = ()
    roles: Sequence[str] = ()
    login_types: Sequence[str] = ()
    service_account: bool | None = None
    last_seen_after: datetime | None = None
    last_seen_before: datetime | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """Which part of a list is wanted; a limit of 0 means all."""

    limit: int = 0
    offset: int = 0
    after_id: UUID | None = None


WHOLE = Page()


async def count(db: AsyncConnection) -> int:
    """Count the people who have an account."""
    row = await (await db.execute("SELECT count(*) FROM users WHERE NOT deleted AND NOT is_system")).fetchone()
    assert row is not None
    return int(row[0])


async def find(db: AsyncConnection, user_id: UUID) -> User | None:
    """Read a user."""
    return await _one(db, sql.SQL("WHERE u.id = %s AND NOT u.deleted"), user_id)


async def get(db: AsyncConnection, user_id: UUID) -> User:
    """Read a user."""
    return _existing(await find(db, user_id))


async def lock(db: AsyncConnection, user_id: UUID) -> User:
    """Read a user and keep others from changing it until the transaction ends."""
    return _existing(await _one(db, sql.SQL("WHERE u.id = %s AND NOT u.deleted FOR UPDATE OF u"), user_id))


async def find_id(db: AsyncConnection, word: str) -> UUID | None:
    """Find the id of a user by id or name."""
    cursor = await db.execute(
        """
        SELECT id FROM users WHERE NOT deleted AND (id::text = lower(%(word)s) OR lower(username) = lower(%(word)s))
        ORDER BY id::text = lower(%(word)s) DESC LIMIT 1""",
        {"word": word},
    )
    row = await cursor.fetchone()
    return row[0] if row else None


async def find_by_name(db: AsyncConnection, username: str) -> User | None:
    """Read a user by name, in any case."""
    return await _one(db, sql.SQL("WHERE lower(u.username) = lower(%s) AND NOT u.deleted"), username)


async def find_by_email(db: AsyncConnection, email: str) -> User | None:
    """Read a user by email, in any case."""
    return await _one(db, sql.SQL("WHERE lower(u.email) = lower(%s) AND u.email <> '' AND NOT u.deleted"), email)


async def _one(db: AsyncConnection, condition: sql.SQL, value: object) -> User | None:
    async with db.cursor(row_factory=class_row(User)) as cursor:
        return await (await cursor.execute(_SELECT + condition, (value,))).fetchone()


def _existing(user: User | None) -> User:
    if user is None:
        raise NotFound
    return user


async def hashed_password(db: AsyncConnection, user_id: UUID) -> str:
    """Read the hash of a user's password; empty when there is none."""
    row = await (await db.execute("SELECT hashed_password FROM users WHERE id = %s", (user_id,))).fetchone()
    return "" if row is None else str(row[0])


async def insert(db: AsyncConnection, user: User, password_hash: str) -> None:
    """Store a new user; its organizations are stored as memberships."""
    await db.execute(
        """
        INSERT INTO users (id, email, username, name, avatar_url, hashed_password, login_type, status, roles,
            is_system, is_service_account, last_seen_at, created_at, updated_at)
        VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)""",
        (
            user.id,
            user.email,
            user.username,
            user.name,
            user.avatar_url,
            password_hash,
            user.login_type,
            user.status,
            list(user.roles),
            user.is_system,
            user.is_service_account,
            user.last_seen_at,
            user.created_at,
            user.updated_at,
        ),
    )


async def list_readable(
    db: AsyncConnection, readable: sql.Composable, wanted: UserFilter, page: Page
) -> tuple[Sequence[User], int]:
    """List users by name, one page of those who match and may be read, and count all of them."""
    values = {
        "search": wanted.search.lower(),
        "name": wanted.name.lower(),
        "statuses": list(wanted.statuses),
        "roles": list(wanted.roles),
        "login_types": list(wanted.login_types),
        "service_account": wanted.service_account,
        "last_seen_after": wanted.last_seen_after,
        "last_seen_before": wanted.last_seen_before,
        "created_after": wanted.created_after,
        "created_before": wanted.created_before,
        "after_id": page.after_id,
        "limit": page.limit or None,
        "offset": page.offset,
    }
    condition = sql.SQL("""
        WHERE NOT u.deleted AND NOT u.is_system AND {readable}
            AND (%(search)s = '' OR position(%(search)s IN lower(u.username)) > 0
                OR position(%(search)s IN lower(u.email)) > 0 OR position(%(search)s IN lower(u.name)) > 0)
            AND (%(name)s = '' OR position(%(name)s IN lower(u.name)) > 0)
            AND (cardinality(%(statuses)s::text[]) = 0 OR u.status::text = ANY (%(statuses)s))
            AND (cardinality(%(roles)s::text[]) = 0 OR u.roles && %(roles)s::text[] OR 'member' = ANY (%(roles)s))
            AND (cardinality(%(login_types)s::text[]) = 0 OR u.login_type::text = ANY (%(login_types)s))
            AND (%(service_account)s::boolean IS NULL OR u.is_service_account = %(service_account)s)
            AND (%(last_seen_after)s::timestamptz IS NULL OR u.last_seen_at >= %(last_seen_after)s)
            AND (%(last_seen_before)s::timestamptz IS NULL OR u.last_seen_at <= %(last_seen_before)s)
            AND (%(created_after)s::timestamptz IS NULL OR u.created_at >= %(created_after)s)
            AND (%(created_before)s::timestamptz IS NULL OR u.created_at <= %(created_before)s)
    """).format(readable=readable)
    tail = sql.SQL("""
            AND (%(after_id)s::uuid IS NULL
                OR lower(u.username) > (SELECT lower(a.username) FROM users a WHERE a.id = %(after_id)s))
        ORDER BY lower(u.username) LIMIT %(limit)s OFFSET %(offset)s
    """)
    async with db.cursor(row_factory=class_row(User)) as cursor:
        found = await (await cursor.execute(_SELECT + condition + tail, values)).fetchall()
    if page == WHOLE:
        return found, len(found)
    row = await (await db.execute(sql.SQL("SELECT count(*) FROM users u ") + condition, values)).fetchone()
    assert row is not None
    return found, int(row[0])


@dataclass(frozen=True, slots=True)
class Profile:
    """What a user may change of themselves."""

    username: str
    name: str
    avatar_url: str = field(default="")


async def set_profile(db: AsyncConnection, user_id: UUID, profile: Profile, now: datetime) -> None:
    """Store what others see of a user."""
    await db.execute(
        "UPDATE users SET username = %s, name = %s, avatar_url = %s, updated_at = %s WHERE id = %s",
        (profile.username, profile.name, profile.avatar_url, now, user_id),
    )


async def set_status(db: AsyncConnection, user_id: UUID, status: str, now: datetime) -> None:
    """Store whether a user may sign in."""
    await db.execute("UPDATE users SET status = %s, updated_at = %s WHERE id = %s", (status, now, user_id))


async def activate_dormant(db: AsyncConnection, user_id: UUID, now: datetime) -> bool:
    """Make a dormant user active; say whether it was dormant."""
    cursor = await db.execute(
        """
        UPDATE users SET status = 'active', updated_at = %s, last_seen_at = %s
        WHERE id = %s AND status = 'dormant'""",
        (now, now, user_id),
    )
    return cursor.rowcount > 0


async def set_roles(db: AsyncConnection, user_id: UUID, roles: Sequence[str]) -> None:
    """Store the site roles of a user."""
    await db.execute("UPDATE users SET roles = %s WHERE id = %s", (list(roles), user_id))


async def set_password(db: AsyncConnection, user_id: UUID, password_hash: str, now: datetime) -> None:
    """Store a new password."""
    await db.execute(
        "UPDATE users SET hashed_password = %s, updated_at = %s WHERE id = %s", (password_hash, now, user_id)
    )


async def mark_deleted(db: AsyncConnection, user_id: UUID, now: datetime) -> None:
    """Delete a user: the name and email are free again."""
    await db.execute("UPDATE users SET deleted = true, updated_at = %s WHERE id = %s", (now, user_id))


async def has_workspaces(db: AsyncConnection, user_id: UUID) -> bool:
    """Say whether a user owns a workspace."""
    query = "SELECT EXISTS (SELECT FROM workspaces WHERE owner_id = %s AND NOT deleted)"
    row = await (await db.execute(query, (user_id,))).fetchone()
    return row is not None and bool(row[0])


async def recent_parameters(db: AsyncConnection, user_id: UUID, template_id: UUID) -> Sequence[tuple[str, str]]:
    """List the newest value that a user gave to each parameter of a template."""
    query = """
        SELECT DISTINCT ON (p.name) p.name, p.value
        FROM workspace_build_parameters p
        JOIN workspace_builds b ON b.id = p.workspace_build_id
        JOIN workspaces w ON w.id = b.workspace_id
        JOIN template_versions v ON v.id = b.template_version_id
        JOIN template_version_parameters d ON d.template_version_id = v.id AND d.name = p.name
        WHERE w.owner_id = %s AND b.initiator_id = %s AND v.template_id = %s AND NOT d.ephemeral
        ORDER BY p.name, b.created_at DESC
    """
    rows = await (await db.execute(query, (user_id, user_id, template_id))).fetchall()
    return [(str(name), str(value)) for name, value in rows]
