"""A connection of one's own is closed in any case."""

import anyio
import psycopg
import pytest
from psycopg import AsyncConnection, waiting

from warren.storage.db import connected

pytestmark = pytest.mark.anyio


async def test_it_is_closed_when_its_user_is_cancelled_on_a_busy_machine(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "MAX_BUSY_TIME", -1.0)  # what finishes at once gives others a turn each time
    kept: list[AsyncConnection] = []

    async def listen() -> None:
        async with connected(database_url) as connection:
            kept.append(connection)
            await connection.execute("LISTEN somebody")
            listening.set()
            async for _ in connection.notifies():
                pass

    listening = anyio.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listen)
        await listening.wait()
        tasks.cancel_scope.cancel()
    assert kept[0].closed


async def test_it_is_closed_after_an_error_in_mid_transaction(database_url: str) -> None:
    kept: list[AsyncConnection] = []
    with pytest.raises(psycopg.errors.UndefinedTable):
        async with connected(database_url) as connection, connection.transaction():
            kept.append(connection)
            await connection.execute("SELECT * FROM nowhere")
    assert kept[0].closed
