"""Uploaded files in the database."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.rows import class_row

from warren.errors import NotFound


@dataclass(frozen=True, slots=True)
class File:
    """A file, and who uploaded it."""

    id: UUID
    hash: bytes
    created_by: UUID
    mimetype: str
    content: bytes
    created_at: datetime


async def get(db: AsyncConnection, file_id: UUID) -> File:
    """Read a file.

    Raises:
        NotFound: there is none.
    """
    async with db.cursor(row_factory=class_row(File)) as cursor:
        await cursor.execute(
            "SELECT id, hash, created_by, mimetype, content, created_at FROM files WHERE id = %s", (file_id,)
        )
        found = await cursor.fetchone()
    if found is None:
        raise NotFound
    return found


async def find_same(db: AsyncConnection, digest: bytes, user_id: UUID) -> UUID | None:
    """Find the file that a user uploaded with the same bytes."""
    cursor = await db.execute("SELECT id FROM files WHERE hash = %s AND created_by = %s", (digest, user_id))
    row = await cursor.fetchone()
    return row[0] if row else None


async def insert(db: AsyncConnection, file: File) -> bool:
    """Store a file; False when the same user stored the same bytes meanwhile."""
    cursor = await db.execute(
        """
        INSERT INTO files (id, hash, created_by, mimetype, content, created_at)
        VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT (hash, created_by) DO NOTHING""",
        (file.id, file.hash, file.created_by, file.mimetype, file.content, file.created_at),
    )
    return cursor.rowcount == 1


async def template_acls(db: AsyncConnection, file_id: UUID) -> list[tuple[UUID, UUID, object, object]]:
    """List the templates that use a file: id, organization, and who was granted what."""
    cursor = await db.execute(
        """
        SELECT DISTINCT ON (t.id) t.id, t.organization_id, t.user_acl, t.group_acl
        FROM provisioner_jobs j
        JOIN template_versions v ON v.job_id = j.id
        JOIN templates t ON t.id = v.template_id
        WHERE j.file_id = %s""",
        (file_id,),
    )
    return [(row[0], row[1], row[2], row[3]) for row in await cursor.fetchall()]
