"""The provisioner daemons inside of this server: their names, and the in-process connections they use."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import UUID

import structlog
from anyio.abc import ByteStream, TaskGroup
from psycopg import AsyncConnection

from warren.domain.tags import UNTAGGED
from warren.rpc.memory import stream_pair
from warren.services.provisionerd import ProvisionerDaemons
from warren.services.reaper import Reaper
from warren.storage.db import connected
from warren.storage.provisioner_daemons import BUILT_IN_KEY, Daemon, NewDaemon

log = structlog.get_logger()

API_VERSION = "1.18"
_LOCK_SPACE = 0x5752  # keeps our advisory locks apart from others'
_MOST_NAMES = 1000


@dataclass(frozen=True, slots=True)
class BuiltInSettings:
    """Which daemons this server has."""

    count: int
    hostname: str
    version: str
    organization_id: UUID


@asynccontextmanager
async def claim(
    url: str, settings: BuiltInSettings, service: ProvisionerDaemons, reaper: Reaper
) -> AsyncGenerator[Sequence[Daemon]]:
    """Take names for this server's daemons, and end what earlier daemons of these names left unfinished.

    A name is held by an advisory lock on a connection of its own, so that a server that was killed gives its names
    back at once, while two servers on one machine never take each other's.
    """
    async with connected(url, timeout_seconds=10, application_name="warren daemon names") as connection:
        names = await _take_names(connection, settings)
        daemons = [
            await service.register(
                NewDaemon(
                    organization_id=settings.organization_id,
                    key_id=BUILT_IN_KEY,
                    name=name,
                    version=settings.version,
                    api_version=API_VERSION,
                    provisioners=["terraform"],
                    tags=UNTAGGED,
                )
            )
            for name in names
        ]
        ended = await reaper.fence([daemon.id for daemon in daemons])
        if ended:
            log.warning("reaper.fenced", jobs=ended)
        yield daemons


async def _take_names(connection: AsyncConnection, settings: BuiltInSettings) -> Sequence[str]:
    names: list[str] = []
    for number in range(_MOST_NAMES):
        if len(names) == settings.count:
            break
        name = f"{settings.hostname}-{number}"
        cursor = await connection.execute("SELECT pg_try_advisory_lock(%s, hashtext(%s))", (_LOCK_SPACE, name))
        row = await cursor.fetchone()
        if row is not None and row[0]:
            names.append(name)
    return names


def connector(service: ProvisionerDaemons, daemon: Daemon, tasks: TaskGroup) -> Callable[[], Awaitable[ByteStream]]:
    """Make what a daemon connects by: a pair of streams, whose other end the service serves in `tasks`."""

    async def connect() -> ByteStream:
        ours, theirs = await stream_pair()
        tasks.start_soon(serve, theirs)
        return ours

    async def serve(stream: ByteStream) -> None:
        try:
            await service.serve(stream, daemon)
        except Exception:  # one broken connection must not take the others with it; the daemon connects again
            log.exception("provisioner_daemon.connection_failed", daemon=daemon.name)

    return connect
