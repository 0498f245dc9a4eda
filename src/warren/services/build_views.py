"""Builds as people see them: with their resources, and these with their agents."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias
from uuid import UUID

from psycopg import AsyncConnection

from warren.domain.agent import AgentView
from warren.domain.resource import Resource
from warren.domain.workspace import BuildView, WorkspaceView
from warren.services.jobs import Jobs, Queue
from warren.storage import resources
from warren.storage.provisioner_daemons import Matched

AgentsOfResources: TypeAlias = Callable[
    [AsyncConnection, Sequence[UUID]], Awaitable[Mapping[UUID, Sequence[AgentView]]]
]
"""Reads the agents of resources, see `warren.services.agents`."""


@dataclass(frozen=True, slots=True)
class ResourceView:
    """A resource with its agents."""

    resource: Resource
    agents: Sequence[AgentView]


@dataclass(frozen=True, slots=True)
class BuildDetail:
    """A build with its resources and its place in the queue."""

    view: BuildView
    resources: Sequence[ResourceView]
    queue: Queue
    matched: Matched | None = None


@dataclass(frozen=True, slots=True)
class WorkspaceDetail:
    """A workspace with the details of its latest build."""

    view: WorkspaceView
    build: BuildDetail
    allow_renames: bool


class BuildViews:
    """Puts builds together; a fixed number of statements, however many builds."""

    def __init__(self, job_service: Jobs, agents_of_resources: AgentsOfResources, *, allow_renames: bool) -> None:
        self.allow_renames = allow_renames
        self._jobs = job_service
        self._agents_of_resources = agents_of_resources

    async def resources(self, db: AsyncConnection, job_ids: Sequence[UUID]) -> Mapping[UUID, Sequence[ResourceView]]:
        """Read the resources of jobs with their agents."""
        by_job = await resources.list_of_jobs(db, job_ids)
        resource_ids = [resource.id for found in by_job.values() for resource in found]
        agents: Mapping[UUID, Sequence[AgentView]] = {}
        if resource_ids:
            agents = await self._agents_of_resources(db, resource_ids)
        return {
            job_id: [ResourceView(resource, agents.get(resource.id, ())) for resource in found]
            for job_id, found in by_job.items()
        }

    async def builds(self, db: AsyncConnection, views: Sequence[BuildView]) -> Sequence[BuildDetail]:
        """Complete builds with their resources and their places in the queue."""
        by_job = await self.resources(db, [view.build.job_id for view in views])
        queue = await self._jobs.queue(db, [view.job.job for view in views])
        return [BuildDetail(view, by_job[view.build.job_id], queue, Matched()) for view in views]

    async def workspaces(self, db: AsyncConnection, views: Sequence[WorkspaceView]) -> Sequence[WorkspaceDetail]:
        """Complete workspaces with the details of their latest builds."""
        details = await self.builds(db, [view.build for view in views])
        return [self.workspace(view, build) for view, build in zip(views, details, strict=True)]

    def workspace(self, view: WorkspaceView, build: BuildDetail) -> WorkspaceDetail:
        """Put a workspace and its latest build together."""
        return WorkspaceDetail(view, build, self.allow_renames)
