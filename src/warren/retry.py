"""The only retry loop: exponential back-off with jitter, for ever, on named errors."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import anyio
import structlog

from warren.errors import WarrenError

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Backoff:
    """Pauses between attempts, in seconds: from `initial_seconds` doubling up to `longest_seconds`."""

    initial_seconds: float = 0.05
    longest_seconds: float = 10.0

    def pause_seconds(self, failures: int) -> float:
        """Say how long to wait after `failures` failures in a row (at least one), jittered by half."""
        wanted = min(self.longest_seconds, self.initial_seconds * 2.0 ** min(failures - 1, 32))
        return wanted * (0.5 + random.random() / 2)  # noqa: S311


async def forever(
    attempt: Callable[[], Awaitable[object]],
    *,
    on: tuple[type[BaseException], ...],
    backoff: Backoff = Backoff(),
    healthy_after_seconds: float = 10.0,
) -> None:
    """Call `attempt` again and again until cancelled; only the errors in `on` are survived.

    An attempt that lasted `healthy_after_seconds` counts as a success: the pauses start small again.
    """
    failures = 0
    while True:
        started = anyio.current_time()
        try:
            await attempt()
        except on as error:
            reason = {"detail": error.detail} if isinstance(error, WarrenError) and error.detail else {}
            what = getattr(attempt, "__name__", repr(attempt))
            log.info("attempt.failed", what=what, error=str(error) or repr(error), **reason)
        failures = 1 if anyio.current_time() - started >= healthy_after_seconds else failures + 1
        await anyio.sleep(backoff.pause_seconds(failures))
