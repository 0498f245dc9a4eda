"""The speed test's arithmetic: intervals, totals, and what is printed. The sockets are elsewhere."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

BLOCK_BYTES = 2 << 20  # what both ends send and count; a part of one at the end is not counted
INTERVAL_SECONDS = 1.0
SHORTEST_LAST_SECONDS = 0.01


@dataclass(frozen=True, slots=True)
class Interval:
    """Bytes moved in a span of the test."""

    start_seconds: float
    end_seconds: float
    moved_bytes: int

    @property
    def mbits(self) -> float:
        """The throughput in Mbit/s."""
        seconds = self.end_seconds - self.start_seconds
        return self.moved_bytes / 1_000_000 * 8 / seconds if seconds > 0 else 0.0

    def json(self) -> Mapping[str, float]:
        """Shape the interval as `--output json` has it."""
        return {
            "start_time_seconds": self.start_seconds,
            "end_time_seconds": self.end_seconds,
            "throughput_mbits": self.mbits,
        }

    def row(self) -> list[str]:
        """Write the interval as a table has it."""
        return [f"{self.start_seconds:.2f}-{self.end_seconds:.2f} sec", f"{self.mbits:.4f} Mbits/sec"]


@dataclass(slots=True)
class Meter:
    """Count blocks as they are moved, cut into intervals of a second."""

    intervals: list[Interval] = field(default_factory=list[Interval])
    _began: float = 0.0
    _moved_bytes: int = 0
    _total_bytes: int = 0

    def block(self, elapsed_seconds: float, moved_bytes: int = BLOCK_BYTES) -> None:
        """Count a whole block that was complete `elapsed_seconds` after the beginning."""
        self._moved_bytes += moved_bytes
        self._total_bytes += moved_bytes
        if elapsed_seconds - self._began >= INTERVAL_SECONDS:
            self._close(elapsed_seconds)

    def finish(self, elapsed_seconds: float) -> Interval:
        """End the test; return the whole of it."""
        if elapsed_seconds - self._began > SHORTEST_LAST_SECONDS:
            self._close(elapsed_seconds)
        return Interval(0.0, elapsed_seconds, self._total_bytes)

    def _close(self, elapsed_seconds: float) -> None:
        self.intervals.append(Interval(self._began, elapsed_seconds, self._moved_bytes))
        self._began, self._moved_bytes = elapsed_seconds, 0


@dataclass(frozen=True, slots=True)
class Measured:
    """What was moved in one direction, or in both: the whole, and by intervals."""

    overall: Interval
    intervals: Sequence[Interval]

    def json(self) -> Mapping[str, object]:
        """Shape it as `--output json` has it."""
        return {"overall": self.overall.json(), "intervals": [interval.json() for interval in self.intervals]}

    def rows(self) -> list[list[str]]:
        """Write it as a table: the intervals, a line, the whole."""
        cells = [item.row() for item in self.intervals]
        return [["INTERVAL", "THROUGHPUT"], *cells, ["-" * 12, "-" * 12], self.overall.row()]


class Board:
    """The meters of a test: one for each direction and one for all, fed by the threads of its streams."""

    def __init__(self, directions: Sequence[str], now: Callable[[], float]) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._began: float | None = None
        self._meters = {direction: Meter() for direction in directions}
        self._ends = dict.fromkeys(directions, 0.0)
        self._total = Meter()

    def start(self) -> None:
        """Note that a stream begins; the first one begins the test."""
        with self._lock:
            if self._began is None:
                self._began = self._now()

    def block(self, direction: str) -> float:
        """Count a whole block of a stream; return the seconds since the beginning."""
        with self._lock:
            elapsed = self._elapsed()
            self._meters[direction].block(elapsed)
            self._total.block(elapsed)
            return elapsed

    def end(self, direction: str) -> None:
        """Note that a stream is over."""
        with self._lock:
            self._ends[direction] = max(self._ends[direction], self._elapsed())

    def finish(self) -> tuple[Measured, Mapping[str, Measured]]:
        """End the test: all together, and each direction."""
        with self._lock:
            each = {
                direction: Measured(meter.finish(self._ends[direction]), meter.intervals)
                for direction, meter in self._meters.items()
            }
            return Measured(self._total.finish(max(self._ends.values())), self._total.intervals), each

    def _elapsed(self) -> float:
        return 0.0 if self._began is None else self._now() - self._began
