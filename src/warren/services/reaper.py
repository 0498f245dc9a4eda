"""The reaper: it ends jobs whose worker is gone, and keeps what that worker wrote."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from uuid import UUID

import anyio
import structlog
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from warren.clock import Clock
from warren.domain import job as rules
from warren.domain.job import Job, JobType
from warren.services import job_results
from warren.storage import job_logs, jobs, provisioner_daemons

log = structlog.get_logger()

TICK = timedelta(seconds=2)  # with a lease of 10 s a dead worker blocks its workspace for 12 s at most
JOBS_PER_TICK = 10  # one transaction each; a great outage is worked off over several ticks
AWAY = TICK * 3  # when the last look is longer ago, the workers could not renew their leases in between either

Recover = Callable[[UUID], Awaitable[bytes | None]]
"""Reads what Terraform had written of a job's state, when the job ran on this machine."""


class Reaper:
    """End jobs that nobody works on any more."""

    def __init__(self, pool: AsyncConnectionPool, clock: Clock, recover: Recover) -> None:
        self._pool = pool
        self._clock = clock
        self._recover = recover
        self._looked_at: float | None = None
        self._lenient_until = 0.0

    async def run(self) -> None:
        """Look for dead jobs again and again until cancelled."""
        while True:
            try:
                await self.tick()
            except Exception as error:
                log.warning("reaper.failed", error=str(error) or repr(error))
            await anyio.sleep(TICK.total_seconds())

    async def tick(self) -> int:
        """End all jobs that are dead by now; say how many."""
        count = 0
        async with self._pool.connection() as db:
            if not self._lenient():
                count += await self._end(db, await jobs.lock_expired(db, limit=JOBS_PER_TICK), rules.WORKER_LOST)
            too_old = self._clock.now() - rules.PENDING_LIMIT
            count += await self._end(
                db, await jobs.lock_waiting_since(db, too_old, limit=JOBS_PER_TICK), rules.NEVER_TAKEN
            )
            await provisioner_daemons.delete_unseen(db)
        self._looked_at = self._clock.monotonic()
        return count

    def _lenient(self) -> bool:
        """Say whether the workers still have time to renew their leases, because this server or the database was away.

        Jobs whose workers are known to be gone do not wait for this, see `fence`.
        """
        now = self._clock.monotonic()
        if self._looked_at is None or now - self._looked_at > AWAY.total_seconds():
            self._lenient_until = now + rules.LEASE.total_seconds()
        return now < self._lenient_until

    async def fence(self, worker_ids: Sequence[UUID]) -> int:
        """End all jobs of workers that are known to be gone; say how many."""
        async with self._pool.connection() as db:
            return await self._end(db, await jobs.lock_held(db, worker_ids), rules.SERVER_RESTARTED)

    async def _end(self, db: AsyncConnection, dead: Sequence[Job], reason: str) -> int:
        for job in dead:
            await self._end_one(db, job, reason)
        return len(dead)

    async def _end_one(self, db: AsyncConnection, job: Job, reason: str) -> None:
        now = self._clock.now()
        state = None
        if job.type is JobType.BUILD and job.started_at is not None:
            state = await self._recover(job.id)
        if state:
            await job_results.keep_state(db, job, state, now)
        stage = await job_logs.last_stage(db, job.id)
        await job_logs.append(db, job.id, rules.reaped(stage, reason, now))
        await jobs.complete(db, job.id, now, error=reason)
        await job_results.announce(db, job)
        log.warning("job.reaped", job_id=str(job.id), reason=reason, state_kept=bool(state))
