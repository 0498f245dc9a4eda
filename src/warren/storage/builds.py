"""Workspace builds in the database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import LiteralString
from uuid import UUID

from psycopg import AsyncConnection, sql
from psycopg.rows import tuple_row

from warren.domain.build import Build, BuildReason, Latest, Transition
from warren.domain.job import JobStatus
from warren.domain.workspace import BuildView, JobView
from warren.errors import NotFound
from warren.storage import jobs

COLUMNS: LiteralString = """
    b.id, b.workspace_id, b.template_version_id, b.template_version_preset_id, b.job_id, b.initiator_id,
    b.build_number, b.transition, b.reason, b.daily_cost, b.deadline, b.max_deadline, b.has_ai_task,
    b.has_external_agent, b.created_at, b.updated_at"""
WIDTH = 16

VIEW_COLUMNS = sql.SQL(
    COLUMNS + ", {}, coalesce(d.name, ''), w.name, ow.id, ow.username, ow.avatar_url, v.name, iu.username"
).format(jobs.columns("j"))

VIEW_JOINS: LiteralString = """
    JOIN users ow ON ow.id = w.owner_id
    JOIN provisioner_jobs j ON j.id = b.job_id
    LEFT JOIN provisioner_daemons d ON d.id = j.worker_id
    JOIN template_versions v ON v.id = b.template_version_id
    JOIN users iu ON iu.id = b.initiator_id"""


def from_row(row: Sequence[object]) -> Build:
    """Build a build from its columns in the order of `COLUMNS`."""
    build = Build(*row)  # pyright: ignore[reportArgumentType]
    object.__setattr__(build, "transition", Transition(build.transition))
    object.__setattr__(build, "reason", BuildReason(build.reason))
    return build


def view_from_row(row: Sequence[object]) -> BuildView:
    """Build a build with its names from the columns in the order of `VIEW_COLUMNS`."""
    job_end = WIDTH + jobs.WIDTH
    worker_name, *names = row[job_end:]
    job = JobView(jobs.from_row(row[WIDTH:job_end]), worker_name)  # pyright: ignore[reportArgumentType]
    return BuildView(from_row(row[:WIDTH]), job, *names)  # pyright: ignore[reportArgumentType]


async def insert(db: AsyncConnection, build: Build, state: bytes, parameters: Mapping[str, str]) -> None:
    """Store a new build with its parameters."""
    await db.execute(
        """
        INSERT INTO workspace_builds (
            id, workspace_id, template_version_id, template_version_preset_id, job_id, initiator_id, build_number,
            transition, reason, state, created_at, updated_at)
        VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)""",
        (
            build.id,
            build.workspace_id,
            build.template_version_id,
            build.template_version_preset_id,
            build.job_id,
            build.initiator_id,
            build.build_number,
            build.transition,
            build.reason,
            state,
            build.created_at,
            build.updated_at,
        ),
    )
    if parameters:
        await db.execute(
            """
            INSERT INTO workspace_build_parameters (workspace_build_id, name, value)
            SELECT %s, * FROM unnest(%s::text[], %s::text[])""",
            (build.id, list(parameters.keys()), list(parameters.values())),
        )


async def find_latest(db: AsyncConnection, workspace_id: UUID) -> Latest | None:
    """Tell how the latest build of a workspace stands."""
    cursor = await db.execute(
        """
        SELECT b.build_number, b.transition::text, j.status::text FROM workspace_builds b
        JOIN provisioner_jobs j ON j.id = b.job_id
        WHERE b.workspace_id = %s ORDER BY b.build_number DESC LIMIT 1""",
        (workspace_id,),
    )
    row = await cursor.fetchone()
    return Latest(row[0], Transition(row[1]), JobStatus(row[2])) if row else None


async def get_of_number(db: AsyncConnection, workspace_id: UUID, number: int) -> Build:
    """Read a build of a workspace."""
    return await _one(db, "WHERE b.workspace_id = %s AND b.build_number = %s", (workspace_id, number))


async def get_of_job(db: AsyncConnection, job_id: UUID) -> Build:
    """Read the build that a job is for."""
    return await _one(db, "WHERE b.job_id = %s", (job_id,))


async def get(db: AsyncConnection, build_id: UUID) -> Build:
    """Read a build."""
    return await _one(db, "WHERE b.id = %s", (build_id,))


async def _one(db: AsyncConnection, condition: LiteralString, values: Sequence[object]) -> Build:
    query: LiteralString = "SELECT" + COLUMNS + " FROM workspace_builds b " + condition
    async with db.cursor(row_factory=tuple_row) as cursor:
        row = await (await cursor.execute(query, values)).fetchone()
    if row is None:
        raise NotFound
    return from_row(row)


_VIEW = (
    sql.SQL("SELECT {} FROM workspace_builds b JOIN workspaces w ON w.id = b.workspace_id").format(VIEW_COLUMNS)
    + sql.SQL(VIEW_JOINS)
    + sql.SQL(" ")
)


async def find_view(db: AsyncConnection, build_id: UUID) -> BuildView | None:
    """Read a build with its names."""
    rows = await _views(db, "WHERE b.id = %s", (build_id,))
    return rows[0] if rows else None


async def find_view_of_number(db: AsyncConnection, workspace_id: UUID, number: int) -> BuildView | None:
    """Read a build of a workspace with its names."""
    rows = await _views(db, "WHERE b.workspace_id = %s AND b.build_number = %s", (workspace_id, number))
    return rows[0] if rows else None


async def list_views(
    db: AsyncConnection, workspace_id: UUID, *, since: datetime | None, after: UUID | None, limit: int, offset: int
) -> Sequence[BuildView]:
    """List the builds of a workspace, newest first."""
    return await _views(
        db,
        """
        WHERE b.workspace_id = %s AND (%s::timestamptz IS NULL OR b.created_at > %s)
            AND (%s::uuid IS NULL OR b.build_number < (
                SELECT a.build_number FROM workspace_builds a WHERE a.id = %s))
        ORDER BY b.build_number DESC LIMIT %s OFFSET %s""",
        (workspace_id, since, since, after, after, limit or None, offset),
    )


async def _views(db: AsyncConnection, condition: LiteralString, values: Sequence[object]) -> Sequence[BuildView]:
    async with db.cursor(row_factory=tuple_row) as cursor:
        rows = await (await cursor.execute(_VIEW + sql.SQL(condition), values)).fetchall()
    return [view_from_row(row) for row in rows]


async def get_state(db: AsyncConnection, build_id: UUID) -> bytes:
    """Read the Terraform state of a build; empty when there is none."""
    cursor = await db.execute("SELECT state FROM workspace_builds WHERE id = %s", (build_id,))
    row = await cursor.fetchone()
    return bytes(row[0]) if row else b""


async def set_state(db: AsyncConnection, build_id: UUID, state: bytes, now: datetime) -> None:
    """Store the Terraform state of a build."""
    await db.execute("UPDATE workspace_builds SET state = %s, updated_at = %s WHERE id = %s", (state, now, build_id))


async def get_parameters(db: AsyncConnection, build_id: UUID) -> Mapping[str, str]:
    """Read the parameter values of a build."""
    cursor = await db.execute(
        "SELECT name, value FROM workspace_build_parameters WHERE workspace_build_id = %s", (build_id,)
    )
    return dict(await cursor.fetchall())


async def get_previous_parameters(db: AsyncConnection, workspace_id: UUID, number: int) -> Mapping[str, str]:
    """Read the parameter values of the build before `number`."""
    cursor = await db.execute(
        """
        SELECT p.name, p.value FROM workspace_build_parameters p
        JOIN workspace_builds b ON b.id = p.workspace_build_id
        WHERE b.workspace_id = %s AND b.build_number = %s""",
        (workspace_id, number - 1),
    )
    return dict(await cursor.fetchall())


async def finish(
    db: AsyncConnection,
    build_id: UUID,
    *,
    deadline: datetime | None,
    max_deadline: datetime | None,
    has_ai_task: bool,
    has_external_agent: bool,
    now: datetime,
) -> None:
    """Store what is known of a build once it succeeded."""
    await db.execute(
        """
        UPDATE workspace_builds
        SET deadline = %s, max_deadline = %s, has_ai_task = %s, has_external_agent = %s, updated_at = %s
        WHERE id = %s""",
        (deadline, max_deadline, has_ai_task, has_external_agent, now, build_id),
    )


async def set_deadline(db: AsyncConnection, build_id: UUID, deadline: datetime | None, now: datetime) -> None:
    """Move the moment at which a build stops by itself."""
    await db.execute(
        "UPDATE workspace_builds SET deadline = %s, updated_at = %s WHERE id = %s", (deadline, now, build_id)
    )


async def set_daily_cost(db: AsyncConnection, build_id: UUID, cost: int) -> None:
    """Store what a build costs a day."""
    await db.execute("UPDATE workspace_builds SET daily_cost = %s WHERE id = %s", (cost, build_id))
