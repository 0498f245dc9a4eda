"""What there is once in a deployment: its identity, settings made at run time, and figures about all of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

FIRST_USER_LOCK = 0x4649525354  # "FIRST"


@dataclass(frozen=True, slots=True)
class Identity:
    """Which deployment this is."""

    id: UUID
    derp_private_key: bytes
    created_at: datetime


async def ensure(db: AsyncConnection, new: Identity) -> tuple[Identity, bool]:
    """Read the deployment's identity; when there is none yet, `new` becomes it. Says also whether it did."""
    cursor = await db.execute(
        """
        INSERT INTO deployment (id, created_at, derp_private_key) VALUES (%s, %s, %s)
        ON CONFLICT (singleton) DO NOTHING""",
        (new.id, new.created_at, new.derp_private_key),
    )
    created = cursor.rowcount > 0
    async with db.cursor(row_factory=class_row(Identity)) as reading:
        await reading.execute("SELECT id, derp_private_key, created_at FROM deployment")
        found = await reading.fetchone()
    assert found is not None
    return found, created


async def read_config(db: AsyncConnection, key: str) -> object | None:
    """Read a setting made at run time."""
    row = await (await db.execute("SELECT value FROM site_configs WHERE key = %s", (key,))).fetchone()
    return None if row is None else row[0]


async def write_config(db: AsyncConnection, key: str, value: object) -> None:
    """Store a setting made at run time."""
    await db.execute(
        "INSERT INTO site_configs (key, value) VALUES (%s, %s) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        (key, Jsonb(value)),
    )


async def lock_first_user(db: AsyncConnection) -> None:
    """Let one transaction at a time make the first user."""
    await db.execute("SELECT pg_advisory_xact_lock(%s)", (FIRST_USER_LOCK,))


@dataclass(frozen=True, slots=True)
class Counts:
    """Workspaces by the state of their latest build."""

    pending: int
    building: int
    running: int
    failed: int
    stopped: int


async def count_workspaces(db: AsyncConnection) -> Counts:
    """Count workspaces by the state of their latest build."""
    query = """
        SELECT count(*) FILTER (WHERE j.status = 'pending') AS pending,
            count(*) FILTER (WHERE j.status IN ('running', 'canceling')) AS building,
            count(*) FILTER (WHERE j.status = 'succeeded' AND b.transition = 'start') AS running,
            count(*) FILTER (WHERE j.status IN ('failed', 'canceled')) AS failed,
            count(*) FILTER (WHERE j.status = 'succeeded' AND b.transition = 'stop') AS stopped
        FROM workspaces w
        JOIN LATERAL (
            SELECT job_id, transition FROM workspace_builds WHERE workspace_id = w.id
            ORDER BY build_number DESC LIMIT 1) b ON true
        JOIN provisioner_jobs j ON j.id = b.job_id
        WHERE NOT w.deleted
    """
    async with db.cursor(row_factory=class_row(Counts)) as cursor:
        found = await (await cursor.execute(query)).fetchone()
    assert found is not None
    return found


@dataclass(frozen=True, slots=True)
class Traffic:
    """What agents reported of late."""

    rx_bytes: int
    tx_bytes: int
    latency_p50_ms: float
    latency_p95_ms: float
    vscode: int
    ssh: int
    jetbrains: int
    reconnecting_pty: int


async def sum_traffic(db: AsyncConnection, since: datetime) -> Traffic:
    """Add up what agents reported since a time; sessions are those of each agent's latest report."""
    query = """
        WITH recent AS (SELECT * FROM workspace_agent_stats WHERE created_at > %(since)s),
        latest AS (SELECT DISTINCT ON (agent_id) sessions FROM recent ORDER BY agent_id, created_at DESC)
        SELECT coalesce(sum(rx_bytes), 0)::bigint AS rx_bytes, coalesce(sum(tx_bytes), 0)::bigint AS tx_bytes,
            coalesce(percentile_cont(0.5) WITHIN GROUP (ORDER BY connection_median_latency_ms)
                FILTER (WHERE connection_median_latency_ms > 0), -1) AS latency_p50_ms,
            coalesce(percentile_cont(0.95) WITHIN GROUP (ORDER BY connection_median_latency_ms)
                FILTER (WHERE connection_median_latency_ms > 0), -1) AS latency_p95_ms,
            (SELECT coalesce(sum((sessions ->> 'vscode')::bigint), 0)::bigint FROM latest) AS vscode,
            (SELECT coalesce(sum((sessions ->> 'ssh')::bigint), 0)::bigint FROM latest) AS ssh,
            (SELECT coalesce(sum((sessions ->> 'jetbrains')::bigint), 0)::bigint FROM latest) AS jetbrains,
            (SELECT coalesce(sum((sessions ->> 'reconnecting_pty')::bigint), 0)::bigint FROM latest)
                AS reconnecting_pty
        FROM recent
    """
    async with db.cursor(row_factory=class_row(Traffic)) as cursor:
        found = await (await cursor.execute(query, {"since": since})).fetchone()
    assert found is not None
    return found
