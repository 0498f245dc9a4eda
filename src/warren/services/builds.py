"""Builds: queueing them, cancelling them, reading what came of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from uuid import UUID

from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from warren.authz.policy import Action, Actor, Object
from warren.clock import Clock
from warren.domain import job as job_rules
from warren.domain.build import Build, Transition
from warren.domain.job import JobStatus
from warren.domain.template import Template
from warren.domain.workspace import BuildView, Workspace
from warren.errors import Conflict, Forbidden, Invalid, NotFound, Violation
from warren.services import build_queue
from warren.services.build_queue import TOPIC, FollowUp, NewBuild, Requester
from warren.services.build_views import BuildDetail, BuildViews, ResourceView
from warren.services.jobs import NO_QUEUE, Jobs, announce_end
from warren.services.templates import as_object as template_object
from warren.storage import (
    builds,
    jobs,
    provisioner_daemons,
    templates,
    timings,
    workspaces,
)
from warren.storage.notify import publish
from warren.storage.timings import Timings


class PreconditionFailed(Conflict):
    """Something is not in the state that the caller expects."""


_ACTIONS = {Transition.START: Action.START, Transition.STOP: Action.STOP, Transition.DELETE: Action.DELETE}


def as_object(workspace: Workspace) -> Object:
    """Say what a workspace is to the policy; nobody shares a dormant one."""
    if workspace.dormant_at is not None:
        return Object(
            "workspace_dormant",
            id=workspace.id,
            org_id=workspace.organization_id,
            owner_id=workspace.owner_id,
        )
    return Object(
        "workspace",
        id=workspace.id,
        org_id=workspace.organization_id,
        owner_id=workspace.owner_id,
        acl_users=workspace.user_acl,
        acl_groups=workspace.group_acl,
    )


async def get_readable(db: AsyncConnection, actor: Actor, workspace_id: UUID) -> Workspace:
    """Read a workspace that the caller may see; a deleted one too.

    Raises:
        NotFound: there is none, or the caller may not see it.
    """
    workspace = await workspaces.get(db, workspace_id)
    if not actor.may(Action.READ, as_object(workspace)):
        raise NotFound
    return workspace


class Builds:
    """Use cases around builds."""

    def __init__(self, pool: AsyncConnectionPool, clock: Clock, job_service: Jobs, views: BuildViews) -> None:
        self._pool = pool
        self._clock = clock
        self._jobs = job_service
        self._views = views

    # Making -----------------------------------------------------------------------------------------------------------

    async def create(self, actor: Actor, workspace_id: UUID, wanted: NewBuild) -> BuildDetail:
        """Start, stop or delete a workspace; return the build that will get it there."""
        async with self._pool.connection() as db:
            workspace = await workspaces.lock(db, workspace_id)
            template = await templates.get(db, workspace.template_id)
            self._authorize(actor, workspace, template, wanted)
            requester = Requester(actor.user_id, manager=actor.may(Action.UPDATE, template_object(template)))
            build = await build_queue.enqueue(db, requester, workspace, template, wanted, self._clock.now())
            if wanted.transition is Transition.START and workspace.dormant_at is not None:
                now = self._clock.now()
                await workspaces.set_dormant(db, workspace_id, dormant_at=None, deleting_at=None, now=now)
            if wanted.orphan:
                await self._complete_orphan(db, build)
            return await self.fresh(db, build.id)

    def _authorize(self, actor: Actor, workspace: Workspace, template: Template, wanted: NewBuild) -> None:
        about = as_object(workspace)
        action = _ACTIONS[wanted.transition]
        if action is Action.START and workspace.dormant_at is not None:
            action = Action.UPDATE
        if not actor.may(action, about):
            if not actor.may(Action.READ, about):
                raise NotFound
            raise Forbidden(f"You do not have permission to {wanted.transition} this workspace.")
        if wanted.follow_up is not None:
            self._authorize_follow_up(actor, about, template, wanted.follow_up)
        if (wanted.orphan or wanted.state is not None) and not actor.may(Action.UPDATE, template_object(template)):
            raise Forbidden("Only template managers may provide custom state")
        if wanted.orphan and (wanted.transition is not Transition.DELETE or wanted.state is not None):
            detail = "orphan is only valid with the delete transition and without a state"
            raise Invalid("Orphan is only permitted when deleting a workspace.", detail=detail)
        if wanted.log_level and not actor.may(Action.READ, Object("deployment_config")):
            raise Invalid("Workspace builds with a custom log level are restricted to administrators only.")

    def _authorize_follow_up(self, actor: Actor, about: Object, template: Template, wanted: FollowUp) -> None:
        if not actor.may(_ACTIONS[wanted.transition], about):
            raise Forbidden(f"You do not have permission to {wanted.transition} this workspace.")
        if wanted.template_version_id is not None and not actor.may(Action.UPDATE, template_object(template)):
            raise Forbidden("Only template managers may choose the version of a follow-up build.")

    async def _complete_orphan(self, db: AsyncConnection, build: Build) -> None:
        """End an orphan delete here and now when no daemon is there to do it: it destroys nothing anyway."""
        job = await jobs.get(db, build.job_id)
        matched = await provisioner_daemons.match(db, job.organization_id, job.tags, job.provisioner)
        if not matched.available:
            now = self._clock.now()
            await jobs.complete(db, job.id, now)
            await workspaces.mark_deleted(db, build.workspace_id, now)
            await announce_end(db, job.id)

    async def fresh(self, db: AsyncConnection, build_id: UUID) -> BuildDetail:
        """Read a build that was just queued: clients expect no resources and no version name in the answer."""
        view = await self._found(db, build_id)
        job = view.job.job
        matched = await provisioner_daemons.match(db, job.organization_id, job.tags, job.provisioner)
        return BuildDetail(replace(view, template_version_name=""), (), NO_QUEUE, matched)

    # Changing ---------------------------------------------------------------------------------------------------------

    async def cancel(self, actor: Actor, build_id: UUID, *, expected: str) -> None:
        """Cancel a build; with `expected` only while its job is in that state."""
        if expected not in ("", JobStatus.PENDING, JobStatus.RUNNING):
            text = f'invalid status "{expected}", must be "running" or "pending"'
            raise Invalid("Invalid expect_status.", violations=[Violation("expect_status", text)])
        async with self._pool.connection() as db:
            build = await builds.get(db, build_id)
            workspace = await get_readable(db, actor, build.workspace_id)
            actor.require(Action.UPDATE, as_object(workspace))
            template = await templates.get(db, workspace.template_id)
            allowed = template.settings.allow_user_cancel_workspace_jobs or actor.has_site_role("owner")
            if expected != JobStatus.PENDING and not allowed:
                raise Forbidden("User is not allowed to cancel workspace builds. Owner role is required.")
            job = await jobs.lock(db, build.job_id)
            job_rules.check_cancel(job)
            if expected and job.status != expected:
                raise PreconditionFailed(f"Job is not in the expected state: it is {job.status}, not {expected}.")
            await self._jobs.cancel(db, job)
            await publish(db, TOPIC, workspace.id)

    async def set_state(self, actor: Actor, build_id: UUID, state: bytes) -> None:
        """Replace the Terraform state of a build."""
        async with self._pool.connection() as db:
            build = await self._of_manager(db, actor, build_id)
            await builds.set_state(db, build.id, state, self._clock.now())

    # Reading ----------------------------------------------------------------------------------------------------------

    async def get(self, actor: Actor, build_id: UUID) -> BuildDetail:
        """Read a build."""
        async with self._pool.connection() as db:
            view = await self._found(db, build_id)
            await get_readable(db, actor, view.build.workspace_id)
            return (await self._views.builds(db, [view]))[0]

    async def get_of_number(self, actor: Actor, owner_id: UUID, name: str, number: int) -> BuildDetail:
        """Read the build of a workspace that has this number."""
        async with self._pool.connection() as db:
            workspace = await workspaces.find_by_name(db, owner_id, name, include_deleted=True)
            if workspace is None or not actor.may(Action.READ, as_object(workspace)):
                raise NotFound
            view = await builds.find_view_of_number(db, workspace.id, number)
            if view is None:
                raise NotFound(f'Workspace "{workspace.name}" Build {number} does not exist.')
            return (await self._views.builds(db, [view]))[0]

    async def list(
        self,
        actor: Actor,
        workspace_id: UUID,
        *,
        since: datetime | None,
        after: UUID | None,
        limit: int,
        offset: int,
    ) -> Sequence[BuildDetail]:
        """List the builds of a workspace, newest first."""
        async with self._pool.connection() as db:
            await get_readable(db, actor, workspace_id)
            if after is not None and await builds.find_view(db, after) is None:
                raise Invalid(f'Record at "after_id" ("{after}") does not exist.')
            found = await builds.list_views(db, workspace_id, since=since, after=after, limit=limit, offset=offset)
            return await self._views.builds(db, found)

    async def parameters(self, actor: Actor, build_id: UUID) -> Mapping[str, str]:
        """Read the parameter values of a build."""
        async with self._pool.connection() as db:
            await self._readable(db, actor, build_id)
            return await builds.get_parameters(db, build_id)

    async def resources(self, actor: Actor, build_id: UUID) -> Sequence[ResourceView]:
        """List what a build made."""
        async with self._pool.connection() as db:
            build = await self._readable(db, actor, build_id)
            if (await jobs.get(db, build.job_id)).completed_at is None:
                raise Invalid("Job hasn't completed!")
            found = (await self._views.resources(db, [build.job_id]))[build.job_id]
            return sorted(found, key=lambda view: view.resource.name)

    async def state(self, actor: Actor, build_id: UUID) -> bytes:
        """Read the Terraform state of a build."""
        async with self._pool.connection() as db:
            return await builds.get_state(db, (await self._of_manager(db, actor, build_id)).id)

    async def timings(self, actor: Actor, build_id: UUID) -> Timings:
        """Tell where the time of a build went."""
        async with self._pool.connection() as db:
            return await timings.of_job(db, (await self._readable(db, actor, build_id)).job_id)

    async def job_id(self, actor: Actor, build_id: UUID) -> UUID:
        """Tell which job runs a build, to one who may read its log."""
        async with self._pool.connection() as db:
            return (await self._readable(db, actor, build_id)).job_id

    async def _readable(self, db: AsyncConnection, actor: Actor, build_id: UUID) -> Build:
        build = await builds.get(db, build_id)
        await get_readable(db, actor, build.workspace_id)
        return build

    async def _of_manager(self, db: AsyncConnection, actor: Actor, build_id: UUID) -> Build:
        build = await self._readable(db, actor, build_id)
        workspace = await workspaces.get(db, build.workspace_id)
        template = await templates.get(db, workspace.template_id)
        if not actor.may(Action.UPDATE, template_object(template)):
            raise Forbidden("Forbidden.")
        return build

    async def _found(self, db: AsyncConnection, build_id: UUID) -> BuildView:
        view = await builds.find_view(db, build_id)
        if view is None:
            raise NotFound
        return view
