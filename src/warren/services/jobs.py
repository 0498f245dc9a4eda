"""Jobs: what waits, what runs, what it says, and how it is ended."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from warren.authz.policy import Action, Actor, Object
from warren.clock import Clock
from warren.domain import job as rules
from warren.domain.job import Job, QueuePlace, StoredLogLine
from warren.domain.workspace import JobView
from warren.errors import NotFound
from warren.storage import job_logs, jobs, provisioner_daemons
from warren.storage.jobs import JobFilter, ListedJob
from warren.storage.notify import Notifier, publish
from warren.storage.provisioner_daemons import ListedDaemon

POLL_SECONDS = 5.0  # a notification may be lost with its connection; whoever waits looks again this often

POSTED = "job.posted"
LOGS = "job.logs"
DONE = "job.done"


@dataclass(frozen=True, slots=True)
class Queue:
    """The places of pending jobs."""

    places: Mapping[UUID, QueuePlace]
    size: int = 0

    def place(self, job: Job) -> QueuePlace:
        """Tell the place of a job; a job that does not wait has none."""
        return self.places.get(job.id, QueuePlace())


NO_QUEUE = Queue({})


class Jobs:
    """Use cases around jobs."""

    def __init__(self, pool: AsyncConnectionPool, notifier: Notifier, clock: Clock) -> None:
        self._pool = pool
        self._notifier = notifier
        self._clock = clock

    async def queue(self, db: AsyncConnection, found: Sequence[Job]) -> Queue:
        """Work out the queue if any of these jobs waits in it."""
        if not any(job.status is rules.JobStatus.PENDING for job in found):
            return NO_QUEUE
        waiting = await jobs.list_waiting(db)
        daemons = await provisioner_daemons.list_live_tags(db)
        return Queue(rules.places(waiting, daemons), len(waiting))

    async def cancel(self, db: AsyncConnection, job: Job) -> None:
        """Cancel a job that the caller may cancel and holds locked.

        Raises:
            Invalid: it has ended, or was canceled before.
        """
        rules.check_cancel(job)
        await jobs.cancel(db, job.id, self._clock.now())
        await announce_end(db, job.id)

    async def logs(self, job_id: UUID, after: int) -> Sequence[StoredLogLine]:
        """Read what a job has written so far, past one line."""
        async with self._pool.connection() as db:
            return await job_logs.list_after(db, job_id, after)

    async def follow_logs(self, job_id: UUID, after: int) -> AsyncGenerator[StoredLogLine]:
        """Yield what a job has written and what it writes, until it ends."""
        async with self._notifier.subscribe(LOGS, job_id) as changes:
            while True:
                async with self._pool.connection() as db:
                    # Read in this order: what is written between the two is found in the next round, not lost.
                    done = (await jobs.get(db, job_id)).completed_at is not None
                    lines = await job_logs.list_after(db, job_id, after)
                for line in lines:
                    after = line.id
                    yield line
                if done:
                    return
                await changes.wait(POLL_SECONDS)

    async def list(self, actor: Actor, wanted: JobFilter) -> tuple[Sequence[ListedJob], Queue]:
        """List jobs of an organization.

        Raises:
            NotFound: the caller may not see them.
        """
        if not actor.may(Action.READ, Object("provisioner_jobs", org_id=wanted.organization_id)):
            raise NotFound
        async with self._pool.connection() as db:
            found = await jobs.list_filtered(db, wanted)
            return found, await self.queue(db, [item.view.job for item in found])

    async def get(self, actor: Actor, organization_id: UUID, job_id: UUID) -> tuple[ListedJob, Queue]:
        """Read a job of an organization.

        Raises:
            NotFound: there is none, or the caller may not see it.
        """
        found, queue = await self.list(actor, JobFilter(organization_id, ids=[job_id]))
        if not found:
            raise NotFound
        return found[0], queue

    async def daemons(
        self, actor: Actor, organization_id: UUID, *, limit: int, offline: bool
    ) -> Sequence[ListedDaemon]:
        """List the daemons of an organization.

        Raises:
            NotFound: the caller may not see them.
        """
        if not actor.may(Action.READ, Object("provisioner_daemon", org_id=organization_id)):
            raise NotFound
        async with self._pool.connection() as db:
            return await provisioner_daemons.list_of_organization(db, organization_id, limit=limit, offline=offline)


async def view(db: AsyncConnection, job_id: UUID) -> JobView:
    """Read a job with the name of its worker."""
    return await jobs.get_view(db, job_id)


async def announce_end(db: AsyncConnection, job_id: UUID) -> None:
    """Wake everybody who waits for a job to end, or reads its log."""
    await publish(db, DONE, job_id)
    await publish(db, LOGS, job_id)
