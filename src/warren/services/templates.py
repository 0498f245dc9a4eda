"""Templates: creating, changing, promoting, deleting them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from uuid import UUID, uuid4

from psycopg import AsyncConnection, sql
from psycopg_pool import AsyncConnectionPool

from warren.authz.filter import Columns, readable
from warren.authz.policy import Action, Actor, Object
from warren.clock import Clock
from warren.domain import template as rules
from warren.domain.search import TemplateFilter, template_filter
from warren.domain.template import Template, TemplateSettings, TemplateStats
from warren.errors import Conflict, Invalid, NotFound, Violation
from warren.storage import jobs, template_versions, templates, workspaces
from warren.storage.notify import publish

TOPIC = "template"
_TAKEN = "This value is already in use and should be unique."


@dataclass(frozen=True, slots=True)
class TemplateView:
    """A template and how it is used."""

    template: Template
    stats: TemplateStats


@dataclass(frozen=True, slots=True)
class NewTemplate:
    """A template that is to be created from a version."""

    version_id: UUID
    settings: TemplateSettings
    private: bool


@dataclass(frozen=True, slots=True)
class TemplateChange:
    """What is to be changed: some settings, and what follows for the workspaces that exist.

    `private` takes the template from everyone, or gives it to everyone; `None` leaves that as it is.
    """

    settings: Mapping[str, object]
    private: bool | None = None
    touch_workspaces: bool = False
    restart_dormancy: bool = False


def as_object(template: Template) -> Object:
    """Say what a template is to the policy."""
    return Object(
        "template",
        id=template.id,
        org_id=template.organization_id,
        acl_users=template.user_acl,
        acl_groups=template.group_acl,
    )


class Templates:
    """Use cases around templates."""

    def __init__(self, pool: AsyncConnectionPool, clock: Clock) -> None:
        self._pool = pool
        self._clock = clock

    async def list(self, actor: Actor, query: str, organization_id: UUID | None = None) -> Sequence[TemplateView]:
        """List the templates that the caller may see and that match a query."""
        return await self._search(actor, template_filter(query), organization_id)

    async def _search(
        self, actor: Actor, wanted: TemplateFilter, organization_id: UUID | None
    ) -> Sequence[TemplateView]:
        async with self._pool.connection() as db:
            found = await templates.list_readable(
                db,
                readable(actor, "template", COLUMNS),
                wanted,
                organization_id=organization_id,
                caller_id=actor.user_id,
            )
            stats = await templates.stats(db, [template.id for template in found])
        return [TemplateView(template, stats[template.id]) for template in found]

    async def get(self, actor: Actor, template_id: UUID) -> TemplateView:
        """Read a template."""
        async with self._pool.connection() as db:
            return await self._view(db, await get_readable(db, actor, template_id))

    async def get_by_name(self, actor: Actor, organization_id: UUID, name: str) -> TemplateView:
        """Read the template of an organization that has this name."""
        async with self._pool.connection() as db:
            template = await templates.find_by_name(db, organization_id, name)
            if template is None or not actor.may(Action.READ, as_object(template)):
                raise NotFound
            return await self._view(db, template)

    async def _view(self, db: AsyncConnection, template: Template) -> TemplateView:
        return TemplateView(template, (await templates.stats(db, [template.id]))[template.id])

    async def create(self, actor: Actor, organization_id: UUID, wanted: NewTemplate) -> TemplateView:
        """Create a template from a version that has none yet."""
        rules.check_settings(wanted.settings)
        now = self._clock.now()
        template_id = uuid4()
        async with self._pool.connection() as db:
            other = await templates.find_by_name(db, organization_id, wanted.settings.name)
            if other is not None and actor.may(Action.READ, as_object(other)):
                raise _name_taken(wanted.settings.name)
            await self._check_version_free(db, organization_id, wanted.version_id)
            actor.require(Action.CREATE, Object("template", org_id=organization_id))
            if other is not None:
                raise _name_taken(wanted.settings.name)
            await templates.insert(
                db,
                template_id=template_id,
                organization_id=organization_id,
                active_version_id=wanted.version_id,
                created_by=actor.user_id,
                settings=wanted.settings,
                group_acl={} if wanted.private else {str(organization_id): rules.USE},
                now=now,
            )
            await template_versions.set_template(db, wanted.version_id, template_id, now)
            return await self._view(db, await templates.get(db, template_id))

    async def _check_version_free(self, db: AsyncConnection, organization_id: UUID, version_id: UUID) -> None:
        version = await template_versions.find(db, version_id)
        if version is None or version.organization_id != organization_id:
            raise NotFound(
                f'Template version "{version_id}" does not exist.',
                violations=[Violation("template_version_id", "Template version does not exist")],
            )
        if version.template_id is not None:
            raise Invalid(
                f"Template version {version_id} is already part of a template",
                violations=[Violation("template_version_id", "Template version is already part of a template")],
            )
        if version.archived:
            raise Invalid(
                f"Template version {version_id} is archived.",
                violations=[Violation("template_version_id", "Template version is archived")],
            )

    async def update(self, actor: Actor, template_id: UUID, wanted: TemplateChange) -> TemplateView:
        """Change settings, with what follows for the workspaces that exist."""
        async with self._pool.connection() as db:
            template = await templates.lock(db, template_id)
            actor.require(Action.UPDATE, as_object(template))
            # The keys are fields of the settings; the route makes them from the request's own fields.
            settings = replace(template.settings, **wanted.settings)  # pyright: ignore[reportArgumentType]
            rules.check_settings(settings)
            if settings.name != template.settings.name:
                other = await templates.find_by_name(db, template.organization_id, settings.name)
                if other is not None and other.id != template_id:
                    raise _name_taken(settings.name)
            await templates.update(db, template_id, settings, _groups(template, wanted.private), self._clock.now())
            await self._apply_to_workspaces(db, template, settings, wanted)
            await publish(db, TOPIC, template_id)
            return await self._view(db, await templates.get(db, template_id))

    async def _apply_to_workspaces(
        self, db: AsyncConnection, before: Template, settings: TemplateSettings, wanted: TemplateChange
    ) -> None:
        now = self._clock.now()
        if wanted.touch_workspaces:
            await workspaces.touch_of_template(db, before.id, now)
        if wanted.restart_dormancy:
            await workspaces.restart_dormancy(db, before.id, now)
        kept_ms = settings.time_til_dormant_autodelete_ms
        if wanted.restart_dormancy or kept_ms != before.settings.time_til_dormant_autodelete_ms:
            await workspaces.reschedule_deletion(db, before.id, kept_ms)
        if before.settings.allow_user_autostop and not settings.allow_user_autostop:
            await workspaces.set_ttl_of_template(db, before.id, settings.default_ttl_ms or None)

    async def delete(self, actor: Actor, template_id: UUID) -> None:
        """Delete a template that no workspace uses."""
        async with self._pool.connection() as db:
            template = await templates.lock(db, template_id)
            actor.require(Action.DELETE, as_object(template))
            if await templates.has_workspaces(db, template_id):
                raise Invalid("All workspaces must be deleted before a template can be removed.")
            await templates.mark_deleted(db, template_id, self._clock.now())
            await publish(db, TOPIC, template_id)

    async def promote(self, actor: Actor, template_id: UUID, version_id: UUID) -> None:
        """Make a version the one that new workspaces take."""
        async with self._pool.connection() as db:
            template = await templates.lock(db, template_id)
            actor.require(Action.UPDATE, as_object(template))
            version = await template_versions.find(db, version_id)
            if version is None:
                raise NotFound("Template version not found.")
            job = await jobs.get(db, version.job_id)
            rules.check_promotion(version, job.status, template_id)
            await templates.set_active_version(db, template_id, version_id, self._clock.now())
            await publish(db, TOPIC, template_id)


def _name_taken(name: str) -> Conflict:
    return Conflict(f'Template with name "{name}" already exists.', violations=[Violation("name", _TAKEN)])


def _groups(template: Template, private: bool | None) -> Mapping[str, Sequence[str]]:
    everyone = str(template.organization_id)
    groups = {group: actions for group, actions in template.group_acl.items() if group != everyone}
    if private is False or (private is None and everyone in template.group_acl):
        groups[everyone] = template.group_acl.get(everyone, rules.USE)
    return groups


COLUMNS = Columns(
    id=sql.SQL("t.id"),
    org_id=sql.SQL("t.organization_id"),
    acl_users=sql.SQL("t.user_acl"),
    acl_groups=sql.SQL("t.group_acl"),
)
"""What the policy looks at in `templates t`."""


async def get_readable(db: AsyncConnection, actor: Actor, template_id: UUID) -> Template:
    """Read a template that the caller may see.

    Raises:
        NotFound: there is none, or the caller may not see it.
    """
    template = await templates.get(db, template_id)
    if template.deleted or not actor.may(Action.READ, as_object(template)):
        raise NotFound
    return template
