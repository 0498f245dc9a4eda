"""Template versions in the database, with all that their import found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import LiteralString
from uuid import UUID

from psycopg import AsyncConnection, sql
from psycopg.rows import class_row, tuple_row
from psycopg.types.json import Jsonb

from warren.domain.parameter import Option, Parameter, Preset, Variable
from warren.domain.template import ExternalAuthProvider, TemplateVersion
from warren.domain.workspace import JobView
from warren.errors import NotFound
from warren.storage import jobs

_COLUMNS: LiteralString = """
    v.id, v.template_id, v.organization_id, v.job_id, v.name, v.message, v.readme, v.created_by, v.archived,
    v.has_ai_task, v.has_external_agent, v.created_at, v.updated_at,
    u.username AS created_by_username, u.name AS created_by_name, u.avatar_url AS created_by_avatar_url"""
_WIDTH = 16
_SELECT: LiteralString = "SELECT" + _COLUMNS + " FROM template_versions v JOIN users u ON u.id = v.created_by "


async def insert(
    db: AsyncConnection,
    *,
    version_id: UUID,
    template_id: UUID | None,
    organization_id: UUID,
    job_id: UUID,
    name: str,
    message: str,
    created_by: UUID,
    now: datetime,
) -> None:
    """Store a new version; its import comes later."""
    await db.execute(
        """
        INSERT INTO template_versions (
            id, template_id, organization_id, job_id, name, message, created_by, created_at, updated_at)
        VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)""",
        (version_id, template_id, organization_id, job_id, name, message, created_by, now, now),
    )


async def find(db: AsyncConnection, version_id: UUID) -> TemplateVersion | None:
    """Read a version."""
    return await _first(db, _SELECT + "WHERE v.id = %s", (version_id,))


async def get(db: AsyncConnection, version_id: UUID) -> TemplateVersion:
    """Read a version."""
    version = await find(db, version_id)
    if version is None:
        raise NotFound
    return version


async def find_by_name(db: AsyncConnection, template_id: UUID, name: str) -> TemplateVersion | None:
    """Read the version of a template that has this name."""
    return await _first(db, _SELECT + "WHERE v.template_id = %s AND lower(v.name) = lower(%s)", (template_id, name))


async def find_previous(db: AsyncConnection, version: TemplateVersion) -> TemplateVersion | None:
    """Read the version before another one of the same template."""
    return await _first(
        db,
        _SELECT + "WHERE v.template_id = %s AND v.created_at < %s ORDER BY v.created_at DESC LIMIT 1",
        (version.template_id, version.created_at),
    )


async def _first(db: AsyncConnection, query: LiteralString, values: Sequence[object]) -> TemplateVersion | None:
    async with db.cursor(row_factory=class_row(TemplateVersion)) as cursor:
        return await (await cursor.execute(query, values)).fetchone()


async def list_of_template(
    db: AsyncConnection, template_id: UUID, *, include_archived: bool, after: UUID | None, limit: int, offset: int
) -> Sequence[tuple[TemplateVersion, JobView]]:
    """List the versions of a template with their jobs, oldest first."""
    query = sql.SQL("""
        SELECT {}, {}, coalesce(d.name, '') FROM template_versions v JOIN users u ON u.id = v.created_by
        JOIN provisioner_jobs j ON j.id = v.job_id LEFT JOIN provisioner_daemons d ON d.id = j.worker_id
        WHERE v.template_id = %(template_id)s AND (%(include_archived)s OR NOT v.archived)
            AND (%(after)s::uuid IS NULL OR (v.created_at, v.id) > (
                SELECT a.created_at, a.id FROM template_versions a WHERE a.id = %(after)s))
        ORDER BY v.created_at, v.id LIMIT %(limit)s OFFSET %(offset)s""").format(sql.SQL(_COLUMNS), jobs.columns("j"))
    values = {
        "template_id": template_id,
        "include_archived": include_archived,
        "after": after,
        "limit": limit or None,
        "offset": offset,
    }
    async with db.cursor(row_factory=tuple_row) as cursor:
        rows = await (await cursor.execute(query, values)).fetchall()
    return [
        (TemplateVersion(*row[:_WIDTH]), JobView(jobs.from_row(row[_WIDTH : _WIDTH + jobs.WIDTH]), row[-1]))
        for row in rows
    ]


async def update(
    db: AsyncConnection, version_id: UUID, *, name: str, message: str, archived: bool, now: datetime
) -> None:
    """Store a changed name, message or archive mark."""
    await db.execute(
        "UPDATE template_versions SET name = %s, message = %s, archived = %s, updated_at = %s WHERE id = %s",
        (name, message, archived, now, version_id),
    )


async def set_template(db: AsyncConnection, version_id: UUID, template_id: UUID, now: datetime) -> None:
    """Give a version without a template to a new template."""
    await db.execute(
        "UPDATE template_versions SET template_id = %s, updated_at = %s WHERE id = %s", (template_id, now, version_id)
    )


async def set_readme(db: AsyncConnection, version_id: UUID, readme: str) -> None:
    """Store the README that came with a version."""
    await db.execute("UPDATE template_versions SET readme = %s WHERE id = %s", (readme.replace("\0", ""), version_id))


async def archive_unused(db: AsyncConnection, template_id: UUID, *, all_unused: bool, now: datetime) -> Sequence[UUID]:
    """Archive versions that nothing uses; only failed ones unless `all_unused`."""
    cursor = await db.execute(
        """
        UPDATE template_versions v SET archived = true, updated_at = %(now)s
        FROM provisioner_jobs j, templates t
        WHERE j.id = v.job_id AND t.id = v.template_id AND v.template_id = %(template_id)s AND NOT v.archived
            AND v.id <> t.active_version_id AND j.completed_at IS NOT NULL
            AND (%(all)s OR j.status = 'failed')
            AND NOT EXISTS (
                SELECT FROM workspaces w CROSS JOIN LATERAL (
                    SELECT template_version_id, transition FROM workspace_builds
                    WHERE workspace_id = w.id ORDER BY build_number DESC LIMIT 1) b
                WHERE b.template_version_id = v.id AND b.transition <> 'delete')
        RETURNING v.id""",
        {"template_id": template_id, "all": all_unused, "now": now},
    )
    return [row[0] for row in await cursor.fetchall()]


async def finish_import(
    db: AsyncConnection,
    version_id: UUID,
    *,
    external_auth: Sequence[ExternalAuthProvider],
    plan: object,
    module_files_id: UUID | None,
    has_ai_task: bool,
    has_external_agent: bool,
    api_version: str,
    now: datetime,
) -> None:
    """Store what an import found about the version as a whole."""
    providers = [{"id": provider.id, "optional": provider.optional} for provider in external_auth]
    await db.execute(
        """
        UPDATE template_versions
        SET external_auth_providers = %s, cached_plan = %s, module_files_id = %s, has_ai_task = %s,
            has_external_agent = %s, provisioner_api_version = %s, updated_at = %s
        WHERE id = %s""",
        (
            Jsonb(providers),
            None if plan is None else Jsonb(plan),
            module_files_id,
            has_ai_task,
            has_external_agent,
            api_version,
            now,
            version_id,
        ),
    )


async def insert_parameters(db: AsyncConnection, version_id: UUID, parameters: Sequence[Parameter]) -> None:
    """Store the parameters of a version."""
    async with db.cursor() as cursor:
        await cursor.executemany(
            """
            INSERT INTO template_version_parameters (
                template_version_id, position, name, display_name, description, type, form_type, mutable,
                default_value, icon, options, validation_regex, validation_error, validation_min, validation_max,
                validation_monotonic, required, ephemeral, display_order)
            VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)""",
            [
                (
                    version_id,
                    position,
                    item.name,
                    item.display_name,
                    item.description,
                    item.type,
                    item.form_type,
                    item.mutable,
                    item.default_value,
                    item.icon,
                    Jsonb([[o.name, o.value, o.description, o.icon] for o in item.options]),
                    item.validation_regex,
                    item.validation_error,
                    item.validation_min,
                    item.validation_max,
                    item.validation_monotonic,
                    item.required,
                    item.ephemeral,
                    item.display_order,
                )
                for position, item in enumerate(parameters)
            ],
        )


async def list_parameters(db: AsyncConnection, version_id: UUID) -> Sequence[Parameter]:
    """List the parameters of a version in the order in which they are shown."""
    cursor = await db.execute(
        """
        SELECT name, type, mutable, required, display_name, description, form_type, default_value, icon, options,
            validation_regex, validation_error, validation_min, validation_max, validation_monotonic, ephemeral,
            display_order
        FROM template_version_parameters WHERE template_version_id = %s ORDER BY display_order, lower(name)""",
        (version_id,),
    )
    return [
        Parameter(*row[:9], options=tuple(Option(*option) for option in row[9]),
                  validation_regex=row[10], validation_error=row[11], validation_min=row[12], validation_max=row[13],
                  validation_monotonic=row[14], ephemeral=row[15], display_order=row[16])
        for row in await cursor.fetchall()
    ]  # fmt: skip


async def replace_variables(db: AsyncConnection, version_id: UUID, variables: Sequence[Variable]) -> None:
    """Store the variables of a version in place of those it had."""
    await db.execute("DELETE FROM template_version_variables WHERE template_version_id = %s", (version_id,))
    async with db.cursor() as cursor:
        await cursor.executemany(
            """
            INSERT INTO template_version_variables (
                template_version_id, position, name, description, type, value, default_value, required, sensitive)
            VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)""",
            [
                (
                    version_id,
                    position,
                    item.name,
                    item.description,
                    item.type,
                    item.value,
                    item.default_value,
                    item.required,
                    item.sensitive,
                )
                for position, item in enumerate(variables)
            ],
        )


async def list_variables(db: AsyncConnection, version_id: UUID) -> Sequence[Variable]:
    """List the variables of a version in the order in which the template declares them."""
    async with db.cursor(row_factory=class_row(Variable)) as cursor:
        await cursor.execute(
            """
            SELECT name, description, type, value, default_value, required, sensitive
            FROM template_version_variables WHERE template_version_id = %s ORDER BY position""",
            (version_id,),
        )
        return await cursor.fetchall()


async def insert_presets(db: AsyncConnection, version_id: UUID, presets: Sequence[Preset]) -> None:
    """Store the presets of a version."""
    async with db.cursor() as cursor:
        await cursor.executemany(
            """
            INSERT INTO template_version_presets (
                id, template_version_id, position, name, description, icon, is_default, desired_prebuilds, parameters)
            VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)""",
            [
                (
                    item.id,
                    version_id,
                    position,
                    item.name,
                    item.description,
                    item.icon,
                    item.is_default,
                    item.desired_prebuilds,
                    Jsonb(list(item.parameters.items())),
                )
                for position, item in enumerate(presets)
            ],
        )


async def list_presets(db: AsyncConnection, version_id: UUID) -> Sequence[Preset]:
    """List the presets of a version in the order in which the template declares them."""
    cursor = await db.execute(
        """
        SELECT id, name, description, icon, is_default, desired_prebuilds, parameters
        FROM template_version_presets WHERE template_version_id = %s ORDER BY position""",
        (version_id,),
    )
    return [Preset(*row[:6], parameters=dict(row[6])) for row in await cursor.fetchall()]


async def replace_tags(db: AsyncConnection, version_id: UUID, tags: Mapping[str, str]) -> None:
    """Store the tag expressions of a version in place of those it had."""
    await db.execute("DELETE FROM template_version_tags WHERE template_version_id = %s", (version_id,))
    async with db.cursor() as cursor:
        await cursor.executemany(
            "INSERT INTO template_version_tags (template_version_id, key, value) VALUES (%s, %s, %s)",
            [(version_id, key, value) for key, value in tags.items()],
        )


async def list_external_auth(db: AsyncConnection, version_id: UUID) -> Sequence[ExternalAuthProvider]:
    """List the third parties that a version needs."""
    cursor = await db.execute("SELECT external_auth_providers FROM template_versions WHERE id = %s", (version_id,))
    row = await cursor.fetchone()
    return [ExternalAuthProvider(item["id"], item["optional"]) for item in row[0]] if row else []


async def is_module_file(db: AsyncConnection, file_id: UUID, organization_id: UUID) -> bool:
    """Say whether a file holds the modules of a version of this organization."""
    cursor = await db.execute(
        "SELECT EXISTS (SELECT FROM template_versions WHERE module_files_id = %s AND organization_id = %s)",
        (file_id, organization_id),
    )
    row = await cursor.fetchone()
    return bool(row and row[0])


async def get_module_files_id(db: AsyncConnection, version_id: UUID) -> UUID | None:
    """Tell which file holds the modules of a version."""
    cursor = await db.execute("SELECT module_files_id FROM template_versions WHERE id = %s", (version_id,))
    row = await cursor.fetchone()
    return row[0] if row else None
