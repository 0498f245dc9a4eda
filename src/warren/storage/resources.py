"""The resources of builds in the database, with the agents that were made with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID, uuid4

from psycopg import AsyncConnection
from psycopg.types.json import Jsonb

from warren.domain import resource as rules
from warren.domain.build import Transition
from warren.domain.resource import (
    Agent,
    App,
    MetadataItem,
    Module,
    ReportedResource,
    Resource,
    ResourceMetadata,
    Script,
)
from warren.errors import Invalid


async def list_of_jobs(db: AsyncConnection, job_ids: Sequence[UUID]) -> Mapping[UUID, Sequence[Resource]]:
    """List the resources of jobs: those with agents first, in the order of these, then by name."""
    cursor = await db.execute(
        """
        SELECT r.id, r.job_id, r.created_at, r.transition::text, r.type, r.name, r.hide, r.icon, r.daily_cost,
            r.metadata
        FROM workspace_resources r WHERE r.job_id = ANY (%s)
        ORDER BY (
            SELECT min(a.display_order) FROM workspace_agents a WHERE a.resource_id = r.id
        ) NULLS LAST, r.name, r.transition""",
        (list(job_ids),),
    )
    result: dict[UUID, list[Resource]] = {job_id: [] for job_id in job_ids}
    for row in await cursor.fetchall():
        metadata = [ResourceMetadata(*item) for item in row[9]]
        result[row[1]].append(Resource(row[0], row[1], row[2], Transition(row[3]), *row[4:9], metadata=metadata))
    return result


async def insert(
    db: AsyncConnection,
    job_id: UUID,
    transition: Transition,
    resource: ReportedResource,
    now: datetime,
    *,
    workspace_id: UUID | None,
) -> Sequence[UUID]:
    """Store a resource with its agents; return their ids. Apps keep the ids that a workspace's Terraform gave them.

    Raises:
        Invalid: what the provisioner reported cannot be stored as it is.
    """
    rules.check(resource)
    resource_id = uuid4()
    await db.execute(
        """
        INSERT INTO workspace_resources (
            id, job_id, transition, type, name, hide, icon, instance_type, module_path, daily_cost, metadata,
            created_at)
        VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)""",
        (
            resource_id,
            job_id,
            transition,
            resource.type,
            resource.name,
            resource.hide,
            resource.icon,
            resource.instance_type,
            resource.module_path,
            resource.daily_cost,
            Jsonb([[item.key, item.value, item.sensitive] for item in resource.metadata]),
            now,
        ),
    )
    return [await _insert_agent(db, resource_id, agent, now, workspace_id) for agent in resource.agents]


async def _insert_agent(
    db: AsyncConnection, resource_id: UUID, agent: Agent, now: datetime, workspace_id: UUID | None
) -> UUID:
    agent_id = uuid4()
    token = uuid4()
    if workspace_id is not None:
        # A plan knows no token, and repeats the tokens of earlier builds: only a build's own agents answer to them.
        token = _token(agent.token)
        await _retire_token(db, token, workspace_id)
    await db.execute(
        """
        INSERT INTO workspace_agents (
            id, resource_id, name, auth_token, auth_instance_id, architecture, operating_system, directory,
            environment_variables, motd_file, connection_timeout_seconds, troubleshooting_url, display_apps,
            display_order, api_key_scope, resources_monitoring, created_at, updated_at)
        VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)""",
        (
            agent_id,
            resource_id,
            agent.name,
            token,
            agent.instance_id or None,
            agent.architecture,
            agent.operating_system,
            agent.directory,
            Jsonb(rules.environment(agent)),
            agent.motd_file,
            agent.connection_timeout_seconds,
            agent.troubleshooting_url,
            list(agent.display_apps),
            agent.display_order,
            agent.api_key_scope or "all",
            None if agent.resources_monitoring is None else Jsonb(dict(agent.resources_monitoring)),
            now,
            now,
        ),
    )
    await _insert_scripts(db, agent_id, agent.scripts, now)
    await _insert_metadata(db, agent_id, agent.metadata)
    for app in agent.apps:
        await _insert_app(db, agent_id, app, now, workspace_id)
    return agent_id


async def _retire_token(db: AsyncConnection, token: UUID, workspace_id: UUID) -> None:
    """Take a token from an older agent of a workspace: a resource that was kept may have kept its token too."""
    await db.execute(
        """
        UPDATE workspace_agents a SET auth_token = gen_random_uuid()
        FROM workspace_resources r JOIN workspace_builds b ON b.job_id = r.job_id
        WHERE a.auth_token = %s AND r.id = a.resource_id AND b.workspace_id = %s""",
        (token, workspace_id),
    )


def _token(text: str) -> UUID:
    if not text:
        return uuid4()
    try:
        return UUID(text)
    except ValueError as error:
        raise Invalid(f"invalid auth token format; must be uuid: {error}") from error


async def _insert_scripts(db: AsyncConnection, agent_id: UUID, scripts: Sequence[Script], now: datetime) -> None:
    sources = [uuid4() for _ in scripts]
    async with db.cursor() as cursor:
        await cursor.executemany(
            """
            INSERT INTO workspace_agent_log_sources (agent_id, id, display_name, icon, created_at)
            VALUES (%s, %s, %s, %s, %s)""",
            [
                (agent_id, source, script.display_name, script.icon, now)
                for source, script in zip(sources, scripts, strict=True)
            ],
        )
        await cursor.executemany(
            """
            INSERT INTO workspace_agent_scripts (
                id, agent_id, log_source_id, display_name, log_path, script, cron, start_blocks_login, run_on_start,
                run_on_stop, timeout_seconds, created_at)
            VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)""",
            [
                (
                    uuid4(),
                    agent_id,
                    source,
                    script.display_name,
                    script.log_path,
                    script.script,
                    script.cron,
                    script.start_blocks_login,
                    script.run_on_start,
                    script.run_on_stop,
                    script.timeout_seconds,
                    now,
                )
                for source, script in zip(sources, scripts, strict=True)
            ],
        )


async def _insert_metadata(db: AsyncConnection, agent_id: UUID, items: Sequence[MetadataItem]) -> None:
    async with db.cursor() as cursor:
        await cursor.executemany(
            """
            INSERT INTO workspace_agent_metadata (
                agent_id, key, display_name, script, interval_seconds, timeout_seconds, display_order)
            VALUES (%s, %s, %s, %s, %s, %s, %s)""",
            [
                (
                    agent_id,
                    item.key,
                    item.display_name,
                    item.script,
                    item.interval_seconds,
                    item.timeout_seconds,
                    item.display_order,
                )
                for item in items
            ],
        )


async def _insert_app(db: AsyncConnection, agent_id: UUID, app: App, now: datetime, workspace_id: UUID | None) -> None:
    app_id = app.id if workspace_id else uuid4()
    if workspace_id is not None:
        await _check_app_owner(db, app, workspace_id)
    await db.execute(
        """
        INSERT INTO workspace_apps (
            id, agent_id, slug, display_name, icon, command, url, external, subdomain, sharing_level,
            healthcheck_url, healthcheck_interval, healthcheck_threshold, health, display_order, display_group,
            hidden, open_in, tooltip, created_at)
        VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
        ON CONFLICT (id) DO UPDATE
        SET agent_id = excluded.agent_id, slug = excluded.slug, display_name = excluded.display_name,
            icon = excluded.icon, command = excluded.command, url = excluded.url, external = excluded.external,
            subdomain = excluded.subdomain, sharing_level = excluded.sharing_level,
            healthcheck_url = excluded.healthcheck_url, healthcheck_interval = excluded.healthcheck_interval,
            healthcheck_threshold = excluded.healthcheck_threshold, health = excluded.health,
            display_order = excluded.display_order, display_group = excluded.display_group,
            hidden = excluded.hidden, open_in = excluded.open_in, tooltip = excluded.tooltip""",
        (
            app_id,
            agent_id,
            app.slug,
            app.display_name,
            app.icon,
            app.command,
            app.url,
            app.external,
            app.subdomain,
            app.sharing_level,
            app.healthcheck_url,
            app.healthcheck_interval,
            app.healthcheck_threshold,
            app.health,
            app.display_order,
            app.display_group,
            app.hidden,
            app.open_in,
            app.tooltip,
            now,
        ),
    )


async def _check_app_owner(db: AsyncConnection, app: App, workspace_id: UUID) -> None:
    cursor = await db.execute(
        """
        SELECT b.workspace_id FROM workspace_apps p
        JOIN workspace_agents a ON a.id = p.agent_id
        JOIN workspace_resources r ON r.id = a.resource_id
        JOIN workspace_builds b ON b.job_id = r.job_id
        WHERE p.id = %s""",
        (app.id,),
    )
    row = await cursor.fetchone()
    if row is not None and row[0] != workspace_id:
        raise Invalid(f"app id {app.id} (slug {app.slug!r}) is already in use by another workspace")


async def insert_modules(db: AsyncConnection, job_id: UUID, transition: Transition, modules: Sequence[Module]) -> None:
    """Store which Terraform modules a job used."""
    async with db.cursor() as cursor:
        await cursor.executemany(
            "INSERT INTO workspace_modules (job_id, transition, source, version, key) VALUES (%s, %s, %s, %s, %s)",
            [(job_id, transition, module.source, module.version, module.key) for module in modules],
        )


async def delete_old_agents(db: AsyncConnection, workspace_id: UUID, *, except_job: UUID | None) -> None:
    """Mark the agents of a workspace's builds deleted, but for those of one job."""
    await db.execute(
        """
        UPDATE workspace_agents a SET deleted = true
        FROM workspace_resources r JOIN workspace_builds b ON b.job_id = r.job_id
        WHERE a.resource_id = r.id AND b.workspace_id = %s AND b.job_id IS DISTINCT FROM %s AND NOT a.deleted""",
        (workspace_id, except_job),
    )
