"""Who connected to agents, as the agents report it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID, uuid4

from psycopg import AsyncConnection


@dataclass(frozen=True, slots=True)
class ConnectionReport:
    """The begin or the end of a connection; `ip` is None where the agent did not know it."""

    connection_id: UUID
    type: str
    ip: str | None
    at: datetime
    ended: bool
    status_code: int | None = None
    reason: str | None = None


async def upsert(
    db: AsyncConnection,
    report: ConnectionReport,
    *,
    organization_id: UUID,
    owner_id: UUID,
    workspace_id: UUID,
    workspace_name: str,
    agent_name: str,
) -> None:
    """Store the begin of a connection, or its end in the same row; the two may come in any order."""
    await db.execute(
        """
        INSERT INTO connection_logs (
            id, connection_id, organization_id, workspace_owner_id, workspace_id, workspace_name, agent_name, type,
            ip, status_code, disconnect_reason, connected_at, disconnected_at)
        VALUES (
            %(id)s, %(connection_id)s, %(organization_id)s, %(owner_id)s, %(workspace_id)s, %(workspace_name)s,
            %(agent_name)s, %(type)s, %(ip)s, %(status_code)s, %(reason)s, %(at)s, %(ended_at)s)
        ON CONFLICT (connection_id, workspace_id, agent_name) WHERE connection_id IS NOT NULL DO UPDATE
        SET connected_at = least(connection_logs.connected_at, excluded.connected_at),
            ip = coalesce(connection_logs.ip, excluded.ip),
            disconnected_at = coalesce(connection_logs.disconnected_at, excluded.disconnected_at),
            status_code = coalesce(excluded.status_code, connection_logs.status_code),
            disconnect_reason = coalesce(excluded.disconnect_reason, connection_logs.disconnect_reason)""",
        {
            "id": uuid4(),
            "connection_id": report.connection_id,
            "organization_id": organization_id,
            "owner_id": owner_id,
            "workspace_id": workspace_id,
            "workspace_name": workspace_name,
            "agent_name": agent_name,
            "type": report.type,
            "ip": report.ip,
            "status_code": report.status_code,
            "reason": report.reason,
            "at": report.at,
            "ended_at": report.at if report.ended else None,
        },
    )
