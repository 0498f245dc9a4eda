"""Agents in the database, with their apps, scripts and log sources."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import LiteralString
from uuid import UUID

import msgspec
from psycopg import AsyncConnection
from psycopg.rows import class_row, tuple_row

from warren.domain.agent import (
    Agent,
    AgentParts,
    App,
    BuildPoint,
    Lifecycle,
    LogSource,
    Script,
)
from warren.errors import NotFound

_COLUMNS: LiteralString = """
    a.id, a.parent_id, a.resource_id, a.name, a.auth_instance_id, a.architecture, a.operating_system, a.directory,
    a.expanded_directory, a.environment_variables, a.motd_file, a.connection_timeout_seconds,
    a.troubleshooting_url, a.display_apps, a.api_key_scope, a.resources_monitoring, a.version, a.api_version,
    a.subsystems, a.lifecycle, a.started_at, a.ready_at, a.first_connected_at, a.last_connected_at,
    a.disconnected_at, a.logs_length, a.logs_overflowed, a.created_at, a.updated_at"""
_WIDTH = 29

# Each list comes as one JSON text: one statement for any number of agents, and no join that multiplies rows.
_APPS: LiteralString = """(
    SELECT json_agg(json_build_object(
        'id', p.id, 'slug', p.slug, 'display_name', p.display_name, 'icon', p.icon, 'command', p.command,
        'url', p.url, 'external', p.external, 'subdomain', p.subdomain, 'sharing_level', p.sharing_level,
        'healthcheck_url', p.healthcheck_url, 'healthcheck_interval', p.healthcheck_interval,
        'healthcheck_threshold', p.healthcheck_threshold, 'health', p.health, 'display_group', p.display_group,
        'hidden', p.hidden, 'open_in', p.open_in, 'tooltip', p.tooltip,
        'statuses', coalesce((
            SELECT json_agg(json_build_object(
                'id', t.id, 'created_at', t.created_at, 'workspace_id', t.workspace_id, 'agent_id', t.agent_id,
                'app_id', t.app_id, 'state', t.state, 'message', t.message, 'uri', t.uri) ORDER BY t.created_at DESC)
            FROM workspace_app_statuses t WHERE t.app_id = p.id), '[]'::json)
        ) ORDER BY p.display_order, p.slug)
    FROM workspace_apps p WHERE p.agent_id = a.id)::text"""
_SCRIPTS: LiteralString = """(
    SELECT json_agg(json_build_object(
        'id', s.id, 'log_source_id', s.log_source_id, 'display_name', s.display_name, 'log_path', s.log_path,
        'script', s.script, 'cron', s.cron, 'start_blocks_login', s.start_blocks_login,
        'run_on_start', s.run_on_start, 'run_on_stop', s.run_on_stop, 'timeout_seconds', s.timeout_seconds,
        'exit_code', t.exit_code, 'status', t.status) ORDER BY s.created_at, s.id)
    FROM workspace_agent_scripts s
    LEFT JOIN LATERAL (
        SELECT exit_code, status FROM workspace_agent_script_timings
        WHERE script_id = s.id ORDER BY started_at DESC LIMIT 1) t ON true
    WHERE s.agent_id = a.id)::text"""
_SOURCES: LiteralString = """(
    SELECT json_agg(json_build_object(
        'id', l.id, 'created_at', l.created_at, 'display_name', l.display_name, 'icon', l.icon)
        ORDER BY l.created_at, l.id)
    FROM workspace_agent_log_sources l WHERE l.agent_id = a.id)::text"""

_PARTS: LiteralString = (
    "SELECT"
    + _COLUMNS
    + ", "
    + _APPS
    + ", "
    + _SCRIPTS
    + ", "
    + _SOURCES
    + """,
        coalesce(w.name, ''), coalesce(u.username, '')
    FROM workspace_agents a
    JOIN workspace_resources r ON r.id = a.resource_id
    LEFT JOIN workspace_builds b ON b.job_id = r.job_id
    LEFT JOIN workspaces w ON w.id = b.workspace_id
    LEFT JOIN users u ON u.id = w.owner_id"""
)

_decode_apps = msgspec.json.Decoder(list[App]).decode
_decode_scripts = msgspec.json.Decoder(list[Script]).decode
_decode_sources = msgspec.json.Decoder(list[LogSource]).decode


@dataclass(frozen=True, slots=True)
class AgentIdentity:
    """Who an agent token belongs to, and the latest build of its workspace."""

    agent_id: UUID
    agent_name: str
    resource_id: UUID
    api_key_scope: str
    workspace_id: UUID
    workspace_name: str
    organization_id: UUID
    template_id: UUID
    owner_id: UUID
    owner_name: str
    build_id: UUID
    build: BuildPoint
    latest_build: BuildPoint


@dataclass(frozen=True, slots=True)
class Home:
    """Which workspace an agent belongs to, and whether its build is the latest."""

    agent_id: UUID
    workspace_id: UUID
    latest: bool


async def list_of_resources(db: AsyncConnection, resource_ids: Sequence[UUID]) -> Mapping[UUID, Sequence[AgentParts]]:
    """List the agents of resources in one statement; parents before their sub-agents."""
    found: dict[UUID, list[AgentParts]] = {resource_id: [] for resource_id in resource_ids}
    condition: LiteralString = (
        " WHERE a.resource_id = ANY (%s) AND NOT a.deleted ORDER BY a.parent_id IS NOT NULL, a.display_order, a.name"
    )
    for parts in await _list(db, condition, (list(resource_ids),)):
        found[parts.agent.resource_id].append(parts)
    return found


async def get_parts(db: AsyncConnection, agent_id: UUID) -> AgentParts:
    """Read an agent with what belongs to it."""
    found = await _list(db, " WHERE a.id = %s", (agent_id,))
    if not found:
        raise NotFound
    return found[0]


async def _list(db: AsyncConnection, condition: LiteralString, values: Sequence[object]) -> list[AgentParts]:
    query: LiteralString = _PARTS + condition
    async with db.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute(query, values)
        return [_parts(row) for row in await cursor.fetchall()]


def _parts(row: Sequence[object]) -> AgentParts:
    apps, scripts, sources, workspace_name, owner_name = row[_WIDTH:]
    return AgentParts(
        _agent(row[:_WIDTH]),
        _decode_apps(apps) if isinstance(apps, str) else (),
        _decode_scripts(scripts) if isinstance(scripts, str) else (),
        _decode_sources(sources) if isinstance(sources, str) else (),
        str(workspace_name),
        str(owner_name),
    )


def _agent(row: Sequence[object]) -> Agent:
    agent = Agent(*row)  # pyright: ignore[reportArgumentType]
    object.__setattr__(agent, "lifecycle", Lifecycle(agent.lifecycle))
    return agent


async def get(db: AsyncConnection, agent_id: UUID) -> Agent:
    """Read an agent."""
    return await _one(db, " WHERE a.id = %s", agent_id)


async def lock(db: AsyncConnection, agent_id: UUID) -> Agent:
    """Read an agent and keep others from changing it until the transaction ends."""
    return await _one(db, " WHERE a.id = %s FOR UPDATE", agent_id)


async def _one(db: AsyncConnection, condition: LiteralString, agent_id: UUID) -> Agent:
    query: LiteralString = "SELECT" + _COLUMNS + " FROM workspace_agents a" + condition
    async with db.cursor(row_factory=tuple_row) as cursor:
        row = await (await cursor.execute(query, (agent_id,))).fetchone()
    if row is None:
        raise NotFound
    return _agent(row)


_IDENTITY: LiteralString = """
    SELECT a.id, a.name, a.resource_id, a.api_key_scope, w.id, w.name, w.organization_id, w.template_id,
        w.owner_id, u.username, b.id,
        b.build_number, b.transition::text, j.status::text,
        latest.build_number, latest.transition, latest.status
    FROM workspace_agents a
    JOIN workspace_resources r ON r.id = a.resource_id
    JOIN workspace_builds b ON b.job_id = r.job_id
    JOIN provisioner_jobs j ON j.id = b.job_id
    JOIN workspaces w ON w.id = b.workspace_id
    JOIN users u ON u.id = w.owner_id
    CROSS JOIN LATERAL (
        SELECT lb.build_number, lb.transition::text, lj.status::text
        FROM workspace_builds lb JOIN provisioner_jobs lj ON lj.id = lb.job_id
        WHERE lb.workspace_id = w.id ORDER BY lb.build_number DESC LIMIT 1) latest
    WHERE NOT a.deleted AND NOT w.deleted"""


async def find_identity(db: AsyncConnection, auth_token: UUID) -> AgentIdentity | None:
    """Read whom a token belongs to; nobody once the agent or the workspace is deleted."""
    return await _identity(db, " AND a.auth_token = %s", auth_token)


async def find_identity_of_agent(db: AsyncConnection, agent_id: UUID) -> AgentIdentity | None:
    """Read the identity of an agent; none once it or the workspace is deleted."""
    return await _identity(db, " AND a.id = %s", agent_id)


async def _identity(db: AsyncConnection, condition: LiteralString, value: UUID) -> AgentIdentity | None:
    query: LiteralString = _IDENTITY + condition + " ORDER BY b.build_number DESC LIMIT 1"
    async with db.cursor(row_factory=tuple_row) as cursor:
        row = await (await cursor.execute(query, (value,))).fetchone()
    if row is None:
        return None
    return AgentIdentity(*row[:11], build=BuildPoint(*row[11:14]), latest_build=BuildPoint(*row[14:17]))


async def find_home(db: AsyncConnection, agent_id: UUID) -> Home | None:
    """Read which workspace an agent belongs to; one of a template version's plan belongs to none."""
    async with db.cursor(row_factory=class_row(Home)) as cursor:
        await cursor.execute(
            """
            SELECT a.id AS agent_id, b.workspace_id, b.build_number = (
                SELECT max(build_number) FROM workspace_builds WHERE workspace_id = b.workspace_id) AS latest
            FROM workspace_agents a
            JOIN workspace_resources r ON r.id = a.resource_id
            JOIN workspace_builds b ON b.job_id = r.job_id
            WHERE a.id = %s""",
            (agent_id,),
        )
        return await cursor.fetchone()


async def set_connection(
    db: AsyncConnection,
    agent_id: UUID,
    *,
    connected_at: datetime,
    disconnected_at: datetime | None = None,
    replica_id: UUID | None = None,
) -> None:
    """Store that an agent is there, or that its connection ended."""
    await db.execute(
        """
        UPDATE workspace_agents
        SET first_connected_at = coalesce(first_connected_at, %(connected_at)s),
            last_connected_at = %(connected_at)s,
            disconnected_at = coalesce(%(disconnected_at)s, disconnected_at),
            connected_replica_id = coalesce(%(replica_id)s, connected_replica_id)
        WHERE id = %(id)s""",
        {
            "id": agent_id,
            "connected_at": connected_at,
            "disconnected_at": disconnected_at,
            "replica_id": replica_id,
        },
    )


async def set_disconnected(db: AsyncConnection, agent_id: UUID, disconnected_at: datetime) -> None:
    """Store that an agent's connection ended."""
    await db.execute("UPDATE workspace_agents SET disconnected_at = %s WHERE id = %s", (disconnected_at, agent_id))


async def set_lifecycle(
    db: AsyncConnection,
    agent_id: UUID,
    lifecycle: Lifecycle,
    *,
    started_at: datetime | None,
    ready_at: datetime | None,
) -> None:
    """Store what an agent says that it is doing."""
    await db.execute(
        "UPDATE workspace_agents SET lifecycle = %s, started_at = %s, ready_at = %s WHERE id = %s",
        (lifecycle, started_at, ready_at, agent_id),
    )


async def set_startup(
    db: AsyncConnection,
    agent_id: UUID,
    *,
    version: str,
    api_version: str,
    expanded_directory: str,
    subsystems: Sequence[str],
) -> None:
    """Store what an agent says of itself when it starts."""
    await db.execute(
        """
        UPDATE workspace_agents SET version = %s, api_version = %s, expanded_directory = %s, subsystems = %s
        WHERE id = %s""",
        (version, api_version, expanded_directory, list(subsystems), agent_id),
    )


async def list_apps(db: AsyncConnection, agent_id: UUID) -> Mapping[UUID, tuple[str, str, str]]:
    """List the apps of an agent: slug, health-check URL and health, by id."""
    cursor = await db.execute(
        "SELECT id, slug, healthcheck_url, health::text FROM workspace_apps WHERE agent_id = %s", (agent_id,)
    )
    return {row[0]: (row[1], row[2], row[3]) for row in await cursor.fetchall()}


async def set_app_health(db: AsyncConnection, app_id: UUID, health: str) -> None:
    """Store how healthy an app is."""
    await db.execute("UPDATE workspace_apps SET health = %s WHERE id = %s", (health, app_id))


async def insert_app_status(
    db: AsyncConnection,
    *,
    status_id: UUID,
    app_id: UUID,
    agent_id: UUID,
    workspace_id: UUID,
    state: str,
    message: str,
    uri: str,
    now: datetime,
) -> None:
    """Store what an app says that it is doing."""
    await db.execute(
        """
        INSERT INTO workspace_app_statuses (id, app_id, agent_id, workspace_id, state, message, uri, created_at)
        VALUES (%s, %s, %s, %s, %s, %s, %s, %s)""",
        (status_id, app_id, agent_id, workspace_id, state, message, uri, now),
    )


async def insert_script_timing(
    db: AsyncConnection,
    agent_id: UUID,
    script_id: UUID,
    *,
    stage: str,
    status: str,
    exit_code: int,
    started_at: datetime,
    ended_at: datetime,
) -> None:
    """Store a run of a script.

    Raises:
        NotFound: the agent has no such script.
    """
    cursor = await db.execute(
        """
        INSERT INTO workspace_agent_script_timings (script_id, stage, status, exit_code, started_at, ended_at)
        SELECT id, %s, %s, %s, %s, %s FROM workspace_agent_scripts WHERE id = %s AND agent_id = %s""",
        (stage, status, exit_code, started_at, ended_at, script_id, agent_id),
    )
    if not cursor.rowcount:
        raise NotFound(f"the agent has no script {script_id}")


async def find_ssh_key(db: AsyncConnection, owner_id: UUID) -> tuple[str, str] | None:
    """Read the public and the private key that a user's workspaces use for git."""
    cursor = await db.execute("SELECT public_key, private_key FROM git_ssh_keys WHERE user_id = %s", (owner_id,))
    row = await cursor.fetchone()
    return None if row is None else (row[0], row[1])
