"""How long does `warren server` take to answer, on an empty folder and on an existing one?"""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from benchmarks.figures import UPSTREAM, Figure
from benchmarks.lab import lab

NAMES = ("server_start_new", "server_start")


def run() -> Iterator[Figure]:
    """Start, stop and start again."""
    first: list[float] = []
    again: list[float] = []
    for _ in range(3):
        with lab() as place:
            first.append(place.start())
            for _ in range(2):
                place.stop()
                again.append(place.start())
    yield Figure("server_start_new", statistics.median(first), "seconds", 2.8, UPSTREAM)
    yield Figure("server_start", statistics.median(again), "seconds", 0.23, UPSTREAM)
