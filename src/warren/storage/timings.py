"""Where the time of a build went: its Terraform steps, its agents' way to the server, their scripts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.rows import class_row

from warren.storage import job_logs
from warren.storage.job_logs import Timing


@dataclass(frozen=True, slots=True)
class ScriptTiming:
    """How long a script of an agent took."""

    started_at: datetime
    ended_at: datetime
    exit_code: int
    stage: str
    status: str
    display_name: str
    agent_id: UUID
    agent_name: str


@dataclass(frozen=True, slots=True)
class ConnectionTiming:
    """How long an agent took to connect."""

    started_at: datetime
    ended_at: datetime
    agent_id: UUID
    agent_name: str


@dataclass(frozen=True, slots=True)
class Timings:
    """Where the time of a build went."""

    steps: Sequence[Timing]
    scripts: Sequence[ScriptTiming]
    connections: Sequence[ConnectionTiming]


async def of_job(db: AsyncConnection, job_id: UUID) -> Timings:
    """Read where the time of a job went."""
    async with db.cursor(row_factory=class_row(ScriptTiming)) as cursor:
        await cursor.execute(
            """
            SELECT DISTINCT ON (t.script_id) t.started_at, t.ended_at, t.exit_code, t.stage, t.status, s.display_name,
                a.id AS agent_id, a.name AS agent_name
            FROM workspace_agent_script_timings t
            JOIN workspace_agent_scripts s ON s.id = t.script_id
            JOIN workspace_agents a ON a.id = s.agent_id
            JOIN workspace_resources r ON r.id = a.resource_id
            WHERE r.job_id = %s ORDER BY t.script_id, t.started_at""",
            (job_id,),
        )
        scripts = await cursor.fetchall()
    async with db.cursor(row_factory=class_row(ConnectionTiming)) as cursor:
        await cursor.execute(
            """
            SELECT a.created_at AS started_at, a.first_connected_at AS ended_at, a.id AS agent_id, a.name AS agent_name
            FROM workspace_agents a JOIN workspace_resources r ON r.id = a.resource_id
            WHERE r.job_id = %s AND a.first_connected_at IS NOT NULL ORDER BY a.created_at""",
            (job_id,),
        )
        connections = await cursor.fetchall()
    return Timings(await job_logs.list_timings(db, job_id), scripts, connections)
