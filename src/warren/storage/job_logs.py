"""The logs and timings of jobs in the database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.rows import class_row

from warren.domain.job import LogLevel, LogLine, LogSource, StoredLogLine, fit


async def append(db: AsyncConnection, job_id: UUID, lines: Sequence[LogLine]) -> int:
    """Add lines to a job's log as far as they fit; say how many were stored."""
    cursor = await db.execute(
        "SELECT logs_length, logs_overflowed FROM provisioner_jobs WHERE id = %s FOR UPDATE", (job_id,)
    )
    row = await cursor.fetchone()
    if row is None:
        return 0
    batch = fit(lines, length=row[0], overflowed=row[1])
    if not batch.lines:
        return 0
    await db.execute(
        """
        INSERT INTO provisioner_job_logs (job_id, created_at, source, level, stage, output)
        SELECT %s, * FROM unnest(%s::timestamptz[], %s::log_source[], %s::log_level[], %s::text[], %s::text[])""",
        (
            job_id,
            [line.created_at for line in batch.lines],
            [line.source.value for line in batch.lines],
            [line.level.value for line in batch.lines],
            [line.stage for line in batch.lines],
            [line.output for line in batch.lines],
        ),
    )
    await db.execute(
        "UPDATE provisioner_jobs SET logs_length = %s, logs_overflowed = %s WHERE id = %s",
        (batch.length, batch.overflowed, job_id),
    )
    return len(batch.lines)


async def list_after(db: AsyncConnection, job_id: UUID, after: int) -> Sequence[StoredLogLine]:
    """List the lines of a job's log past one line, in order."""
    cursor = await db.execute(
        """
        SELECT id, created_at, source, level, stage, output FROM provisioner_job_logs
        WHERE job_id = %s AND id > %s ORDER BY id""",
        (job_id, after),
    )
    return [
        StoredLogLine(row[0], row[1], LogSource(row[2]), LogLevel(row[3]), row[4], row[5])
        for row in await cursor.fetchall()
    ]


async def last_stage(db: AsyncConnection, job_id: UUID) -> str:
    """Tell in which stage a job is; empty when it has written nothing."""
    cursor = await db.execute(
        "SELECT stage FROM provisioner_job_logs WHERE job_id = %s ORDER BY id DESC LIMIT 1", (job_id,)
    )
    row = await cursor.fetchone()
    return row[0] if row else ""


@dataclass(frozen=True, slots=True)
class Timing:
    """How long one step of a job took."""

    job_id: UUID
    started_at: datetime
    ended_at: datetime
    stage: str
    source: str
    action: str
    resource: str


async def insert_timings(db: AsyncConnection, timings: Sequence[Timing]) -> None:
    """Store how long the steps of a job took."""
    if not timings:
        return
    async with db.cursor() as cursor:
        await cursor.executemany(
            """
            INSERT INTO provisioner_job_timings (job_id, started_at, ended_at, stage, source, action, resource)
            VALUES (%s, %s, %s, %s, %s, %s, %s)""",
            [
                (item.job_id, item.started_at, item.ended_at, item.stage, item.source, item.action, item.resource)
                for item in timings
            ],
        )


async def list_timings(db: AsyncConnection, job_id: UUID) -> Sequence[Timing]:
    """List how long the steps of a job took, in order."""
    async with db.cursor(row_factory=class_row(Timing)) as cursor:
        await cursor.execute(
            """
            SELECT job_id, started_at, ended_at, stage, source, action, resource FROM provisioner_job_timings
            WHERE job_id = %s ORDER BY started_at, ended_at""",
            (job_id,),
        )
        return await cursor.fetchall()
