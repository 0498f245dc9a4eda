"""Workspaces and agents of a user, as far as a VPN client shows them."""

from __future__ import annotations

from uuid import UUID

from psycopg import AsyncConnection, sql

from warren.domain.build import Transition, status_of
from warren.domain.job import JobStatus
from warren.domain.workspace_updates import AgentState, Snapshot, WorkspaceState


async def snapshot(db: AsyncConnection, owner_id: UUID, readable: sql.Composable) -> Snapshot:
    """Read the workspaces of a user, as far as `readable` says of a workspace `w` that it may be seen."""
    query = sql.SQL("""
        SELECT w.id, w.name, b.transition::text, j.status::text, coalesce((
            SELECT json_agg(json_build_array(a.id, a.name) ORDER BY a.name, a.id)
            FROM workspace_resources r JOIN workspace_agents a ON a.resource_id = r.id
            WHERE r.job_id = b.job_id AND NOT a.deleted), '[]'::json)
        FROM workspaces w
        CROSS JOIN LATERAL (
            SELECT * FROM workspace_builds WHERE workspace_id = w.id ORDER BY build_number DESC LIMIT 1) b
        JOIN provisioner_jobs j ON j.id = b.job_id
        WHERE w.owner_id = {owner_id} AND NOT w.deleted AND {readable}
        ORDER BY w.name, w.id""").format(owner_id=sql.Literal(owner_id), readable=readable)
    rows = await (await db.execute(query)).fetchall()
    return Snapshot(
        [WorkspaceState(row[0], row[1], status_of(JobStatus(row[3]), Transition(row[2]))) for row in rows],
        [AgentState(UUID(agent_id), name, row[0]) for row in rows for agent_id, name in row[4]],
    )
