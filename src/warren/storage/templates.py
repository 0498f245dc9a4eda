"""Templates in the database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from typing import LiteralString
from uuid import UUID

from psycopg import AsyncConnection, sql
from psycopg.rows import tuple_row
from psycopg.types.json import Jsonb

from warren.domain.search import TemplateFilter
from warren.domain.template import Percentiles, Template, TemplateSettings, TemplateStats
from warren.errors import NotFound

_SETTINGS = [field.name for field in fields(TemplateSettings)]
_SETTING_COLUMNS = sql.SQL(", ").join(sql.Identifier("t", name) for name in _SETTINGS)

_SELECT = sql.SQL("""
    SELECT t.id, t.organization_id, t.provisioner, t.active_version_id, t.created_by, t.created_at, t.updated_at,
        t.deleted, t.user_acl, t.group_acl, o.name, o.display_name, o.icon, u.username, {}
    FROM templates t JOIN organizations o ON o.id = t.organization_id JOIN users u ON u.id = t.created_by
    """).format(_SETTING_COLUMNS)


def _from_row(row: Sequence[object]) -> Template:
    # The columns stand in the order of the fields.
    return Template(*row[:14], settings=TemplateSettings(*row[14:]))  # pyright: ignore[reportArgumentType]


async def find(db: AsyncConnection, template_id: UUID) -> Template | None:
    """Read a template; a deleted one too."""
    return await _first(db, "WHERE t.id = %s", (template_id,))


async def get(db: AsyncConnection, template_id: UUID) -> Template:
    """Read a template; a deleted one too."""
    template = await find(db, template_id)
    if template is None:
        raise NotFound
    return template


async def lock(db: AsyncConnection, template_id: UUID) -> Template:
    """Read a template and keep others from changing it until the transaction ends."""
    template = await _first(db, "WHERE t.id = %s AND NOT t.deleted FOR UPDATE OF t", (template_id,))
    if template is None:
        raise NotFound
    return template


async def hold(db: AsyncConnection, template_id: UUID) -> Template | None:
    """Read a template and keep others from changing or deleting it until the transaction ends."""
    return await _first(db, "WHERE t.id = %s FOR SHARE OF t", (template_id,))


async def find_by_name(db: AsyncConnection, organization_id: UUID, name: str) -> Template | None:
    """Read the template of an organization that has this name."""
    return await _first(
        db, "WHERE t.organization_id = %s AND lower(t.name) = lower(%s) AND NOT t.deleted", (organization_id, name)
    )


async def _first(db: AsyncConnection, condition: LiteralString, values: Sequence[object]) -> Template | None:
    async with db.cursor(row_factory=tuple_row) as cursor:
        row = await (await cursor.execute(_SELECT + sql.SQL(condition), values)).fetchone()
    return None if row is None else _from_row(row)


async def list_readable(
    db: AsyncConnection,
    readable: sql.Composable,
    wanted: TemplateFilter,
    *,
    organization_id: UUID | None,
    caller_id: UUID,
) -> Sequence[Template]:
    """List templates that match, the most used first, then by name; `readable` says which rows may be seen."""
    condition = sql.SQL("""
        WHERE t.deleted = %(deleted)s AND {readable}
            AND (%(organization_id)s::uuid IS NULL OR t.organization_id = %(organization_id)s)
            AND (%(organization)s = '' OR lower(o.name) = %(organization)s OR o.id::text = %(organization)s)
            AND (%(exact_name)s = '' OR lower(t.name) = %(exact_name)s)
            AND (%(exact_display_name)s = '' OR lower(t.display_name) = %(exact_display_name)s)
            AND (%(name)s = '' OR position(%(name)s IN lower(t.name)) > 0)
            AND (%(display_name)s = '' OR position(
                %(display_name)s IN lower(CASE t.display_name WHEN '' THEN t.name ELSE t.display_name END)) > 0)
            AND (cardinality(%(ids)s::uuid[]) = 0 OR t.id = ANY (%(ids)s))
            AND (%(deprecated)s::boolean IS NULL OR (t.deprecation_message <> '') = %(deprecated)s)
            AND (%(author_id)s::uuid IS NULL OR t.created_by = %(author_id)s)
            AND (%(author)s = '' OR lower(u.username) = %(author)s)
            AND (%(has_ai_task)s::boolean IS NULL OR %(has_ai_task)s = (
                SELECT v.has_ai_task FROM template_versions v WHERE v.id = t.active_version_id))
            AND (%(has_external_agent)s::boolean IS NULL OR %(has_external_agent)s = (
                SELECT v.has_external_agent FROM template_versions v WHERE v.id = t.active_version_id))
        ORDER BY (
            SELECT count(DISTINCT w.owner_id) FROM workspaces w WHERE w.template_id = t.id AND NOT w.deleted) DESC,
            lower(t.name)""").format(readable=readable)
    values = {
        "deleted": wanted.deleted,
        "organization_id": organization_id,
        "organization": wanted.organization,
        "exact_name": wanted.exact_name,
        "exact_display_name": wanted.exact_display_name,
        "name": wanted.name,
        "display_name": wanted.display_name,
        "ids": list(wanted.ids),
        "deprecated": wanted.deprecated,
        "author": "" if wanted.author == "me" else wanted.author,
        "author_id": caller_id if wanted.author == "me" else wanted.author_id,
        "has_ai_task": wanted.has_ai_task,
        "has_external_agent": wanted.has_external_agent,
    }
    async with db.cursor(row_factory=tuple_row) as cursor:
        rows = await (await cursor.execute(_SELECT + condition, values)).fetchall()
    return [_from_row(row) for row in rows]


async def insert(
    db: AsyncConnection,
    *,
    template_id: UUID,
    organization_id: UUID,
    active_version_id: UUID,
    created_by: UUID,
    settings: TemplateSettings,
    group_acl: Mapping[str, Sequence[str]],
    now: datetime,
) -> None:
    """Store a new template."""
    query = sql.SQL("""
        INSERT INTO templates (
            id, organization_id, active_version_id, created_by, group_acl, created_at, updated_at, {})
        VALUES (%s, %s, %s, %s, %s, %s, %s, {})""").format(
        sql.SQL(", ").join(sql.Identifier(name) for name in _SETTINGS),
        sql.SQL(", ").join(sql.Placeholder() for _ in _SETTINGS),
    )
    values = [getattr(settings, name) for name in _SETTINGS]
    await db.execute(
        query,
        (template_id, organization_id, active_version_id, created_by, Jsonb(dict(group_acl)), now, now, *values),
    )


async def update(
    db: AsyncConnection, template_id: UUID, settings: TemplateSettings, group_acl: Mapping[str, Sequence[str]],
    now: datetime,
) -> None:  # fmt: skip
    """Store changed settings."""
    query = sql.SQL("UPDATE templates SET updated_at = %s, group_acl = %s, {} WHERE id = %s").format(
        sql.SQL(", ").join(sql.SQL("{} = %s").format(sql.Identifier(name)) for name in _SETTINGS)
    )
    values = [getattr(settings, name) for name in _SETTINGS]
    await db.execute(query, (now, Jsonb(dict(group_acl)), *values, template_id))


async def set_active_version(db: AsyncConnection, template_id: UUID, version_id: UUID, now: datetime) -> None:
    """Make a version the one that new workspaces take."""
    await db.execute(
        "UPDATE templates SET active_version_id = %s, updated_at = %s WHERE id = %s", (version_id, now, template_id)
    )


async def mark_deleted(db: AsyncConnection, template_id: UUID, now: datetime) -> None:
    """Delete a template; its row stays for the workspaces that once used it."""
    await db.execute("UPDATE templates SET deleted = true, updated_at = %s WHERE id = %s", (now, template_id))


async def has_workspaces(db: AsyncConnection, template_id: UUID) -> bool:
    """Say whether a workspace still uses a template."""
    cursor = await db.execute(
        "SELECT EXISTS (SELECT FROM workspaces WHERE template_id = %s AND NOT deleted)", (template_id,)
    )
    row = await cursor.fetchone()
    return bool(row and row[0])


async def stats(db: AsyncConnection, template_ids: Sequence[UUID]) -> Mapping[UUID, TemplateStats]:
    """Tell how templates are used: who was active in the last day, and how long the last hundred builds took."""
    cursor = await db.execute(
        """
        SELECT template_id, count(DISTINCT user_id) FROM workspace_agent_stats
        WHERE template_id = ANY (%s) AND created_at > now() - interval '24 hours' AND connection_count > 0
        GROUP BY template_id""",
        (list(template_ids),),
    )
    active: dict[UUID, int] = dict(await cursor.fetchall())
    times: dict[UUID, dict[str, Percentiles]] = {}
    cursor = await db.execute(
        """
        SELECT t.id, r.transition::text,
            percentile_disc(0.5) WITHIN GROUP (ORDER BY r.ms), percentile_disc(0.95) WITHIN GROUP (ORDER BY r.ms)
        FROM unnest(%s::uuid[]) AS t (id)
        CROSS JOIN LATERAL (
            SELECT b.transition, (extract(epoch FROM j.completed_at - j.started_at) * 1000)::bigint AS ms
            FROM template_versions v
            JOIN workspace_builds b ON b.template_version_id = v.id
            JOIN provisioner_jobs j ON j.id = b.job_id
            WHERE v.template_id = t.id AND j.status = 'succeeded'
            ORDER BY b.created_at DESC LIMIT 100) r
        GROUP BY t.id, r.transition""",
        (list(template_ids),),
    )
    for template_id, transition, p50, p95 in await cursor.fetchall():
        times.setdefault(template_id, {})[transition] = Percentiles(p50, p95)
    none = Percentiles(None, None)
    return {
        template_id: TemplateStats(
            active.get(template_id, 0),
            {name: times.get(template_id, {}).get(name, none) for name in ("delete", "start", "stop")},
        )
        for template_id in template_ids
    }
