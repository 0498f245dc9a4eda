"""Provisioner daemons in the database: who can take jobs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID, uuid4

from psycopg import AsyncConnection
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from warren.domain.job import DAEMON_STALE
from warren.errors import NotFound

BUILT_IN_KEY = UUID(int=1)
USER_KEY = UUID(int=2)
PSK_KEY = UUID(int=3)
RESERVED_KEYS = {BUILT_IN_KEY: "built-in", USER_KEY: "user-auth", PSK_KEY: "psk"}


@dataclass(frozen=True, slots=True)
class Daemon:
    """A process that takes jobs."""

    id: UUID
    organization_id: UUID
    key_id: UUID
    name: str
    version: str
    api_version: str
    provisioners: Sequence[str]
    tags: Mapping[str, str]
    created_at: datetime
    last_seen_at: datetime | None


@dataclass(frozen=True, slots=True)
class NewDaemon:
    """A daemon that connects."""

    organization_id: UUID
    key_id: UUID
    name: str
    version: str
    api_version: str
    provisioners: Sequence[str]
    tags: Mapping[str, str]


async def upsert(db: AsyncConnection, daemon: NewDaemon) -> Daemon:
    """Store a daemon that connects; one of the same name and owner is the same daemon."""
    async with db.cursor(row_factory=class_row(Daemon)) as cursor:
        await cursor.execute(
            """
            INSERT INTO provisioner_daemons AS d (
                id, organization_id, key_id, name, version, api_version, provisioners, tags, created_at, last_seen_at)
            VALUES (%s, %s, %s, %s, %s, %s, %s, %s, now(), now())
            ON CONFLICT (organization_id, name, lower(coalesce(tags ->> 'owner', ''))) DO UPDATE
            SET key_id = excluded.key_id, version = excluded.version, api_version = excluded.api_version,
                provisioners = excluded.provisioners, tags = excluded.tags, last_seen_at = now()
            RETURNING id, organization_id, key_id, name, version, api_version, provisioners, tags, created_at,
                last_seen_at""",
            (
                uuid4(),
                daemon.organization_id,
                daemon.key_id,
                daemon.name,
                daemon.version,
                daemon.api_version,
                list(daemon.provisioners),
                Jsonb(dict(daemon.tags)),
            ),
        )
        stored = await cursor.fetchone()
    if stored is None:
        raise NotFound
    return stored


async def touch(db: AsyncConnection, daemon_id: UUID) -> None:
    """Note that a daemon is alive."""
    await db.execute("UPDATE provisioner_daemons SET last_seen_at = now() WHERE id = %s", (daemon_id,))


async def delete_unseen(db: AsyncConnection) -> None:
    """Forget daemons that nobody has seen for a week."""
    await db.execute("DELETE FROM provisioner_daemons WHERE last_seen_at < now() - interval '7 days'")


async def list_live_tags(db: AsyncConnection) -> Sequence[Mapping[str, str]]:
    """List the tags of all daemons that are alive."""
    cursor = await db.execute(
        "SELECT DISTINCT tags FROM provisioner_daemons WHERE last_seen_at > now() - %s", (DAEMON_STALE,)
    )
    return [row[0] for row in await cursor.fetchall()]


@dataclass(frozen=True, slots=True)
class Matched:
    """How many daemons may take a job, how many of them are alive, and when the last one was seen."""

    count: int = 0
    available: int = 0
    most_recently_seen: datetime | None = None


async def match(db: AsyncConnection, organization_id: UUID, tags: Mapping[str, str], provisioner: str) -> Matched:
    """Count the daemons that may run a job with these tags."""
    async with db.cursor(row_factory=class_row(Matched)) as cursor:
        await cursor.execute(
            """
            SELECT count(*) AS count, count(*) FILTER (WHERE last_seen_at > now() - %(stale)s) AS available,
                max(last_seen_at) AS most_recently_seen
            FROM provisioner_daemons
            WHERE organization_id = %(organization_id)s AND %(provisioner)s = ANY (provisioners)
                AND CASE WHEN %(tags)s::jsonb = '{"scope": "organization", "owner": ""}'
                    THEN %(tags)s::jsonb = tags ELSE %(tags)s::jsonb <@ tags END""",
            {
                "organization_id": organization_id,
                "provisioner": provisioner,
                "tags": Jsonb(dict(tags)),
                "stale": DAEMON_STALE,
            },
        )
        return await cursor.fetchone() or Matched()


@dataclass(frozen=True, slots=True)
class DaemonJob:
    """The job a daemon has or had."""

    id: UUID
    status: str
    template_name: str
    template_icon: str
    template_display_name: str


@dataclass(frozen=True, slots=True)
class ListedDaemon:
    """A daemon in the list for operators."""

    daemon: Daemon
    key_name: str | None
    live: bool
    current_job: DaemonJob | None
    previous_job: DaemonJob | None


_JOB_OF_DAEMON = """
    SELECT j.id, j.status::text, coalesce(t.name, '') AS template_name, coalesce(t.icon, '') AS template_icon,
        coalesce(t.display_name, '') AS template_display_name, j.completed_at IS NULL AS running
    FROM provisioner_jobs j
    LEFT JOIN workspace_builds b ON b.job_id = j.id
    LEFT JOIN template_versions v ON v.id = coalesce(
        b.template_version_id, (j.input ->> 'template_version_id')::uuid)
    LEFT JOIN templates t ON t.id = v.template_id
    WHERE j.worker_id = %s
    ORDER BY j.completed_at DESC NULLS FIRST LIMIT 2"""


async def list_live(db: AsyncConnection, *, limit: int = 100) -> Sequence[ListedDaemon]:
    """List the daemons that are alive, of all organizations, newest first."""
    async with db.cursor(row_factory=class_row(Daemon)) as cursor:
        await cursor.execute(
            """
            SELECT id, organization_id, key_id, name, version, api_version, provisioners, tags, created_at,
                last_seen_at
            FROM provisioner_daemons
            WHERE last_seen_at > now() - %s
            ORDER BY created_at DESC, id LIMIT %s""",
            (DAEMON_STALE, limit),
        )
        found = await cursor.fetchall()
    return [await _listed(db, daemon) for daemon in found]


async def list_of_organization(
    db: AsyncConnection, organization_id: UUID, *, limit: int, offline: bool
) -> Sequence[ListedDaemon]:
    """List the daemons of an organization, newest first; those not seen lately only with `offline`."""
    async with db.cursor(row_factory=class_row(Daemon)) as cursor:
        await cursor.execute(
            """
            SELECT id, organization_id, key_id, name, version, api_version, provisioners, tags, created_at,
                last_seen_at
            FROM provisioner_daemons
            WHERE organization_id = %s AND (%s OR last_seen_at > now() - %s)
            ORDER BY created_at DESC LIMIT %s""",
            (organization_id, offline, DAEMON_STALE, limit or None),
        )
        daemons = await cursor.fetchall()
    return [await _listed(db, daemon) for daemon in daemons]


async def _listed(db: AsyncConnection, daemon: Daemon) -> ListedDaemon:
    jobs = await (await db.execute(_JOB_OF_DAEMON, (daemon.id,))).fetchall()
    current = next((DaemonJob(*row[:5]) for row in jobs if row[5]), None)
    previous = next((DaemonJob(*row[:5]) for row in jobs if not row[5]), None)
    cursor = await db.execute(
        "SELECT (SELECT name FROM provisioner_keys WHERE id = %s), %s > now() - %s",
        (daemon.key_id, daemon.last_seen_at, DAEMON_STALE),
    )
    row = await cursor.fetchone()
    key_name, live = row if row else (None, False)
    return ListedDaemon(daemon, RESERVED_KEYS.get(daemon.key_id, key_name), bool(live), current, previous)
