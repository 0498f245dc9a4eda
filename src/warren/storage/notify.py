"""Tell others that something changed: `NOTIFY` says "look again", never carries the news.

`publish` is part of the transaction: whoever is woken finds what was committed. Whoever missed it (a connection may
break) is woken when the connection stands again, and polls slowly besides.
"""

from __future__ import annotations

from functools import partial
from types import TracebackType
from uuid import UUID

import anyio
import psycopg
from anyio.abc import TaskStatus
from psycopg import AsyncConnection

from warren import retry
from warren.storage.db import connected

EVERY = "*"
"""In place of an id: whichever of the topic changes."""
Key = tuple[str, str]


async def publish(db: AsyncConnection, topic: str, id: UUID | str) -> None:  # noqa: A002  said of any kind of thing
    """Wake those who wait for `topic` of `id`, when the transaction commits."""
    await db.execute("SELECT pg_notify('warren', %s)", (f"{topic}:{id}",))


class Changes:
    """What one subscriber waits on; several changes before it looks count as one."""

    def __init__(self) -> None:
        self._changed = anyio.Event()

    def note(self) -> None:
        """Note that there is something new to see."""
        self._changed.set()

    async def wait(self, timeout_seconds: float) -> bool:
        """Wait for a change since the last call; say whether there was one in time."""
        with anyio.move_on_after(timeout_seconds):
            await self._changed.wait()
        changed = self._changed.is_set()
        if changed:
            self._changed = anyio.Event()
        return changed


class Subscription:
    """One interest in one thing, for as long as it is entered."""

    def __init__(self, subscribers: dict[Key, set[Changes]], key: Key) -> None:
        self._subscribers = subscribers
        self._key = key
        self._changes = Changes()

    async def __aenter__(self) -> Changes:
        """Begin to note changes."""
        self._subscribers.setdefault(self._key, set()).add(self._changes)
        return self._changes

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop noting changes."""
        rest = self._subscribers[self._key]
        rest.discard(self._changes)
        if not rest:
            del self._subscribers[self._key]


class Notifier:
    """Hands what one listening connection hears to those who subscribed."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._subscribers: dict[Key, set[Changes]] = {}

    def subscribe(self, topic: str, id: UUID | str) -> Subscription:  # noqa: A002  said of any kind of thing
        """Wait for changes of `topic` of `id`: `async with notifier.subscribe(…) as changes`."""
        return Subscription(self._subscribers, (topic, str(id)))

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Listen until cancelled; a lost connection is made again. Reports started once it listens."""
        backoff = retry.Backoff(initial_seconds=0.1, longest_seconds=1.0)
        await retry.forever(partial(self._listen, _Started(task_status)), on=(psycopg.Error, OSError), backoff=backoff)

    async def _listen(self, started: _Started) -> None:
        async with connected(self._url, application_name="warren notifier") as connection:
            await connection.execute("LISTEN warren")
            self._wake_all()
            started.report()
            async for notification in connection.notifies():
                topic, _, key = notification.payload.partition(":")
                for wanted in (key, EVERY):
                    for changes in self._subscribers.get((topic, wanted), ()):
                        changes.note()

    def _wake_all(self) -> None:
        for subscribers in self._subscribers.values():
            for changes in subscribers:
                changes.note()


class _Started:
    """Reports the first start only."""

    def __init__(self, task_status: TaskStatus[None]) -> None:
        self._task_status = task_status
        self._reported = False

    def report(self) -> None:
        """Report it, once."""
        if not self._reported:
            self._reported = True
            self._task_status.started()
