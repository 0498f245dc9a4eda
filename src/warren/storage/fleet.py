"""Figures about users, workspaces, agents and provisioners, for monitoring: few statements, whatever the size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.rows import class_row

from warren.storage.provisioner_daemons import DAEMON_STALE


@dataclass(frozen=True, slots=True)
class Counts:
    """How many there are of what is not told apart further."""

    active_users: int
    dormant_users: int
    suspended_users: int
    recent_users: int
    daemons: int


@dataclass(frozen=True, slots=True)
class LatestBuilds:
    """How many workspaces have a latest build of one kind."""

    status: str
    template_name: str
    template_version: str
    workspace_owner: str
    workspace_transition: str
    count: int


@dataclass(frozen=True, slots=True)
class AgentLine:
    """An agent of a latest build."""

    agent_name: str
    username: str
    workspace_name: str
    template_name: str
    template_version: str
    lifecycle: str
    status: str
    apps: Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class FinishedJob:
    """A job that ended; the names are empty for one that was no build."""

    id: UUID
    provisioner: str
    status: str
    seconds: float
    completed_at: datetime
    template_name: str
    template_version: str
    workspace_name: str
    workspace_owner: str
    workspace_transition: str


@dataclass(frozen=True, slots=True)
class AgentStats:
    """What agents reported since a time, by agent."""

    agent_name: str
    username: str
    workspace_name: str
    template_name: str
    connection_count: int
    median_latency_seconds: float | None
    rx_bytes: int
    tx_bytes: int
    ssh: int
    vscode: int
    jetbrains: int
    reconnecting_pty: int


async def count(db: AsyncConnection, now: datetime) -> Counts:
    """Count users and daemons."""
    async with db.cursor(row_factory=class_row(Counts)) as cursor:
        await cursor.execute(
            """
            SELECT count(*) FILTER (WHERE status = 'active') AS active_users,
                count(*) FILTER (WHERE status = 'dormant') AS dormant_users,
                count(*) FILTER (WHERE status = 'suspended') AS suspended_users,
                count(*) FILTER (WHERE last_seen_at > %(now)s - interval '1 hour') AS recent_users,
                (SELECT count(*) FROM provisioner_daemons WHERE last_seen_at > %(now)s - %(stale)s) AS daemons
            FROM users WHERE NOT deleted AND NOT is_system""",
            {"now": now, "stale": DAEMON_STALE},
        )
        found = await cursor.fetchone()
    assert found is not None  # an aggregate has a row
    return found


async def latest_builds(db: AsyncConnection) -> Sequence[LatestBuilds]:
    """Count workspaces by their latest build."""
    async with db.cursor(row_factory=class_row(LatestBuilds)) as cursor:
        await cursor.execute(
            """
            SELECT j.status::text, t.name AS template_name, v.name AS template_version,
                u.username AS workspace_owner, b.transition::text AS workspace_transition, count(*)
            FROM workspaces w
            JOIN LATERAL (
                SELECT * FROM workspace_builds WHERE workspace_id = w.id ORDER BY build_number DESC LIMIT 1) b ON true
            JOIN provisioner_jobs j ON j.id = b.job_id
            JOIN template_versions v ON v.id = b.template_version_id
            JOIN templates t ON t.id = w.template_id
            JOIN users u ON u.id = w.owner_id
            WHERE NOT w.deleted GROUP BY 1, 2, 3, 4, 5"""
        )
        return await cursor.fetchall()


async def running_jobs(db: AsyncConnection) -> Sequence[tuple[str, int]]:
    """Count jobs that run, by provisioner."""
    cursor = await db.execute(
        """
        SELECT provisioner, count(*) FROM provisioner_jobs
        WHERE started_at IS NOT NULL AND completed_at IS NULL GROUP BY 1"""
    )
    return await cursor.fetchall()


async def agent_lines(db: AsyncConnection, inactive_since: datetime, now: datetime) -> Sequence[AgentLine]:
    """List the agents of latest builds, with their apps; one that was last heard of before a time is away."""
    async with db.cursor(row_factory=class_row(AgentLine)) as cursor:
        await cursor.execute(
            """
            SELECT a.name AS agent_name, u.username, w.name AS workspace_name, t.name AS template_name,
                v.name AS template_version, a.lifecycle::text,
                CASE
                    WHEN a.first_connected_at IS NULL OR a.last_connected_at IS NULL THEN
                        CASE WHEN a.connection_timeout_seconds > 0
                            AND a.created_at + make_interval(secs => a.connection_timeout_seconds) < %(now)s
                        THEN 'timeout' ELSE 'connecting' END
                    WHEN a.disconnected_at >= a.last_connected_at OR a.last_connected_at < %(inactive)s
                    THEN 'disconnected'
                    ELSE 'connected' END AS status,
                coalesce((
                    SELECT jsonb_agg(jsonb_build_array(p.slug, p.health) ORDER BY p.slug)
                    FROM workspace_apps p WHERE p.agent_id = a.id), '[]') AS apps
            FROM workspaces w
            JOIN LATERAL (
                SELECT * FROM workspace_builds WHERE workspace_id = w.id ORDER BY build_number DESC LIMIT 1) b ON true
            JOIN template_versions v ON v.id = b.template_version_id
            JOIN templates t ON t.id = w.template_id
            JOIN users u ON u.id = w.owner_id
            JOIN workspace_resources r ON r.job_id = b.job_id
            JOIN workspace_agents a ON a.resource_id = r.id AND NOT a.deleted
            WHERE NOT w.deleted""",
            {"now": now, "inactive": inactive_since},
        )
        return await cursor.fetchall()


async def finished_jobs(db: AsyncConnection, since: datetime) -> Sequence[FinishedJob]:
    """List jobs that ended since a time."""
    async with db.cursor(row_factory=class_row(FinishedJob)) as cursor:
        await cursor.execute(
            """
            SELECT j.id, j.provisioner, j.status::text, j.completed_at,
                extract(epoch FROM j.completed_at - coalesce(j.started_at, j.completed_at))::float8 AS seconds,
                coalesce(t.name, '') AS template_name, coalesce(v.name, '') AS template_version,
                coalesce(w.name, '') AS workspace_name, coalesce(u.username, '') AS workspace_owner,
                coalesce(b.transition::text, '') AS workspace_transition
            FROM provisioner_jobs j
            LEFT JOIN workspace_builds b ON b.job_id = j.id
            LEFT JOIN workspaces w ON w.id = b.workspace_id
            LEFT JOIN templates t ON t.id = w.template_id
            LEFT JOIN template_versions v ON v.id = b.template_version_id
            LEFT JOIN users u ON u.id = w.owner_id
            WHERE j.completed_at >= %s""",
            (since,),
        )
        return await cursor.fetchall()


async def agent_stats(db: AsyncConnection, since: datetime) -> Sequence[AgentStats]:
    """Sum up what agents reported since a time; counts of what is open are those of the newest report."""
    async with db.cursor(row_factory=class_row(AgentStats)) as cursor:
        await cursor.execute(
            """
            WITH recent AS (
                SELECT *, row_number() OVER (PARTITION BY agent_id ORDER BY created_at DESC, id DESC) AS age
                FROM workspace_agent_stats WHERE created_at > %s),
            by_agent AS (
                SELECT agent_id, workspace_id, sum(rx_bytes)::bigint AS rx_bytes, sum(tx_bytes)::bigint AS tx_bytes,
                    percentile_cont(0.5) WITHIN GROUP (ORDER BY connection_median_latency_ms)
                        FILTER (WHERE connection_median_latency_ms > 0) / 1000 AS median_latency_seconds
                FROM recent GROUP BY 1, 2)
            SELECT a.name AS agent_name, u.username, w.name AS workspace_name, t.name AS template_name,
                n.connection_count, s.median_latency_seconds, s.rx_bytes, s.tx_bytes,
                coalesce((n.sessions ->> 'ssh')::int, 0) AS ssh,
                coalesce((n.sessions ->> 'vscode')::int, 0) AS vscode,
                coalesce((n.sessions ->> 'jetbrains')::int, 0) AS jetbrains,
                coalesce((n.sessions ->> 'reconnecting_pty')::int, 0) AS reconnecting_pty
            FROM by_agent s
            JOIN recent n ON n.agent_id = s.agent_id AND n.age = 1
            JOIN workspace_agents a ON a.id = s.agent_id
            JOIN workspaces w ON w.id = s.workspace_id
            JOIN templates t ON t.id = w.template_id
            JOIN users u ON u.id = w.owner_id""",
            (since,),
        )
        return await cursor.fetchall()
