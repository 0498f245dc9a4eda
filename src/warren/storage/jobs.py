"""Jobs in the database: the queue, the leases, what became of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import LiteralString
from uuid import UUID

from psycopg import AsyncConnection, sql
from psycopg.rows import class_row, tuple_row
from psycopg.types.json import Jsonb

from warren.domain.job import LEASE, Job, JobStatus, JobType, Waiting
from warren.domain.workspace import JobView
from warren.errors import NotFound

COLUMNS: LiteralString = """
    {0}.id, {0}.organization_id, {0}.initiator_id, {0}.provisioner, {0}.type, {0}.file_id, {0}.input, {0}.tags,
    {0}.worker_id, {0}.fence, {0}.error, {0}.error_code, {0}.logs_overflowed, {0}.created_at, {0}.updated_at,
    {0}.started_at, {0}.canceled_at, {0}.completed_at, {0}.status
"""
WIDTH = 19
"""How many columns `COLUMNS` are."""


def columns(alias: LiteralString) -> sql.Composed:
    """Name the columns of a job, for queries that join it as `alias`."""
    return sql.SQL(COLUMNS).format(sql.SQL(alias))


def from_row(row: Sequence[object]) -> Job:
    """Build a job from its columns in the order of `COLUMNS`."""
    # The order of the columns is that of the fields; the enums come as text.
    job = Job(*row)  # pyright: ignore[reportArgumentType]
    object.__setattr__(job, "type", JobType(job.type))
    object.__setattr__(job, "status", JobStatus(job.status))
    return job


_SELECT = sql.SQL("SELECT {} FROM provisioner_jobs j ").format(columns("j"))


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job that is to be inserted."""

    id: UUID
    organization_id: UUID
    initiator_id: UUID
    type: JobType
    file_id: UUID
    input: Mapping[str, object]
    tags: Mapping[str, str]
    created_at: datetime
    provisioner: str = "terraform"


async def insert(db: AsyncConnection, job: NewJob) -> Job:
    """Put a job into the queue."""
    return await _one(
        db,
        sql.SQL("""
            INSERT INTO provisioner_jobs AS j (
                id, organization_id, initiator_id, provisioner, type, file_id, input, tags, created_at, updated_at)
            VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
            RETURNING {}""").format(columns("j")),
        (
            job.id,
            job.organization_id,
            job.initiator_id,
            job.provisioner,
            job.type,
            job.file_id,
            Jsonb(dict(job.input)),
            Jsonb(dict(job.tags)),
            job.created_at,
            job.created_at,
        ),
    )


async def get(db: AsyncConnection, job_id: UUID) -> Job:
    """Read a job."""
    return await _one(db, _SELECT + sql.SQL("WHERE j.id = %s"), (job_id,))


async def lock(db: AsyncConnection, job_id: UUID) -> Job:
    """Read a job and keep others from changing it until the transaction ends."""
    return await _one(db, _SELECT + sql.SQL("WHERE j.id = %s FOR UPDATE"), (job_id,))


async def _one(db: AsyncConnection, query: sql.Composed, values: Sequence[object]) -> Job:
    async with db.cursor(row_factory=tuple_row) as cursor:
        row = await (await cursor.execute(query, values)).fetchone()
    if row is None:
        raise NotFound
    return from_row(row)


async def acquire(
    db: AsyncConnection,
    *,
    worker_id: UUID,
    organization_id: UUID,
    provisioners: Sequence[str],
    tags: Mapping[str, str],
    now: datetime,
) -> Job | None:
    """Hand the oldest waiting job that these tags may run to a worker, with a lease and a new fence.

    Leases go by the database's clock, for all replicas must agree on them; what people see goes by `now`.
    """
    query = sql.SQL("""
        UPDATE provisioner_jobs AS j
        SET started_at = %(now)s, updated_at = %(now)s, worker_id = %(worker_id)s, fence = j.fence + 1,
            lease_until = now() + %(lease)s
        WHERE j.id = (
            SELECT id FROM provisioner_jobs
            WHERE started_at IS NULL AND completed_at IS NULL AND canceled_at IS NULL
                AND organization_id = %(organization_id)s AND provisioner = ANY (%(provisioners)s)
                AND CASE WHEN tags = '{{"scope": "organization", "owner": ""}}'
                    THEN %(tags)s = tags ELSE tags <@ %(tags)s END
            ORDER BY created_at
            FOR UPDATE SKIP LOCKED LIMIT 1)
        RETURNING {}""").format(columns("j"))
    values = {
        "worker_id": worker_id,
        "organization_id": organization_id,
        "provisioners": list(provisioners),
        "tags": Jsonb(dict(tags)),
        "lease": LEASE,
        "now": now,
    }
    async with db.cursor(row_factory=tuple_row) as cursor:
        row = await (await cursor.execute(query, values)).fetchone()
    return from_row(row) if row else None


async def renew(db: AsyncConnection, job_id: UUID, fence: int) -> bool:
    """Renew the lease of a worker; say whether it still had it."""
    cursor = await db.execute(
        """
        UPDATE provisioner_jobs SET updated_at = now(), lease_until = now() + %s
        WHERE id = %s AND fence = %s AND completed_at IS NULL""",
        (LEASE, job_id, fence),
    )
    return cursor.rowcount == 1


async def cancel(db: AsyncConnection, job_id: UUID, now: datetime) -> None:
    """Mark a job canceled; one that no worker has is thereby over."""
    await db.execute(
        """
        UPDATE provisioner_jobs
        SET canceled_at = %(now)s, updated_at = %(now)s, completed_at = CASE WHEN worker_id IS NULL THEN %(now)s END
        WHERE id = %(id)s""",
        {"now": now, "id": job_id},
    )


async def complete(db: AsyncConnection, job_id: UUID, now: datetime, *, error: str = "", error_code: str = "") -> None:
    """End a job, and take it from its worker: a later report bears an old fence."""
    await db.execute(
        """
        UPDATE provisioner_jobs
        SET completed_at = %(now)s, updated_at = %(now)s, started_at = coalesce(started_at, %(now)s),
            error = %(error)s, error_code = %(error_code)s, fence = fence + 1, lease_until = NULL
        WHERE id = %(id)s""",
        # PostgreSQL's text cannot hold NUL.
        {"now": now, "id": job_id, "error": error.replace("\0", ""), "error_code": error_code},
    )


async def lock_expired(db: AsyncConnection, *, limit: int) -> Sequence[Job]:
    """Lock running jobs whose lease has run out, passing over those that somebody else looks at."""
    return await _many(
        db,
        """
        WHERE j.started_at IS NOT NULL AND j.completed_at IS NULL AND j.lease_until < now()
        ORDER BY j.lease_until LIMIT %s FOR UPDATE SKIP LOCKED""",
        (limit,),
    )


async def lock_held(db: AsyncConnection, worker_ids: Sequence[UUID]) -> Sequence[Job]:
    """Lock the running jobs of some workers."""
    return await _many(
        db,
        """
        WHERE j.started_at IS NOT NULL AND j.completed_at IS NULL AND j.worker_id = ANY (%s)
        FOR UPDATE SKIP LOCKED""",
        (list(worker_ids),),
    )


async def lock_waiting_since(db: AsyncConnection, before: datetime, *, limit: int) -> Sequence[Job]:
    """Lock jobs that nobody has taken since `before`."""
    return await _many(
        db,
        """
        WHERE j.started_at IS NULL AND j.completed_at IS NULL AND j.created_at < %s
        ORDER BY j.created_at LIMIT %s FOR UPDATE SKIP LOCKED""",
        (before, limit),
    )


async def _many(db: AsyncConnection, condition: LiteralString, values: Sequence[object]) -> Sequence[Job]:
    async with db.cursor(row_factory=tuple_row) as cursor:
        rows = await (await cursor.execute(_SELECT + sql.SQL(condition), values)).fetchall()
    return [from_row(row) for row in rows]


async def get_view(db: AsyncConnection, job_id: UUID) -> JobView:
    """Read a job with the name of its worker."""
    query = sql.SQL("""
        SELECT {}, coalesce(d.name, '') FROM provisioner_jobs j
        LEFT JOIN provisioner_daemons d ON d.id = j.worker_id WHERE j.id = %s""").format(columns("j"))
    async with db.cursor(row_factory=tuple_row) as cursor:
        row = await (await cursor.execute(query, (job_id,))).fetchone()
    if row is None:
        raise NotFound
    return JobView(from_row(row[:WIDTH]), row[WIDTH])


async def list_waiting(db: AsyncConnection) -> Sequence[Waiting]:
    """List all pending jobs, oldest first."""
    async with db.cursor(row_factory=class_row(Waiting)) as cursor:
        await cursor.execute("""
            SELECT id, tags FROM provisioner_jobs
            WHERE started_at IS NULL AND completed_at IS NULL AND canceled_at IS NULL ORDER BY created_at""")
        return await cursor.fetchall()


@dataclass(frozen=True, slots=True)
class JobNames:
    """What a job is for, by name."""

    template_version_name: str
    template_id: UUID | None
    template_name: str
    template_display_name: str
    template_icon: str
    workspace_id: UUID | None
    workspace_name: str
    workspace_build_transition: str


@dataclass(frozen=True, slots=True)
class ListedJob:
    """A job in the list for operators."""

    view: JobView
    names: JobNames


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs are wanted; an empty list wants all."""

    organization_id: UUID
    ids: Sequence[UUID] = ()
    statuses: Sequence[str] = ()
    tags: Mapping[str, str] | None = None
    initiator_id: UUID | None = None
    limit: int = 50


async def list_filtered(db: AsyncConnection, wanted: JobFilter) -> Sequence[ListedJob]:
    """List jobs of an organization, newest first."""
    query = sql.SQL("""
        SELECT {}, coalesce(d.name, ''),
            coalesce(v.name, ''), t.id, coalesce(t.name, ''), coalesce(t.display_name, ''), coalesce(t.icon, ''),
            w.id, coalesce(w.name, ''), coalesce(b.transition::text, '')
        FROM provisioner_jobs j
        LEFT JOIN provisioner_daemons d ON d.id = j.worker_id
        LEFT JOIN workspace_builds b ON b.job_id = j.id
        LEFT JOIN workspaces w ON w.id = b.workspace_id
        LEFT JOIN template_versions v ON v.id = coalesce(
            b.template_version_id, (j.input ->> 'template_version_id')::uuid)
        LEFT JOIN templates t ON t.id = v.template_id
        WHERE j.organization_id = %(organization_id)s
            AND (cardinality(%(ids)s::uuid[]) = 0 OR j.id = ANY (%(ids)s))
            AND (cardinality(%(statuses)s::text[]) = 0 OR j.status::text = ANY (%(statuses)s))
            AND (%(tags)s::jsonb IS NULL OR j.tags @> %(tags)s)
            AND (%(initiator_id)s::uuid IS NULL OR j.initiator_id = %(initiator_id)s)
        ORDER BY j.created_at DESC LIMIT %(limit)s""").format(columns("j"))
    values = {
        "organization_id": wanted.organization_id,
        "ids": list(wanted.ids),
        "statuses": list(wanted.statuses),
        "tags": None if wanted.tags is None else Jsonb(dict(wanted.tags)),
        "initiator_id": wanted.initiator_id,
        "limit": wanted.limit or None,
    }
    async with db.cursor(row_factory=tuple_row) as cursor:
        rows = await (await cursor.execute(query, values)).fetchall()
    return [ListedJob(JobView(from_row(row[:WIDTH]), row[WIDTH]), JobNames(*row[WIDTH + 1 :])) for row in rows]
