"""Lines that agents and their scripts print, and where they come from."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.rows import class_row

from warren.domain.agent import LogLine, LogSource


async def insert(
    db: AsyncConnection, agent_id: UUID, source_id: UUID, lines: Sequence[tuple[str, str]], now: datetime
) -> None:
    """Store lines: their levels and outputs, in order."""
    await db.execute(
        """
        INSERT INTO workspace_agent_logs (agent_id, log_source_id, level, output, created_at)
        SELECT %s, %s, line.level::log_level, line.output, %s
        FROM unnest(%s::text[], %s::text[]) WITH ORDINALITY AS line (level, output, position)
        ORDER BY line.position""",
        (agent_id, source_id, now, [level for level, _ in lines], [output for _, output in lines]),
    )


async def set_length(db: AsyncConnection, agent_id: UUID, length: int) -> None:
    """Store how many bytes an agent logged."""
    await db.execute("UPDATE workspace_agents SET logs_length = %s WHERE id = %s", (length, agent_id))


async def set_overflowed(db: AsyncConnection, agent_id: UUID) -> None:
    """Store that an agent logged too much."""
    await db.execute("UPDATE workspace_agents SET logs_overflowed = true WHERE id = %s", (agent_id,))


async def list_after(db: AsyncConnection, agent_id: UUID, after: int, *, limit: int) -> Sequence[LogLine]:
    """List the lines of an agent after one of them."""
    async with db.cursor(row_factory=class_row(LogLine)) as cursor:
        await cursor.execute(
            """
            SELECT id, created_at, output, level::text, log_source_id AS source_id
            FROM workspace_agent_logs WHERE agent_id = %s AND id > %s ORDER BY id LIMIT %s""",
            (agent_id, after, limit),
        )
        return await cursor.fetchall()


async def insert_source(db: AsyncConnection, agent_id: UUID, source: LogSource) -> None:
    """Store where lines come from; one that is known stays as it is."""
    await db.execute(
        """
        INSERT INTO workspace_agent_log_sources (agent_id, id, display_name, icon, created_at)
        VALUES (%s, %s, %s, %s, %s) ON CONFLICT DO NOTHING""",
        (agent_id, source.id, source.display_name, source.icon, source.created_at),
    )
