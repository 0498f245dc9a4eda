"""The only wall clock and the only monotonic clock.

Code that depends on time takes a `Clock`; pure code takes `now`.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Protocol, runtime_checkable


@runtime_checkable  # handlers of the API are given one, and what they are given is checked
class Clock(Protocol):
    """What time it is."""

    def now(self) -> datetime:
        """Tell the wall-clock time, aware, in UTC."""
        ...

    def monotonic(self) -> float:
        """Tell seconds since some fixed moment; never goes back."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """Tell the wall-clock time, aware, in UTC."""
        return datetime.now(UTC)  # noqa: TID251

    def monotonic(self) -> float:
        """Tell seconds since some fixed moment."""
        return time.monotonic()


class ManualClock:
    """A clock that tests move."""

    def __init__(self, now: datetime) -> None:
        self._now = now
        self._monotonic = 0.0

    def now(self) -> datetime:
        """Tell the time it was moved to."""
        return self._now

    def monotonic(self) -> float:
        """Tell how many seconds it was moved in all."""
        return self._monotonic

    def advance(self, by: timedelta) -> None:
        """Move the time forward by `by`."""
        self._now += by
        self._monotonic += by.total_seconds()
