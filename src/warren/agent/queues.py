"""A bounded queue whose items stay until they are confirmed, so that a lost connection loses none."""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

import anyio

T = TypeVar("T")


class ReportQueue(Generic[T]):
    """What waits to be reported; the newest are refused when it is full."""

    def __init__(self, max_items: int) -> None:
        self._max_items = max_items
        self._items: deque[T] = deque()
        self._added = anyio.Event()

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: T) -> bool:
        """Add an item; say whether there was room."""
        if len(self._items) >= self._max_items:
            return False
        self._items.append(item)
        self._added.set()
        return True

    async def first(self) -> T:
        """Wait for an item and return the oldest, which stays."""
        while not self._items:
            self._added = anyio.Event()
            await self._added.wait()
        return self._items[0]

    def confirm(self) -> None:
        """Remove the oldest item: it was reported, or never will be."""
        self._items.popleft()
