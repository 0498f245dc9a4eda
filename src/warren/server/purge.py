"""Forget what is kept only for a while."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import anyio
import structlog

from warren.clock import Clock
from warren.storage import api_keys, retention
from warren.storage.db import Database

log = structlog.get_logger()

PURGE_SECONDS = 3600.0
AGENT_STATS_KEPT = timedelta(days=180)


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How long what is kept; zero for ever."""

    api_keys: timedelta = timedelta()
    connection_logs: timedelta = timedelta()
    agent_logs: timedelta = timedelta()
    agent_stats: timedelta = AGENT_STATS_KEPT


async def run(database: Database, clock: Clock, wanted: Retention) -> None:
    """Purge every hour until cancelled."""
    while True:
        await anyio.sleep(PURGE_SECONDS)
        try:
            await purge(database, clock.now(), wanted)
        except Exception as error:
            log.warning("purge.failed", error=str(error) or repr(error))


async def purge(database: Database, now: datetime, wanted: Retention) -> None:
    """Delete what is too old; each kind in transactions of its own, so that none waits for another."""
    if wanted.api_keys:
        async with database.connection() as db:
            await api_keys.delete_long_expired(db, now - wanted.api_keys)
    kinds = (
        ("connection_logs", wanted.connection_logs, retention.delete_connection_logs),
        ("agent_logs", wanted.agent_logs, retention.delete_agent_logs),
        ("agent_stats", wanted.agent_stats, retention.delete_agent_stats),
    )
    for kind, kept, delete in kinds:
        if not kept:
            continue
        count = retention.BATCH
        total = 0
        while count >= retention.BATCH:
            async with database.connection() as db:
                count = await delete(db, now - kept)
            total += count
        if total:
            log.info("purge.done", kind=kind, rows=total)
