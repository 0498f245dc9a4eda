"""What a benchmark prints: one JSON line a figure, with what it is compared to."""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

UPSTREAM = "upstream, measured once on a two-core machine"
BAR = "the bar set for it"


class CannotMeasure(Exception):
    """A figure cannot be had here; the text says why."""


@dataclass(frozen=True)
class Figure:
    """A measured number. `reference` is in the same unit; `ratio` is value by reference."""

    name: str
    value: float
    unit: str
    reference: float | None = None
    reference_name: str = ""

    def print(self) -> None:
        """Write the figure as a line of JSON."""
        ratio = None if not self.reference else round(self.value / self.reference, 3)
        line = {
            "name": self.name,
            "value": round(self.value, 4),
            "unit": self.unit,
            "reference": self.reference,
            "reference_name": self.reference_name,
            "ratio": ratio,
        }
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()


def median_seconds(action: Callable[[], object], rounds: int) -> float:
    """Time `action` `rounds` times; return the median in seconds."""
    times: list[float] = []
    for _ in range(rounds):
        with timed(times):
            action()
    return statistics.median(times)


@contextmanager
def timed(times: list[float]) -> Iterator[None]:
    """Append how long the block took, in seconds."""
    started = time.perf_counter()
    yield
    times.append(time.perf_counter() - started)
