"""Workspaces in the database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import LiteralString
from uuid import UUID

from psycopg import AsyncConnection, sql
from psycopg.rows import tuple_row

from warren.domain.search import WorkspaceFilter
from warren.domain.workspace import TemplateNames, Workspace, WorkspaceView
from warren.errors import NotFound
from warren.storage import builds

_COLUMNS: LiteralString = """
    w.id, w.owner_id, w.organization_id, w.template_id, w.name, w.autostart_schedule, w.ttl_ms,
    w.automatic_updates::text, w.last_used_at, w.dormant_at, w.deleting_at, w.next_start_at, w.user_acl, w.group_acl,
    w.created_at, w.updated_at, w.deleted"""
_WIDTH = 17

_LATEST_BUILD: LiteralString = """
    FROM workspaces w
    CROSS JOIN LATERAL (
        SELECT *, xmin AS stamp FROM workspace_builds WHERE workspace_id = w.id ORDER BY build_number DESC LIMIT 1) b"""

_FAVORITE: LiteralString = """(w.owner_id = %(caller_id)s AND EXISTS (
    SELECT FROM workspace_favorites f WHERE f.workspace_id = w.id AND f.user_id = %(caller_id)s))"""

_STATUS: LiteralString = """
    CASE j.status
        WHEN 'running' THEN CASE b.transition
            WHEN 'start' THEN 'starting' WHEN 'stop' THEN 'stopping' ELSE 'deleting' END
        WHEN 'succeeded' THEN CASE b.transition
            WHEN 'start' THEN 'running' WHEN 'stop' THEN 'stopped' ELSE 'deleted' END
        ELSE j.status::text
    END"""


async def insert(db: AsyncConnection, workspace: Workspace) -> None:
    """Store a new workspace."""
    await db.execute(
        """
        INSERT INTO workspaces (
            id, owner_id, organization_id, template_id, name, autostart_schedule, ttl_ms, automatic_updates,
            last_used_at, next_start_at, created_at, updated_at)
        VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)""",
        (
            workspace.id,
            workspace.owner_id,
            workspace.organization_id,
            workspace.template_id,
            workspace.name,
            workspace.autostart_schedule,
            workspace.ttl_ms,
            workspace.automatic_updates,
            workspace.last_used_at,
            workspace.next_start_at,
            workspace.created_at,
            workspace.updated_at,
        ),
    )


async def find(db: AsyncConnection, workspace_id: UUID) -> Workspace | None:
    """Read a workspace; a deleted one too."""
    return await _first(db, "WHERE w.id = %s", (workspace_id,))


async def get(db: AsyncConnection, workspace_id: UUID) -> Workspace:
    """Read a workspace; a deleted one too."""
    workspace = await find(db, workspace_id)
    if workspace is None:
        raise NotFound
    return workspace


async def lock(db: AsyncConnection, workspace_id: UUID) -> Workspace:
    """Read a workspace and keep others from changing it until the transaction ends."""
    workspace = await _first(db, "WHERE w.id = %s FOR UPDATE", (workspace_id,))
    if workspace is None:
        raise NotFound
    return workspace


async def find_by_name(
    db: AsyncConnection, owner_id: UUID, name: str, *, include_deleted: bool = False
) -> Workspace | None:
    """Read the workspace of an owner that has this name; the newest deleted one only when no other has it."""
    return await _first(
        db,
        """
        WHERE w.owner_id = %s AND lower(w.name) = lower(%s) AND (%s OR NOT w.deleted)
        ORDER BY w.deleted, w.created_at DESC LIMIT 1""",
        (owner_id, name, include_deleted),
    )


async def _first(db: AsyncConnection, condition: LiteralString, values: Sequence[object]) -> Workspace | None:
    query: LiteralString = "SELECT" + _COLUMNS + " FROM workspaces w " + condition
    async with db.cursor(row_factory=tuple_row) as cursor:
        row = await (await cursor.execute(query, values)).fetchone()
    return None if row is None else Workspace(*row)


_VIEW = sql.SQL("""
    SELECT {workspace}, ow.username, ow.avatar_url, o.name,
        t.name, t.display_name, t.icon, t.active_version_id, t.allow_user_cancel_workspace_jobs,
        t.require_active_version, t.use_classic_parameter_flow,
        {favorite}, {build}
    {latest} {joins}
    JOIN organizations o ON o.id = w.organization_id
    JOIN templates t ON t.id = w.template_id
    WHERE w.id = ANY (%(ids)s)""").format(
    workspace=sql.SQL(_COLUMNS),
    favorite=sql.SQL(_FAVORITE),
    build=builds.VIEW_COLUMNS,
    latest=sql.SQL(_LATEST_BUILD),
    joins=sql.SQL(builds.VIEW_JOINS),
)


async def list_views(db: AsyncConnection, workspace_ids: Sequence[UUID], *, caller_id: UUID) -> Sequence[WorkspaceView]:
    """Read workspaces with their latest builds and names, in the order of the ids."""
    async with db.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute(_VIEW, {"ids": list(workspace_ids), "caller_id": caller_id})
        views = {row[0]: _view(row) for row in await cursor.fetchall()}
    return [views[workspace_id] for workspace_id in workspace_ids if workspace_id in views]


def _view(row: Sequence[object]) -> WorkspaceView:
    workspace = Workspace(*row[:_WIDTH])  # pyright: ignore[reportArgumentType]
    owner_name, owner_avatar_url, organization_name = row[_WIDTH : _WIDTH + 3]
    names = TemplateNames(*row[_WIDTH + 3 : _WIDTH + 10])  # pyright: ignore[reportArgumentType]
    return WorkspaceView(
        workspace,
        owner_name,  # pyright: ignore[reportArgumentType]
        owner_avatar_url,  # pyright: ignore[reportArgumentType]
        organization_name,  # pyright: ignore[reportArgumentType]
        names,
        builds.view_from_row(row[_WIDTH + 11 :]),
        bool(row[_WIDTH + 10]),
    )


@dataclass(frozen=True, slots=True)
class Found:
    """A workspace that was found; `stamp` changes whenever its row, its latest build or what these name does."""

    id: UUID
    favorite: bool
    stamp: str


@dataclass(frozen=True, slots=True)
class Page:
    """A page of workspaces, and how many match in all."""

    found: Sequence[Found]
    count: int


async def search(
    db: AsyncConnection,
    readable: sql.Composable,
    wanted: WorkspaceFilter,
    *,
    agent_status: sql.Composable,
    caller_id: UUID,
    limit: int,
    offset: int,
) -> Page:
    """Find workspaces: the caller's favourites first, then running ones, then by owner and name.

    `readable` says which rows may be seen, `agent_status` tells the status of an agent `a`.
    """
    query = sql.SQL("""
        SELECT w.id, {favorite} AS favorite,
            concat_ws(' ', b.id, w.xmin, b.stamp, j.xmin, t.xmin, ow.xmin, o.xmin), count(*) OVER () {latest}
        JOIN provisioner_jobs j ON j.id = b.job_id
        JOIN users ow ON ow.id = w.owner_id
        JOIN organizations o ON o.id = w.organization_id
        JOIN templates t ON t.id = w.template_id
        WHERE {readable} AND {conditions}
        ORDER BY
            favorite DESC,
            (j.status = 'succeeded' AND b.transition = 'start') DESC,
            lower(ow.username), lower(w.name)
        LIMIT %(limit)s OFFSET %(offset)s""").format(
        favorite=sql.SQL(_FAVORITE),
        latest=sql.SQL(_LATEST_BUILD),
        readable=readable,
        conditions=_conditions(wanted, agent_status),
    )
    values = _values(wanted) | {"caller_id": caller_id, "limit": limit or None, "offset": offset}
    cursor = await db.execute(query, values)
    rows = await cursor.fetchall()
    if rows or not offset:
        return Page([Found(*row[:3]) for row in rows], rows[0][3] if rows else 0)
    # Past the last page no row carries the count.
    first = await (await db.execute(query, values | {"limit": 1, "offset": 0})).fetchone()
    return Page([], first[3] if first else 0)


def _values(wanted: WorkspaceFilter) -> dict[str, object]:
    return {
        "ids": list(wanted.ids),
        "owner": wanted.owner,
        "template": wanted.template,
        "name": wanted.name,
        "status": wanted.status,
        "agent_statuses": list(wanted.agent_statuses),
        "last_used_after": wanted.last_used_after,
        "last_used_before": wanted.last_used_before,
        "outdated": wanted.outdated,
        "organization": wanted.organization,
        "has_ai_task": wanted.has_ai_task,
        "has_external_agent": wanted.has_external_agent,
        "shared": wanted.shared,
        "shared_with_user": wanted.shared_with_user,
        "shared_with_group": wanted.shared_with_group,
        "parameter_names": [item.name for item in wanted.parameters],
        "parameter_values": [item.value for item in wanted.parameters],
    }


_CONDITIONS: Sequence[tuple[str, LiteralString]] = (
    ("ids", "w.id = ANY (%(ids)s)"),
    ("template", "lower(t.name) = %(template)s"),
    ("name", "position(%(name)s IN lower(w.name)) > 0"),
    ("last_used_after", "w.last_used_at >= %(last_used_after)s"),
    ("last_used_before", "w.last_used_at <= %(last_used_before)s"),
    ("organization", "(lower(o.name) = %(organization)s OR o.id::text = %(organization)s)"),
    (
        "shared_with_group",
        """w.group_acl ?| (
            SELECT array_agg(g.id::text) FROM groups g JOIN organizations go ON go.id = g.organization_id
            WHERE g.id::text = %(shared_with_group)s
                OR lower(go.name || '/' || g.name) = %(shared_with_group)s
                OR (go.is_default AND lower(g.name) = %(shared_with_group)s))""",
    ),
)
_TRUTHS: Sequence[tuple[str, LiteralString]] = (
    ("outdated", "(b.template_version_id <> t.active_version_id) = %(outdated)s"),
    ("has_ai_task", "coalesce(b.has_ai_task, false) = %(has_ai_task)s"),
    ("has_external_agent", "coalesce(b.has_external_agent, false) = %(has_external_agent)s"),
    ("shared", "(w.user_acl <> '{}' OR w.group_acl <> '{}') = %(shared)s"),
)


def _conditions(wanted: WorkspaceFilter, agent_status: sql.Composable) -> sql.Composed:
    # Only what is asked for becomes part of the query: the planner then sees a plain one.
    found: list[sql.Composable] = [sql.SQL(text) for name, text in _CONDITIONS if getattr(wanted, name)]
    found += [sql.SQL(text) for name, text in _TRUTHS if getattr(wanted, name) is not None]
    found.append(sql.SQL("w.deleted" if wanted.status == "deleted" else "NOT w.deleted"))
    if wanted.owner == "me":
        found.append(sql.SQL("w.owner_id = %(caller_id)s"))
    elif wanted.owner:
        found.append(sql.SQL("(lower(ow.username) = %(owner)s OR ow.id::text = %(owner)s)"))
    if wanted.shared_with_user == "me":
        found.append(sql.SQL("w.user_acl ? (%(caller_id)s::uuid)::text"))
    elif wanted.shared_with_user:
        found.append(
            sql.SQL("""w.user_acl ?| (
            SELECT array_agg(su.id::text) FROM users su
            WHERE su.id::text = %(shared_with_user)s OR lower(su.username) = %(shared_with_user)s)""")
        )
    if wanted.dormant:
        found.append(sql.SQL("w.dormant_at IS NOT NULL"))
    if wanted.status:
        found.append(sql.SQL("{} = %(status)s").format(sql.SQL(_STATUS)))
    if wanted.agent_statuses:
        found.append(_agent_condition(agent_status))
    if wanted.parameters:
        found.append(
            sql.SQL("""(
            SELECT bool_and(EXISTS (
                SELECT FROM workspace_build_parameters p WHERE p.workspace_build_id = b.id
                    AND p.name = wanted.name AND (wanted.value IS NULL OR p.value = wanted.value)))
            FROM unnest(%(parameter_names)s::text[], %(parameter_values)s::text[]) AS wanted (name, value))""")
        )
    return sql.SQL(" AND ").join(found)


def _agent_condition(agent_status: sql.Composable) -> sql.Composed:
    return sql.SQL("""EXISTS (
        SELECT FROM workspace_resources r JOIN workspace_agents a ON a.resource_id = r.id
        WHERE r.job_id = b.job_id AND NOT a.deleted AND {} = ANY (%(agent_statuses)s))""").format(agent_status)


async def rename(db: AsyncConnection, workspace_id: UUID, name: str, now: datetime) -> None:
    """Store a new name."""
    await db.execute("UPDATE workspaces SET name = %s, updated_at = %s WHERE id = %s", (name, now, workspace_id))


async def set_autostart(
    db: AsyncConnection, workspace_id: UUID, schedule: str | None, next_start_at: datetime | None
) -> None:
    """Store a schedule and when it next comes due."""
    await db.execute(
        "UPDATE workspaces SET autostart_schedule = %s, next_start_at = %s WHERE id = %s",
        (schedule, next_start_at, workspace_id),
    )


async def set_ttl(db: AsyncConnection, workspace_id: UUID, ttl_ms: int | None) -> None:
    """Store how long a workspace runs after a start."""
    await db.execute("UPDATE workspaces SET ttl_ms = %s WHERE id = %s", (ttl_ms, workspace_id))


async def set_automatic_updates(db: AsyncConnection, workspace_id: UUID, value: str) -> None:
    """Store whether starts take the newest template version."""
    await db.execute("UPDATE workspaces SET automatic_updates = %s WHERE id = %s", (value, workspace_id))


async def set_dormant(
    db: AsyncConnection, workspace_id: UUID, *, dormant_at: datetime | None, deleting_at: datetime | None, now: datetime
) -> None:
    """Put a workspace to sleep, or wake it: that counts as use."""
    await db.execute(
        """
        UPDATE workspaces SET dormant_at = %(dormant_at)s, deleting_at = %(deleting_at)s, next_start_at = NULL,
            last_used_at = CASE WHEN %(dormant_at)s::timestamptz IS NULL THEN %(now)s ELSE last_used_at END
        WHERE id = %(id)s""",
        {"dormant_at": dormant_at, "deleting_at": deleting_at, "now": now, "id": workspace_id},
    )


async def touch(db: AsyncConnection, workspace_id: UUID, now: datetime) -> None:
    """Note that a workspace is in use."""
    await db.execute("UPDATE workspaces SET last_used_at = %s WHERE id = %s", (now, workspace_id))


async def touch_of_template(db: AsyncConnection, template_id: UUID, now: datetime) -> None:
    """Note that all workspaces of a template are in use."""
    await db.execute(
        "UPDATE workspaces SET last_used_at = %s WHERE template_id = %s AND NOT deleted", (now, template_id)
    )


async def restart_dormancy(db: AsyncConnection, template_id: UUID, now: datetime) -> None:
    """Let the sleep of all dormant workspaces of a template begin now."""
    await db.execute(
        """
        UPDATE workspaces SET dormant_at = %s
        WHERE template_id = %s AND dormant_at IS NOT NULL AND NOT deleted""",
        (now, template_id),
    )


async def reschedule_deletion(db: AsyncConnection, template_id: UUID, after_ms: int) -> None:
    """Work out anew when the dormant workspaces of a template are deleted; never when `after_ms` is 0."""
    await db.execute(
        """
        UPDATE workspaces
        SET deleting_at = CASE WHEN %(ms)s > 0 THEN dormant_at + %(ms)s * interval '1 millisecond' END
        WHERE template_id = %(template_id)s AND dormant_at IS NOT NULL AND NOT deleted""",
        {"ms": after_ms, "template_id": template_id},
    )


async def set_ttl_of_template(db: AsyncConnection, template_id: UUID, ttl_ms: int | None) -> None:
    """Store how long all workspaces of a template run after a start."""
    await db.execute("UPDATE workspaces SET ttl_ms = %s WHERE template_id = %s AND NOT deleted", (ttl_ms, template_id))


async def mark_deleted(db: AsyncConnection, workspace_id: UUID, now: datetime) -> None:
    """Mark a workspace deleted; its name is free again."""
    await db.execute("UPDATE workspaces SET deleted = true, updated_at = %s WHERE id = %s", (now, workspace_id))


async def set_next_start(db: AsyncConnection, workspace_id: UUID, next_start_at: datetime | None) -> None:
    """Store when a workspace next starts by itself."""
    await db.execute("UPDATE workspaces SET next_start_at = %s WHERE id = %s", (next_start_at, workspace_id))


async def set_favorite(db: AsyncConnection, user_id: UUID, workspace_id: UUID, *, favorite: bool) -> None:
    """Mark or unmark a workspace."""
    if favorite:
        await db.execute(
            "INSERT INTO workspace_favorites (user_id, workspace_id) VALUES (%s, %s) ON CONFLICT DO NOTHING",
            (user_id, workspace_id),
        )
    else:
        await db.execute(
            "DELETE FROM workspace_favorites WHERE user_id = %s AND workspace_id = %s", (user_id, workspace_id)
        )
