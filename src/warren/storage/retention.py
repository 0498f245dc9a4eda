"""Delete what is too old, a batch at a time: a long transaction would hold back vacuum."""

from __future__ import annotations

from datetime import datetime

from psycopg import AsyncConnection

BATCH = 10_000


async def delete_connection_logs(db: AsyncConnection, before: datetime) -> int:
    """Forget connections that began before a time; say how many."""
    cursor = await db.execute(
        """
        DELETE FROM connection_logs WHERE id IN (
            SELECT id FROM connection_logs WHERE connected_at < %s LIMIT %s)""",
        (before, BATCH),
    )
    return cursor.rowcount


async def delete_agent_logs(db: AsyncConnection, before: datetime) -> int:
    """Forget lines of agents that were last seen before a time; those of a workspace's latest build stay."""
    cursor = await db.execute(
        """
        DELETE FROM workspace_agent_logs WHERE id IN (
            SELECT l.id
            FROM workspace_agents a
            JOIN workspace_resources r ON r.id = a.resource_id
            JOIN workspace_builds b ON b.job_id = r.job_id
            JOIN workspaces w ON w.id = b.workspace_id
            JOIN workspace_agent_logs l ON l.agent_id = a.id
            WHERE coalesce(a.last_connected_at, a.created_at) < %s AND l.created_at < %s
                AND (w.deleted OR b.build_number < (
                    SELECT max(later.build_number) FROM workspace_builds later WHERE later.workspace_id = w.id))
            LIMIT %s)""",
        (before, before, BATCH),
    )
    return cursor.rowcount


async def delete_agent_stats(db: AsyncConnection, before: datetime) -> int:
    """Forget reports from before a time; say how many."""
    cursor = await db.execute(
        """
        DELETE FROM workspace_agent_stats WHERE id IN (
            SELECT id FROM workspace_agent_stats WHERE created_at < %s ORDER BY created_at LIMIT %s)""",
        (before, BATCH),
    )
    return cursor.rowcount
