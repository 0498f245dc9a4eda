"""What `ping` says: a line for each answer, and the summary at the end."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from warren.cli import duration


@dataclass(frozen=True, slots=True)
class Answer:
    """One ping: how it went."""

    sequence: int
    time: str
    latency_seconds: float | None = None
    direct: bool = False
    endpoint: str = ""
    region: str = ""
    error: str = ""


@dataclass(slots=True)
class Summary:
    """All pings of a run."""

    workspace: str
    answers: list[Answer] = field(default_factory=list[Answer])

    @property
    def latencies(self) -> Sequence[float]:
        """The round trips that were measured, in milliseconds."""
        return [answer.latency_seconds * 1000 for answer in self.answers if answer.latency_seconds is not None]

    @property
    def direct(self) -> bool:
        """Whether the last answer came on a direct path."""
        answered = [answer for answer in self.answers if answer.latency_seconds is not None]
        return bool(answered) and answered[-1].direct

    def figures(self) -> Mapping[str, int | float | None]:
        """Count and measure."""
        found = self.latencies
        return {
            "total": len(self.answers),
            "successful": len(found),
            "min_ms": min(found, default=None),
            "avg_ms": statistics.fmean(found) if found else None,
            "max_ms": max(found, default=None),
            "variance_ms": statistics.pvariance(found) if found else None,
        }

    def json(self) -> Mapping[str, object]:
        """Shape the run as `--output json` has it."""
        pongs = [
            {
                "sequence": answer.sequence,
                "time": answer.time,
                "latency_ms": answer.latency_seconds * 1000 if answer.latency_seconds is not None else None,
                "direct": answer.direct,
                "derp_region": answer.region,
                "error": answer.error,
            }
            for answer in self.answers
        ]
        return {"workspace": self.workspace, "pongs": pongs, "summary": self.figures()}

    def rows(self) -> list[list[str]]:
        """Write the summary as a table."""
        figures = self.figures()
        shown = [_milliseconds(figures[name]) for name in ("min_ms", "avg_ms", "max_ms", "variance_ms")]
        heading = ["WORKSPACE", "TOTAL", "SUCCESSFUL", "MIN", "AVG", "MAX", "VARIANCE"]
        return [heading, [self.workspace, str(figures["total"]), str(figures["successful"]), *shown]]


def line(workspace: str, answer: Answer) -> str:
    """Write an answer as people know it from upstream."""
    if answer.error == "timeout":
        return f'ping to "{workspace}" timed out '
    if answer.error:
        return f'ping to "{workspace}" failed {answer.error}'
    took = rounded(answer.latency_seconds or 0.0)
    if answer.direct:
        return f"pong from {workspace} p2p via {answer.endpoint} in {took}"
    return f"pong from {workspace} proxied via DERP({answer.region or 'unknown'}) in {took}"


def rounded(seconds: float) -> str:
    """Write a round trip to the millisecond, as Go does; below one, to the microsecond."""
    if seconds < 0.001:
        return duration.text(timedelta(microseconds=round(seconds * 1_000_000)))
    return duration.text(timedelta(milliseconds=round(seconds * 1000)))


def _milliseconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}ms"
