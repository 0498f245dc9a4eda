"""Agents that agents made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID, uuid4

from psycopg import AsyncConnection
from psycopg.rows import class_row

from warren.domain.sub_agent import NewApp, NewSubAgent


@dataclass(frozen=True, slots=True)
class SubAgent:
    """A sub-agent, with the token by which it connects."""

    id: UUID
    name: str
    auth_token: UUID


async def list_of_parent(db: AsyncConnection, parent_id: UUID) -> Sequence[SubAgent]:
    """List the sub-agents of an agent."""
    async with db.cursor(row_factory=class_row(SubAgent)) as cursor:
        await cursor.execute(
            """
            SELECT id, name, auth_token FROM workspace_agents WHERE parent_id = %s AND NOT deleted
            ORDER BY created_at, id""",
            (parent_id,),
        )
        return await cursor.fetchall()


async def insert(db: AsyncConnection, parent_id: UUID, new: NewSubAgent, now: datetime) -> SubAgent:
    """Store a new sub-agent; what it does not say it has from its parent."""
    async with db.cursor(row_factory=class_row(SubAgent)) as cursor:
        await cursor.execute(
            """
            INSERT INTO workspace_agents (
                id, parent_id, resource_id, name, auth_token, architecture, operating_system, directory, display_apps,
                connection_timeout_seconds, troubleshooting_url, api_key_scope, created_at, updated_at)
            SELECT %(id)s, id, resource_id, %(name)s, %(token)s, %(architecture)s, %(operating_system)s,
                %(directory)s, %(display_apps)s, connection_timeout_seconds, troubleshooting_url, api_key_scope,
                %(now)s, %(now)s
            FROM workspace_agents WHERE id = %(parent_id)s
            RETURNING id, name, auth_token""",
            {
                "id": uuid4(),
                "parent_id": parent_id,
                "name": new.name,
                "token": uuid4(),
                "architecture": new.architecture,
                "operating_system": new.operating_system,
                "directory": new.directory,
                "display_apps": list(new.display_apps),
                "now": now,
            },
        )
        found = await cursor.fetchone()
    assert found is not None, "the parent is connected, so its row is there"
    return found


async def update(
    db: AsyncConnection, sub_agent_id: UUID, *, directory: str, display_apps: Sequence[str], now: datetime
) -> None:
    """Store what a container says of a sub-agent that the template made; an empty directory changes nothing."""
    await db.execute(
        """
        UPDATE workspace_agents
        SET directory = coalesce(nullif(%s, ''), directory), display_apps = %s, updated_at = %s WHERE id = %s""",
        (directory, list(display_apps), now, sub_agent_id),
    )


async def delete(db: AsyncConnection, parent_id: UUID, sub_agent_id: UUID) -> bool:
    """Mark a sub-agent deleted; False when its parent has no such one."""
    cursor = await db.execute(
        "UPDATE workspace_agents SET deleted = true WHERE id = %s AND parent_id = %s AND NOT deleted",
        (sub_agent_id, parent_id),
    )
    return bool(cursor.rowcount)


async def most_sharing(db: AsyncConnection, template_id: UUID) -> str:
    """Tell how widely a template lets its workspaces share."""
    cursor = await db.execute("SELECT max_port_share_level::text FROM templates WHERE id = %s", (template_id,))
    row = await cursor.fetchone()
    return "owner" if row is None else row[0]


async def insert_app(
    db: AsyncConnection, agent_id: UUID, app: NewApp, *, slug: str, sharing_level: str, now: datetime
) -> None:
    """Store an app of a sub-agent."""
    await db.execute(
        """
        INSERT INTO workspace_apps (
            id, agent_id, slug, display_name, icon, command, url, external, subdomain, sharing_level,
            healthcheck_url, healthcheck_interval, healthcheck_threshold, health, display_order, display_group,
            hidden, open_in, created_at)
        VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)""",
        (
            uuid4(),
            agent_id,
            slug,
            app.display_name,
            app.icon,
            app.command,
            app.url,
            app.external,
            app.subdomain,
            sharing_level,
            app.healthcheck_url,
            app.healthcheck_interval,
            app.healthcheck_threshold,
            "initializing" if app.healthcheck_url else "disabled",
            app.order,
            app.group,
            app.hidden,
            app.open_in,
            now,
        ),
    )
