"""Files in the database: sources of templates, and the modules that imports found."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID, uuid4

from psycopg import AsyncConnection
from psycopg.rows import class_row

from warren.errors import NotFound

TAR = "application/x-tar"
NOBODY = UUID(int=0)
"""Who files belong to that no user uploaded: the modules of template versions."""


@dataclass(frozen=True, slots=True)
class File:
    """A file, and who uploaded it."""

    id: UUID
    hash: bytes
    created_by: UUID
    mimetype: str
    content: bytes
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Stored:
    """A file that is stored, and whether it was not before."""

    id: UUID
    fresh: bool


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


async def find_uploader(db: AsyncConnection, file_id: UUID) -> UUID | None:
    """Tell who uploaded a file."""
    cursor = await db.execute("SELECT created_by FROM files WHERE id = %s", (file_id,))
    row = await cursor.fetchone()
    return row[0] if row else None


async def find_same(db: AsyncConnection, digest: bytes, created_by: UUID) -> UUID | None:
    """Find the file that a user uploaded with the bytes of this hash."""
    cursor = await db.execute("SELECT id FROM files WHERE hash = %s AND created_by = %s", (digest, created_by))
    row = await cursor.fetchone()
    return row[0] if row else None


async def store(db: AsyncConnection, content: bytes, created_by: UUID, now: datetime) -> Stored:
    """Store an archive, once however often the same user brings it."""
    digest = hashlib.sha256(content).digest()
    if (same := await find_same(db, digest, created_by)) is not None:
        return Stored(same, fresh=False)
    file_id = uuid4()
    cursor = await db.execute(
        """
        INSERT INTO files (id, hash, created_by, mimetype, content, created_at)
        VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT (hash, created_by) DO NOTHING""",
        (file_id, digest, created_by, TAR, content, now),
    )
    if cursor.rowcount == 1:
        return Stored(file_id, fresh=True)
    same = await find_same(db, digest, created_by)  # stored by somebody else meanwhile
    if same is None:
        raise NotFound
    return Stored(same, fresh=False)


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
