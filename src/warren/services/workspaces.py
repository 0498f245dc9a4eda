"""Workspaces: creating, finding, changing and watching them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID, uuid4

import anyio
from psycopg import AsyncConnection, sql
from psycopg.errors import UniqueViolation
from psycopg_pool import AsyncConnectionPool

from warren.authz.filter import Columns, readable_workspaces
from warren.authz.policy import Action, Actor, Object
from warren.clock import Clock
from warren.domain import workspace as rules
from warren.domain.agent import INACTIVE_AFTER
from warren.domain.build import Transition
from warren.domain.job import JobStatus
from warren.domain.parameter import Answers, resolve
from warren.domain.search import workspace_filter
from warren.domain.template import Template, name_problem, tag_violation
from warren.domain.workspace import Workspace
from warren.errors import Conflict, Forbidden, Gone, Invalid, NotFound, Violation
from warren.services import build_queue
from warren.services.build_queue import TOPIC, NewBuild, Requester
from warren.services.build_views import BuildViews, WorkspaceDetail
from warren.services.builds import Builds, as_object, get_readable
from warren.services.templates import TOPIC as TEMPLATE_TOPIC
from warren.services.templates import as_object as template_object
from warren.storage import builds, jobs, template_versions, templates, timings, workspaces
from warren.storage.notify import Changes, Notifier, publish
from warren.storage.timings import Timings
from warren.storage.workspaces import Page

WATCH_POLL_SECONDS = 30.0
NIL = UUID(int=0)
_TAKEN = "This value is already in use and should be unique."


class Deleted(Gone):
    """Something is to be changed that was deleted."""


@dataclass(frozen=True, slots=True)
class NewWorkspace:
    """A workspace that somebody asks for."""

    name: str
    template_id: UUID | None
    template_version_id: UUID | None
    autostart_schedule: str | None
    ttl_ms: int | None
    automatic_updates: str
    parameters: Mapping[str, str]
    preset_id: UUID | None


@dataclass(frozen=True, slots=True)
class WorkspacePage:
    """A page of workspaces; `count` is of all that match."""

    workspaces: Sequence[WorkspaceDetail]
    count: int


class Workspaces:
    """Use cases around workspaces."""

    def __init__(
        self, pool: AsyncConnectionPool, notifier: Notifier, clock: Clock, build_service: Builds, views: BuildViews
    ) -> None:
        self._pool = pool
        self._notifier = notifier
        self._clock = clock
        self._builds = build_service
        self._views = views

    # Making -----------------------------------------------------------------------------------------------------------

    async def create(self, actor: Actor, owner_id: UUID, wanted: NewWorkspace) -> WorkspaceDetail:
        """Create a workspace and queue its first start."""
        _check_shape(wanted)
        async with self._pool.connection() as db:
            template = await self._usable_template(db, actor, owner_id, wanted)
            settings = template.settings
            schedule = rules.check_schedule(wanted.autostart_schedule, allowed=settings.allow_user_autostart)
            now = self._clock.now()
            workspace = Workspace(
                id=uuid4(),
                owner_id=owner_id,
                organization_id=template.organization_id,
                template_id=template.id,
                name=wanted.name,
                autostart_schedule=schedule,
                ttl_ms=rules.check_ttl(wanted.ttl_ms) or settings.default_ttl_ms or None,
                automatic_updates=rules.check_automatic_updates(wanted.automatic_updates),
                last_used_at=now,
                dormant_at=None,
                deleting_at=None,
                next_start_at=None,
                user_acl={},
                group_acl={},
                created_at=now,
                updated_at=now,
                deleted=False,
            )
            await self._insert(db, workspace)
            requester = Requester(actor.user_id, manager=actor.may(Action.UPDATE, template_object(template)))
            build = await build_queue.enqueue(
                db,
                requester,
                workspace,
                template,
                NewBuild(
                    Transition.START,
                    template_version_id=wanted.template_version_id or template.active_version_id,
                    preset_id=wanted.preset_id,
                    parameters=wanted.parameters,
                ),
                now,
            )
            view = (await workspaces.list_views(db, [workspace.id], caller_id=actor.user_id))[0]
            return self._views.workspace(view, await self._builds.fresh(db, build.id))

    async def _usable_template(
        self, db: AsyncConnection, actor: Actor, owner_id: UUID, wanted: NewWorkspace
    ) -> Template:
        template = await self._template_of(db, wanted)
        if not actor.may(Action.READ, template_object(template)):
            raise _unknown("template_id", f'Template "{template.id}" doesn\'t exist.')
        if template.deleted:
            raise NotFound(f'Template "{template.settings.name}" has been deleted!')
        if not actor.may(Action.CREATE, Object("workspace", org_id=template.organization_id, owner_id=owner_id)):
            raise Forbidden("Unauthorized to create workspace.")
        if not actor.may(Action.USE, template_object(template)):
            raise Forbidden(f'Unauthorized access to use the template "{template.settings.name}".')
        if template.settings.deprecation_message:
            name = template.settings.name
            raise Invalid(
                f'Template "{name}" has been deprecated, and cannot be used to create a new workspace.',
                detail=template.settings.deprecation_message,
            )
        return template

    async def _template_of(self, db: AsyncConnection, wanted: NewWorkspace) -> Template:
        template_id = wanted.template_id
        if wanted.template_version_id is not None:
            version = await template_versions.find(db, wanted.template_version_id)
            if version is None or version.template_id is None:
                raise _unknown(
                    "template_version_id", f'Template version "{wanted.template_version_id}" doesn\'t exist.'
                )
            template_id = version.template_id
        template = await templates.hold(db, template_id) if template_id else None
        if template is None:
            raise _unknown("template_id", f'Template "{template_id}" doesn\'t exist.')
        return template

    async def _insert(self, db: AsyncConnection, workspace: Workspace) -> None:
        taken = Conflict(f'Workspace "{workspace.name}" already exists.', violations=[Violation("name", _TAKEN)])
        if await workspaces.find_by_name(db, workspace.owner_id, workspace.name):
            raise taken
        try:
            await workspaces.insert(db, workspace)
        except UniqueViolation as error:  # somebody else was faster
            raise taken from error

    # Finding ----------------------------------------------------------------------------------------------------------

    async def list(self, actor: Actor, query: str, *, limit: int, offset: int) -> WorkspacePage:
        """List the workspaces that the caller may see and that match a query."""
        page = await self.search(actor, query, limit=limit, offset=offset)
        return WorkspacePage(await self.details(actor, [found.id for found in page.found]), page.count)

    async def search(self, actor: Actor, query: str, *, limit: int, offset: int) -> Page:
        """Find the workspaces that the caller may see and that match a query."""
        wanted = workspace_filter(query)
        async with self._pool.connection() as db:
            return await workspaces.search(
                db,
                readable_workspaces(actor, COLUMNS, DORMANT),
                wanted,
                agent_status=AGENT_STATUS,
                caller_id=actor.user_id,
                limit=limit,
                offset=offset,
            )

    async def details(self, actor: Actor, workspace_ids: Sequence[UUID]) -> Sequence[WorkspaceDetail]:
        """Read workspaces that the caller was found to be allowed to see, in this order."""
        if not workspace_ids:
            return []
        async with self._pool.connection() as db:
            views = await workspaces.list_views(db, workspace_ids, caller_id=actor.user_id)
            return await self._views.workspaces(db, views)

    async def get(self, actor: Actor, workspace_id: UUID, *, include_deleted: bool = False) -> WorkspaceDetail:
        """Read a workspace.

        Raises:
            Gone: it was deleted, and the caller did not ask for deleted ones.
        """
        async with self._pool.connection() as db:
            workspace = await get_readable(db, actor, workspace_id)
            if workspace.deleted and not include_deleted:
                raise Gone(
                    f'Workspace "{workspace_id}" was deleted, you can view this workspace by specifying'
                    " '?include_deleted=true' and trying again."
                )
            return await self._detail(db, actor, workspace_id)

    async def get_by_name(self, actor: Actor, owner_id: UUID, name: str, *, include_deleted: bool) -> WorkspaceDetail:
        """Read the workspace of an owner that has this name."""
        async with self._pool.connection() as db:
            workspace = await workspaces.find_by_name(db, owner_id, name, include_deleted=include_deleted)
            if workspace is None or not actor.may(Action.READ, as_object(workspace)):
                raise NotFound
            return await self._detail(db, actor, workspace.id)

    async def _detail(self, db: AsyncConnection, actor: Actor, workspace_id: UUID) -> WorkspaceDetail:
        views = await workspaces.list_views(db, [workspace_id], caller_id=actor.user_id)
        if not views:
            raise NotFound
        return (await self._views.workspaces(db, views))[0]

    async def watch(self, actor: Actor, workspace_id: UUID) -> AsyncGenerator[WorkspaceDetail]:
        """Yield a workspace as it is, and again whenever it or its template changes."""
        current = await self.get(actor, workspace_id, include_deleted=True)
        template_id = current.view.workspace.template_id
        async with (
            self._notifier.subscribe(TOPIC, workspace_id) as own,
            self._notifier.subscribe(TEMPLATE_TOPIC, template_id) as of_template,
        ):
            while True:
                yield await self.get(actor, workspace_id, include_deleted=True)
                await _either(own, of_template, timeout_seconds=WATCH_POLL_SECONDS)

    # Changing ---------------------------------------------------------------------------------------------------------

    async def rename(self, actor: Actor, workspace_id: UUID, name: str) -> None:
        """Give a workspace another name, where the deployment allows that.

        Raises:
            Deleted: it is not there any more.
        """
        async with self._pool.connection() as db:
            workspace = await self._changeable(db, actor, workspace_id)
            if not name or name == workspace.name:
                return
            if problem := name_problem(name, tag="username"):
                raise Invalid("Validation failed.", violations=[problem])
            if not self._views.allow_renames:
                raise Invalid("Workspace renames are not allowed.")
            if workspace.deleted:
                raise Deleted(f'Workspace "{workspace.name}" is deleted and cannot be updated.')
            try:
                await workspaces.rename(db, workspace_id, name, self._clock.now())
            except UniqueViolation as error:
                taken = Violation("name", _TAKEN)
                raise Conflict(f'The workspace "{name}" already exists.', violations=[taken]) from error
            await publish(db, TOPIC, workspace_id)

    async def set_autostart(self, actor: Actor, workspace_id: UUID, schedule: str | None) -> None:
        """Set or clear the schedule by which a workspace starts."""
        async with self._pool.connection() as db:
            workspace = await self._changeable(db, actor, workspace_id)
            settings = (await templates.get(db, workspace.template_id)).settings
            schedule = rules.check_schedule(schedule, allowed=settings.allow_user_autostart)
            changed = replace(workspace, autostart_schedule=schedule)
            due = rules.next_start(
                changed,
                self._clock.now(),
                allowed_days=settings.autostart_days_of_week,
                allowed=settings.allow_user_autostart,
            )
            await workspaces.set_autostart(db, workspace_id, schedule, due)
            await publish(db, TOPIC, workspace_id)

    async def set_ttl(self, actor: Actor, workspace_id: UUID, ttl_ms: int | None) -> None:
        """Set how long a workspace runs from its next start on; clearing it lets the running build run on."""
        async with self._pool.connection() as db:
            workspace = await self._changeable(db, actor, workspace_id)
            template = await templates.get(db, workspace.template_id)
            if not template.settings.allow_user_autostop:
                detail = "Custom autostop TTL is not allowed for workspaces using this template."
                raise Invalid("Error updating workspace time until shutdown.", violations=[Violation("ttl_ms", detail)])
            ttl = rules.check_ttl(ttl_ms)
            await workspaces.set_ttl(db, workspace_id, ttl)
            latest = await builds.find_latest(db, workspace_id)
            if ttl is None and latest is not None and latest.transition is Transition.START:
                build = await builds.get_of_number(db, workspace_id, latest.number)
                await builds.set_deadline(db, build.id, build.max_deadline, self._clock.now())
            await publish(db, TOPIC, workspace_id)

    async def extend(self, actor: Actor, workspace_id: UUID, deadline: datetime) -> datetime:
        """Move the moment at which a workspace stops; tell the new one."""
        async with self._pool.connection() as db:
            await self._changeable(db, actor, workspace_id)
            latest = await builds.find_latest(db, workspace_id)
            if latest is None:
                raise NotFound
            build = await builds.get_of_number(db, workspace_id, latest.number)
            rules.check_extension(build, latest.status, deadline, self._clock.now())
            await builds.set_deadline(db, build.id, deadline, self._clock.now())
            await publish(db, TOPIC, workspace_id)
        return deadline

    async def set_dormant(self, actor: Actor, workspace_id: UUID, *, dormant: bool) -> WorkspaceDetail | None:
        """Put a workspace to sleep, or wake it; nothing when it is as wanted already."""
        async with self._pool.connection() as db:
            workspace = await self._changeable(db, actor, workspace_id)
            if dormant == (workspace.dormant_at is not None):
                return None
            now = self._clock.now()
            settings = (await templates.get(db, workspace.template_id)).settings
            kept = timedelta(milliseconds=settings.time_til_dormant_autodelete_ms)
            await workspaces.set_dormant(
                db,
                workspace_id,
                dormant_at=now if dormant else None,
                deleting_at=now + kept if dormant and kept else None,
                now=now,
            )
            await publish(db, TOPIC, workspace_id)
            return await self._detail(db, actor, workspace_id)

    async def set_automatic_updates(self, actor: Actor, workspace_id: UUID, value: str) -> None:
        """Choose whether a start takes the newest template version."""
        async with self._pool.connection() as db:
            await self._changeable(db, actor, workspace_id)
            await workspaces.set_automatic_updates(db, workspace_id, rules.check_automatic_updates(value))
            await publish(db, TOPIC, workspace_id)

    async def set_favorite(self, actor: Actor, workspace_id: UUID, *, favorite: bool) -> None:
        """Mark or unmark one of the caller's own workspaces."""
        async with self._pool.connection() as db:
            workspace = await get_readable(db, actor, workspace_id)
            if workspace.owner_id != actor.user_id:
                raise Forbidden("You can only favorite workspaces that you own.")
            await workspaces.set_favorite(db, actor.user_id, workspace_id, favorite=favorite)

    async def note_use(self, actor: Actor, workspace_id: UUID) -> None:
        """Note that a workspace is in use."""
        async with self._pool.connection() as db:
            await self._changeable(db, actor, workspace_id)
            await workspaces.touch(db, workspace_id, self._clock.now())

    async def _changeable(self, db: AsyncConnection, actor: Actor, workspace_id: UUID) -> Workspace:
        workspace = await workspaces.lock(db, workspace_id)
        actor.require(Action.UPDATE, as_object(workspace))
        return workspace

    # About builds -----------------------------------------------------------------------------------------------------

    async def timings(self, actor: Actor, workspace_id: UUID) -> Timings:
        """Tell where the time of the latest build went."""
        async with self._pool.connection() as db:
            await get_readable(db, actor, workspace_id)
            latest = await builds.find_latest(db, workspace_id)
            if latest is None:
                raise NotFound
            build = await builds.get_of_number(db, workspace_id, latest.number)
            return await timings.of_job(db, build.job_id)

    async def needs_answers(self, actor: Actor, workspace_id: UUID) -> bool:
        """Say whether a start with the newest template version would need answers from the user."""
        async with self._pool.connection() as db:
            workspace = await get_readable(db, actor, workspace_id)
            template = await templates.get(db, workspace.template_id)
            latest = await builds.find_latest(db, workspace_id)
            if latest is None or workspace.automatic_updates != "always":
                return False
            version = await template_versions.get(db, template.active_version_id)
            if (await jobs.get(db, version.job_id)).status is not JobStatus.SUCCEEDED:
                return False
            known = await template_versions.list_parameters(db, template.active_version_id)
            previous = await builds.get_previous_parameters(db, workspace_id, latest.number + 1)
        try:
            resolve(known, Answers({}, {}, previous, first_build=False))
        except Invalid:
            return True
        return False


COLUMNS = Columns(
    id=sql.SQL("w.id"),
    org_id=sql.SQL("w.organization_id"),
    owner_id=sql.SQL("w.owner_id"),
    acl_users=sql.SQL("w.user_acl"),
    acl_groups=sql.SQL("w.group_acl"),
)
"""What the policy looks at in `workspaces w`."""

AGENT_STATUS = sql.SQL("""CASE
    WHEN a.first_connected_at IS NULL THEN CASE
        WHEN a.connection_timeout_seconds > 0
            AND now() - a.created_at > a.connection_timeout_seconds * interval '1 second' THEN 'timeout'
        ELSE 'connecting' END
    WHEN a.disconnected_at >= a.last_connected_at OR now() - a.last_connected_at > {} THEN 'disconnected'
    ELSE 'connected' END""").format(INACTIVE_AFTER)
"""The status of an agent `a`: the rule of `domain.agent.status_of` in SQL."""

DORMANT = sql.SQL("w.dormant_at IS NOT NULL")


def _check_shape(wanted: NewWorkspace) -> None:
    violations: list[Violation] = []
    if problem := name_problem(wanted.name, tag="workspace_name"):
        violations.append(problem)
    if wanted.template_id is None and wanted.template_version_id is None:
        violations += [
            tag_violation("template_id", "required_without", NIL),
            tag_violation("template_version_id", "required_without", NIL),
        ]
    if wanted.template_id is not None and wanted.template_version_id is not None:
        violations += [
            tag_violation("template_id", "excluded_with", wanted.template_id),
            tag_violation("template_version_id", "excluded_with", wanted.template_version_id),
        ]
    if violations:
        raise Invalid("Validation failed.", violations=violations)


async def _either(first: Changes, second: Changes, *, timeout_seconds: float) -> None:
    """Wait until one of two things changes."""
    async with anyio.create_task_group() as tasks:

        async def wait(changes: Changes) -> None:
            await changes.wait(timeout_seconds)
            tasks.cancel_scope.cancel()

        tasks.start_soon(wait, first)
        tasks.start_soon(wait, second)


def _unknown(field: str, message: str) -> Invalid:
    return Invalid(message, violations=[Violation(field, message)])
