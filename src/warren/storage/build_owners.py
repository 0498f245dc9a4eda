"""What builds are told of the owner of a workspace."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.rows import class_row

from warren.errors import NotFound


@dataclass(frozen=True, slots=True)
class Owner:
    """The owner of a workspace, in its organization."""

    id: UUID
    organization_id: UUID
    username: str
    name: str
    email: str
    login_type: str
    status: str
    roles: Sequence[str]
    organization_roles: Sequence[str]
    groups: Sequence[str]
    ssh_public_key: str
    ssh_private_key: str


async def get(db: AsyncConnection, user_id: UUID, organization_id: UUID) -> Owner:
    """Read a user with roles, groups and SSH key."""
    async with db.cursor(row_factory=class_row(Owner)) as cursor:
        await cursor.execute(
            """
            SELECT u.id, %(organization_id)s::uuid AS organization_id, u.username, u.name, u.email,
                u.login_type::text, u.status::text, u.roles, coalesce(m.roles, '{}') AS organization_roles,
                ARRAY (
                    SELECT g.name FROM groups g
                    WHERE g.organization_id = %(organization_id)s AND (g.id = g.organization_id OR EXISTS (
                        SELECT FROM group_members gm WHERE gm.group_id = g.id AND gm.user_id = u.id))
                    ORDER BY g.name) AS groups,
                coalesce(k.public_key, '') AS ssh_public_key, coalesce(k.private_key, '') AS ssh_private_key
            FROM users u
            LEFT JOIN organization_members m ON m.user_id = u.id AND m.organization_id = %(organization_id)s
            LEFT JOIN git_ssh_keys k ON k.user_id = u.id
            WHERE u.id = %(user_id)s""",
            {"user_id": user_id, "organization_id": organization_id},
        )
        owner = await cursor.fetchone()
    if owner is None:
        raise NotFound
    return owner
