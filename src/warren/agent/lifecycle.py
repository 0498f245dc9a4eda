"""Where an agent is in its life. States only move forward, and each is reported exactly once, in order."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum

import anyio
import structlog

from warren.clock import Clock

log = structlog.get_logger()


class LifecycleState(IntEnum):
    """The states in the order in which they can follow each other."""

    CREATED = 1
    STARTING = 2
    START_TIMEOUT = 3
    START_ERROR = 4
    READY = 5
    SHUTTING_DOWN = 6
    SHUTDOWN_TIMEOUT = 7
    SHUTDOWN_ERROR = 8
    OFF = 9


@dataclass(frozen=True, slots=True)
class LifecycleChange:
    """A state and when it was entered."""

    state: LifecycleState
    at: datetime


class Lifecycle:
    """The states so far, and how many of them the control plane has confirmed."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._changes: list[LifecycleChange] = [LifecycleChange(LifecycleState.CREATED, clock.now())]
        self._reported = 1  # being created goes without saying
        self._changed = anyio.Event()

    @property
    def state(self) -> LifecycleState:
        """The present state."""
        return self._changes[-1].state

    def enter(self, state: LifecycleState) -> None:
        """Go to a later state; one that is not later is ignored."""
        if state <= self.state:
            log.warning("lifecycle.ignored", present=self.state.name.lower(), wanted=state.name.lower())
            return
        self._changes.append(LifecycleChange(state, self._clock.now()))
        log.info("lifecycle.changed", state=state.name.lower())
        self._wake()

    async def next_change(self) -> LifecycleChange:
        """Wait for a state that is not confirmed yet."""
        while self._reported == len(self._changes):
            await self._changed.wait()
        return self._changes[self._reported]

    def confirm(self) -> None:
        """Note that the state last returned by `next_change` was received."""
        self._reported += 1
        self._wake()

    async def wait_reported(self) -> None:
        """Wait until every state was received."""
        while self._reported < len(self._changes):
            await self._changed.wait()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()
