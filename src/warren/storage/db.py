"""The pool of connections, and what an operator of it sees when PostgreSQL is away.

Conventions of this package: the connection comes first, a query is a literal, rows become frozen dataclasses by
`class_row`, `find` may return `None`, `get` raises `NotFound`, `lock` is a `get` with `FOR UPDATE`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Self

import anyio
import psycopg
import structlog
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from warren.errors import Unavailable

log = structlog.get_logger()

CONNECT_TIMEOUT_SECONDS = 3
BUSY_TIMEOUT_SECONDS = 10.0  # all connections in use for this long: better an honest 503 than a longer queue
SLICE_SECONDS = 0.5
RECONNECT_SECONDS = 2.0  # the pool's own attempts give up early: our watch, which does not slow down, takes over
WATCH_SECONDS = 0.25
AWAY = "The database does not answer."
FULL = "There is no room left on the disk of the database."


class Database(AsyncConnectionPool):
    """A pool that refuses at once while PostgreSQL is known to be away, and comes back by itself."""

    def __init__(self, url: str, *, min_size: int = 1, max_size: int = 10) -> None:
        self._down = anyio.Event()  # set while PostgreSQL is away
        pool = self

        class Watched(AsyncConnection):
            """A connection whose making tells whether PostgreSQL is there."""

            @classmethod
            async def connect(cls, *args: object, **kwargs: object) -> Self:
                try:
                    connection = await super().connect(*args, **kwargs)  # pyright: ignore[reportArgumentType]
                except psycopg.OperationalError:
                    pool.note_away()
                    raise
                return connection

        super().__init__(
            url,
            connection_class=Watched,
            kwargs={"connect_timeout": CONNECT_TIMEOUT_SECONDS, "options": "-c timezone=UTC"},
            min_size=min_size,
            max_size=max_size,
            timeout=BUSY_TIMEOUT_SECONDS,
            reconnect_timeout=RECONNECT_SECONDS,
            open=False,
        )
        self.url = url

    @property
    def away(self) -> bool:
        """Whether PostgreSQL did not answer when last asked."""
        return self._down.is_set()

    def note_away(self) -> None:
        """Refuse at once from now on, until `watch` finds PostgreSQL again."""
        if not self._down.is_set():
            log.warning("database.lost")
            self._down.set()

    @asynccontextmanager
    async def connection(  # pyright: ignore[reportIncompatibleMethodOverride]  narrower on purpose
        self, timeout: float | None = None
    ) -> AsyncGenerator[AsyncConnection]:
        """Lend a connection; the transaction commits at the end, or rolls back on an error.

        Raises:
            Unavailable: PostgreSQL is away, or all connections stay in use.
        """
        connection = await self._borrow(BUSY_TIMEOUT_SECONDS if timeout is None else timeout)
        try:
            try:
                async with connection:
                    yield connection
            finally:
                await self.putconn(connection)
        except psycopg.errors.DiskFull as error:
            raise Unavailable(FULL, detail=f"{error} Free some; nothing needs to be restarted.") from error
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            if not _lost(error):
                raise
            raise Unavailable(AWAY, detail=str(error)) from error

    @asynccontextmanager
    async def reading(self) -> AsyncGenerator[AsyncConnection]:
        """Lend a connection on which each statement stands for itself: one round trip instead of three.

        Raises:
            Unavailable: as `connection`.
        """
        async with self.connection() as connection:
            await connection.set_autocommit(True)
            try:
                yield connection
            finally:
                if not connection.closed:
                    await connection.set_autocommit(False)

    async def _borrow(self, timeout: float) -> AsyncConnection:
        deadline = anyio.current_time() + timeout
        while True:
            if self.away:
                raise Unavailable(AWAY)
            try:
                # In slices: whoever waits when PostgreSQL goes away hears of it soon.
                return await self.getconn(SLICE_SECONDS)
            except PoolTimeout as error:
                if anyio.current_time() >= deadline:
                    raise Unavailable("The database is busy.", detail=str(error)) from error

    async def watch(self) -> None:
        """Find out when PostgreSQL is back; run this for as long as the pool is open."""
        while True:
            await self._down.wait()
            while not await self._answers():  # noqa: ASYNC110  PostgreSQL has no event for "I am back"
                await anyio.sleep(WATCH_SECONDS)
            self._down = anyio.Event()
            log.info("database.found")
            await self.check()

    async def _answers(self) -> bool:
        try:
            async with connected(self.url):
                return True
        except psycopg.OperationalError:
            return False


def _lost(error: psycopg.Error) -> bool:
    """Say whether an error means that the connection is gone, rather than that the query failed."""
    state = error.sqlstate
    return state is None or state.startswith(("08", "57P"))


@asynccontextmanager
async def connected(
    url: str, *, timeout_seconds: int = CONNECT_TIMEOUT_SECONDS, application_name: str | None = None
) -> AsyncGenerator[AsyncConnection]:
    """Open a connection of one's own, on which each statement stands for itself, and close it in any case.

    psycopg's own `async with` rolls back before it closes, and gives others a turn there now and then. A task that is
    being cancelled does not come back from that, and the connection stayed open.

    Raises:
        psycopg.OperationalError: PostgreSQL does not answer.
    """
    connection = await AsyncConnection.connect(
        url, autocommit=True, connect_timeout=timeout_seconds, application_name=application_name
    )
    try:
        yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def open_database(url: str, *, max_size: int = 10) -> AsyncGenerator[Database]:
    """Open a pool and keep watch over it.

    Raises:
        Unavailable: PostgreSQL does not answer now.
    """
    database = Database(url, max_size=max_size)
    async with anyio.create_task_group() as tasks:
        try:
            await database.open(wait=True, timeout=BUSY_TIMEOUT_SECONDS)
        except PoolTimeout as error:
            raise Unavailable(AWAY, detail=str(error)) from error
        tasks.start_soon(database.watch)
        try:
            yield database
        finally:
            tasks.cancel_scope.cancel()
            with anyio.CancelScope(shield=True):
                await database.close()
