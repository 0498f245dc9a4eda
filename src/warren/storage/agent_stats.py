"""What agents report of the connections to them, and how use keeps a workspace up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.types.json import Jsonb


@dataclass(frozen=True, slots=True)
class Stats:
    """One report."""

    connections_by_proto: Mapping[str, int]
    connection_count: int
    connection_median_latency_ms: float
    rx_packets: int
    rx_bytes: int
    tx_packets: int
    tx_bytes: int
    sessions: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Deadlines:
    """When the latest build of a workspace ends, and how much use moves that."""

    build_id: UUID
    deadline: datetime | None
    max_deadline: datetime | None
    bump: timedelta


async def insert(
    db: AsyncConnection,
    stats: Stats,
    *,
    agent_id: UUID,
    owner_id: UUID,
    workspace_id: UUID,
    template_id: UUID,
    now: datetime,
) -> None:
    """Store a report."""
    await db.execute(
        """
        INSERT INTO workspace_agent_stats (
            agent_id, user_id, workspace_id, template_id, created_at, connections_by_proto, connection_count,
            connection_median_latency_ms, rx_packets, rx_bytes, tx_packets, tx_bytes, sessions)
        VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)""",
        (
            agent_id,
            owner_id,
            workspace_id,
            template_id,
            now,
            Jsonb(dict(stats.connections_by_proto)),
            stats.connection_count,
            stats.connection_median_latency_ms,
            stats.rx_packets,
            stats.rx_bytes,
            stats.tx_packets,
            stats.tx_bytes,
            Jsonb(dict(stats.sessions)),
        ),
    )


async def find_deadlines(db: AsyncConnection, workspace_id: UUID) -> Deadlines | None:
    """Read when a started workspace stops."""
    cursor = await db.execute(
        """
        SELECT b.id, b.deadline, b.max_deadline, t.activity_bump_ms, b.transition::text
        FROM workspace_builds b JOIN workspaces w ON w.id = b.workspace_id JOIN templates t ON t.id = w.template_id
        WHERE b.workspace_id = %s ORDER BY b.build_number DESC LIMIT 1""",
        (workspace_id,),
    )
    row = await cursor.fetchone()
    if row is None or row[4] != "start":
        return None
    return Deadlines(row[0], row[1], row[2], timedelta(milliseconds=row[3]))


async def set_deadline(db: AsyncConnection, build_id: UUID, deadline: datetime, now: datetime) -> None:
    """Move the deadline of a build."""
    await db.execute(
        "UPDATE workspace_builds SET deadline = %s, updated_at = %s WHERE id = %s", (deadline, now, build_id)
    )
