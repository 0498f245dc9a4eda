"""Sessions and tokens in the database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from psycopg import AsyncConnection, sql
from psycopg.rows import class_row, dict_row

from warren.domain.token import Key
from warren.errors import NotFound

_COLUMNS = sql.SQL("""
    k.id, k.hashed_secret, k.user_id, k.login_type::text, k.token_name, k.scopes, k.allow_list, k.lifetime_seconds,
    k.last_used, k.expires_at, k.created_at, k.updated_at
""")
_SELECT = sql.SQL("SELECT {} FROM api_keys k ").format(_COLUMNS)


@dataclass(frozen=True, slots=True)
class Holder:
    """What a key stands for: the key, its user, and what gives the user rights."""

    key: Key
    username: str
    status: str
    deleted: bool
    roles: Sequence[str]
    is_service_account: bool
    memberships: Sequence[Mapping[str, object]]
    groups: Sequence[UUID]


async def find_holder(db: AsyncConnection, key_id: str) -> Holder | None:
    """Read a key with all that authorization needs, in one round trip."""
    query = sql.SQL("""
        SELECT {}, u.username, u.status::text, u.deleted, u.roles, u.is_service_account,
            coalesce((
                SELECT jsonb_agg(jsonb_build_object(
                    'organization_id', o.id, 'roles', m.roles || o.default_member_roles,
                    'sharing', o.shareable_workspace_owners) ORDER BY o.created_at)
                FROM organization_members m JOIN organizations o ON o.id = m.organization_id
                WHERE m.user_id = u.id AND NOT o.deleted), '[]') AS memberships,
            ARRAY (SELECT g.group_id FROM group_members g WHERE g.user_id = u.id) AS groups
        FROM api_keys k JOIN users u ON u.id = k.user_id
        WHERE k.id = %s
    """).format(_COLUMNS)
    async with db.cursor(row_factory=dict_row) as cursor:
        row = await (await cursor.execute(query, (key_id,))).fetchone()
    if row is None:
        return None
    names = Key.__dataclass_fields__
    return Holder(
        key=Key(**{name: row[name] for name in names}),
        **{name: row[name] for name in Holder.__dataclass_fields__ if name != "key"},
    )


async def insert(db: AsyncConnection, key: Key, ip_address: str | None) -> None:
    """Store a new key."""
    await db.execute(
        """
        INSERT INTO api_keys (id, hashed_secret, user_id, login_type, token_name, scopes, allow_list,
            lifetime_seconds, ip_address, last_used, expires_at, created_at, updated_at)
        VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)""",
        (
            key.id,
            key.hashed_secret,
            key.user_id,
            key.login_type,
            key.token_name,
            list(key.scopes),
            list(key.allow_list),
            key.lifetime_seconds,
            ip_address,
            key.last_used,
            key.expires_at,
            key.created_at,
            key.updated_at,
        ),
    )


async def touch(db: AsyncConnection, key: Key, *, now: datetime, expires_at: datetime, ip_address: str | None) -> None:
    """Note that a key was used, and that its user was seen."""
    await db.execute(
        "UPDATE api_keys SET last_used = %s, expires_at = %s, updated_at = %s, ip_address = %s WHERE id = %s",
        (now, expires_at, now, ip_address, key.id),
    )
    await db.execute("UPDATE users SET last_seen_at = %s WHERE id = %s", (now, key.user_id))


async def get(db: AsyncConnection, user_id: UUID, key_id: str) -> Key:
    """Read a key of a user."""
    return await _one(db, sql.SQL("WHERE k.user_id = %s AND k.id = %s"), (user_id, key_id))


async def get_by_name(db: AsyncConnection, user_id: UUID, name: str) -> Key:
    """Read a token of a user by its name."""
    return await _one(
        db, sql.SQL("WHERE k.user_id = %s AND k.token_name = %s AND k.login_type = 'token'"), (user_id, name)
    )


async def _one(db: AsyncConnection, condition: sql.SQL, values: Sequence[object]) -> Key:
    async with db.cursor(row_factory=class_row(Key)) as cursor:
        key = await (await cursor.execute(_SELECT + condition, values)).fetchone()
    if key is None:
        raise NotFound
    return key


async def list_tokens(
    db: AsyncConnection, readable: sql.Composable, *, user_id: UUID | None, expired_since: datetime | None
) -> Sequence[tuple[Key, str]]:
    """List tokens that may be read, newest last, with the names of their owners.

    `user_id` keeps those of one user, `expired_since` those that are valid at that time.
    """
    query = sql.SQL("""
        SELECT {columns}, u.username FROM api_keys k JOIN users u ON u.id = k.user_id
        WHERE k.login_type = 'token' AND {readable}
            AND (%(user_id)s::uuid IS NULL OR k.user_id = %(user_id)s)
            AND (%(expired_since)s::timestamptz IS NULL OR k.expires_at > %(expired_since)s)
        ORDER BY k.created_at, k.id
    """).format(columns=_COLUMNS, readable=readable)
    async with db.cursor(row_factory=dict_row) as cursor:
        rows = await (await cursor.execute(query, {"user_id": user_id, "expired_since": expired_since})).fetchall()
    return [(Key(**{name: row[name] for name in Key.__dataclass_fields__}), str(row["username"])) for row in rows]


async def expire(db: AsyncConnection, key_id: str, now: datetime) -> None:
    """End a key without forgetting it."""
    await db.execute(
        "UPDATE api_keys SET expires_at = %s, updated_at = %s WHERE id = %s AND expires_at > %s",
        (now, now, key_id, now),
    )


async def delete(db: AsyncConnection, key_id: str) -> None:
    """Forget a key."""
    await db.execute("DELETE FROM api_keys WHERE id = %s", (key_id,))


async def delete_token(db: AsyncConnection, user_id: UUID, name: str) -> None:
    """Forget the token that a user calls so."""
    await db.execute(
        "DELETE FROM api_keys WHERE user_id = %s AND login_type = 'token' AND token_name = %s", (user_id, name)
    )


async def delete_connect_keys(db: AsyncConnection, user_id: UUID) -> None:
    """Forget the keys that a user's apps hold."""
    await db.execute("DELETE FROM api_keys WHERE user_id = %s AND scopes = '{coder:application_connect}'", (user_id,))


async def delete_of_user(db: AsyncConnection, user_id: UUID) -> None:
    """Forget all keys of a user."""
    await db.execute("DELETE FROM api_keys WHERE user_id = %s", (user_id,))


async def delete_long_expired(db: AsyncConnection, before: datetime) -> None:
    """Forget keys that expired before a time."""
    await db.execute("DELETE FROM api_keys WHERE expires_at < %s", (before,))
