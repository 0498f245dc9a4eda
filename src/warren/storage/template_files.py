"""The files that template versions are made of: their source, and the modules that an import found."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID, uuid4

from psycopg import AsyncConnection
from psycopg.rows import class_row

from warren.errors import NotFound

NOBODY = UUID(int=0)
"""Who files belong to that no user uploaded."""


@dataclass(frozen=True, slots=True)
class TemplateFile:
    """A file and who uploaded it."""

    id: UUID
    created_by: UUID
    content: bytes


async def get(db: AsyncConnection, file_id: UUID) -> TemplateFile:
    """Read a file."""
    async with db.cursor(row_factory=class_row(TemplateFile)) as cursor:
        await cursor.execute("SELECT id, created_by, content FROM files WHERE id = %s", (file_id,))
        found = await cursor.fetchone()
    if found is None:
        raise NotFound
    return found


async def find_uploader(db: AsyncConnection, file_id: UUID) -> UUID | None:
    """Tell who uploaded a file."""
    cursor = await db.execute("SELECT created_by FROM files WHERE id = %s", (file_id,))
    row = await cursor.fetchone()
    return row[0] if row else None


async def insert_modules(db: AsyncConnection, content: bytes, now: datetime) -> UUID:
    """Store the archive of a version's modules, once however many versions share it; return its id."""
    return await insert(db, NOBODY, content, now)


async def insert(db: AsyncConnection, owner_id: UUID, content: bytes, now: datetime) -> UUID:
    """Store an archive for somebody, once however often it comes; return its id."""
    digest = hashlib.sha256(content).digest()
    await db.execute(
        """
        INSERT INTO files (id, hash, created_by, mimetype, content, created_at)
        VALUES (%s, %s, %s, 'application/x-tar', %s, %s) ON CONFLICT (hash, created_by) DO NOTHING""",
        (uuid4(), digest, owner_id, content, now),
    )
    found = await _find(db, digest, owner_id)
    if found is None:
        raise NotFound
    return found


async def find_modules(db: AsyncConnection, digest: bytes) -> UUID | None:
    """Find the archive of modules with this hash."""
    return await _find(db, digest, NOBODY)


async def _find(db: AsyncConnection, digest: bytes, owner_id: UUID) -> UUID | None:
    cursor = await db.execute("SELECT id FROM files WHERE hash = %s AND created_by = %s", (digest, owner_id))
    row = await cursor.fetchone()
    return row[0] if row else None
