"""The speed test's arithmetic: intervals, totals, and what is printed. The sockets are elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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


def json(overall: Interval, intervals: Sequence[Interval]) -> Mapping[str, object]:
    """Shape a test as `--output json` has it."""
    return {"overall": overall.json(), "intervals": [interval.json() for interval in intervals]}


def rows(overall: Interval, intervals: Sequence[Interval]) -> list[list[str]]:
    """Write a test as a table: the intervals, a line, the whole."""
    return [["INTERVAL", "THROUGHPUT"], *(item.row() for item in intervals), ["-" * 12, "-" * 12], overall.row()]
