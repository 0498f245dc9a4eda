"""Write what agents collect in batches: thousands of agents report every few seconds, the newest value counts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import anyio
import structlog
from psycopg_pool import AsyncConnectionPool

from warren.clock import Clock
from warren.domain.agent import MetadataValue
from warren.errors import Unavailable
from warren.services.agents import AGENT_METADATA
from warren.storage import agent_metadata
from warren.storage.notify import publish

log = structlog.get_logger()

FLUSH_SECONDS = 1.0
MAX_WAITING = 20_000
"""Values that may wait while the database is away; further ones are dropped, agents send newer ones anyway."""


class MetadataWriter:
    """Collects values and writes them every `FLUSH_SECONDS`."""

    def __init__(self, pool: AsyncConnectionPool, clock: Clock) -> None:
        self._pool, self._clock = pool, clock
        self._waiting: dict[tuple[UUID, str], tuple[MetadataValue, datetime]] = {}
        self._arrived = anyio.Event()

    def put(self, agent_id: UUID, results: Sequence[MetadataValue]) -> None:
        """Take values to be written soon."""
        for result in results:
            if len(self._waiting) < MAX_WAITING or (agent_id, result.key) in self._waiting:
                self._waiting[agent_id, result.key] = result, self._clock.now()
        self._arrived.set()

    async def run(self) -> None:
        """Write until cancelled; what waits then is written last."""
        try:
            while True:
                await self._arrived.wait()
                self._arrived = anyio.Event()
                await self._flush()
                await anyio.sleep(FLUSH_SECONDS)
        finally:
            with anyio.CancelScope(shield=True), anyio.move_on_after(2):
                await self._flush()

    async def _flush(self) -> None:
        if not self._waiting:
            return
        batch = self._waiting
        self._waiting = {}
        try:
            async with self._pool.connection() as db:
                # In one order, so that two replicas cannot wait for each other's rows.
                values = [(key[0], *batch[key]) for key in sorted(batch)]
                await agent_metadata.update(db, values)
                for agent_id in {agent_id for agent_id, _ in batch}:
                    await publish(db, AGENT_METADATA, agent_id)
        except Unavailable as error:
            self._waiting = batch | self._waiting
            self._arrived.set()
            log.warning("metadata.delayed", values=len(self._waiting), error=str(error))
        except Exception:
            # Agents send newer values anyway; the server must not end for these.
            log.exception("metadata.lost", values=len(batch))
