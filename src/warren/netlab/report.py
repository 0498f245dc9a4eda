"""What a scenario found, whether it is as expected, and how it is shown. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from warren.netlab.kinds import Expected, Kind, Mapping, Path


@dataclass(frozen=True, slots=True)
class Seen:
    """What a node found out about its own network."""

    udp: bool
    ipv4: bool
    ipv6: bool
    mapping_varies: bool | None
    """Whether each destination sees another address or port of ours; None where that was not found out."""
    outside: str
    """The public IPv4 address that others see; empty where that was not found out."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of two nodes that were to be connected."""

    path: Path
    endpoint: str
    reason: str
    """The engine's."""
    first_byte_seconds: float
    """From the start of the first node's engine to its first byte back from the other, which was up already."""
    direct_seconds: float | None
    """From that start to a direct path."""
    throughput_bits_per_second: float
    seen: tuple[Seen, Seen]


class Report(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a scenario found. Times are seconds."""

    scenario: str
    expected: str = ""
    """The path that physics allow: `direct` or `relay`."""
    why: str = ""
    """Why that path is expected."""
    got: str = ""
    endpoint: str = ""
    reason: str = ""
    """Why the engine uses that path, in its own words."""
    first_byte_seconds: float | None = None
    direct_seconds: float | None = None
    throughput_bits_per_second: float | None = None
    received_bytes: int | None = None
    longest_gap_seconds: float | None = None
    """The longest time without a byte of a stream that never stops."""
    lost_direct_seconds: float | None = None
    """From the fault until the direct path was given up."""
    back_seconds: float | None = None
    """From the end of the fault until what was before is there again."""
    problems: tuple[str, ...] = ()

    @property
    def good(self) -> bool:
        """Whether everything is as expected."""
        return not self.problems


_DIRECT_REASON = re.compile(r"answered|better than|is heard again")


def judge(scenario: str, wanted: Expected, outcome: Outcome, more_problems: Sequence[str] = ()) -> Report:
    """Compare what became of a pair with what was to become of it."""
    problems = list(more_problems)
    if outcome.path is not wanted.path:
        problems.append(f"the path is {outcome.path.value}, not {wanted.path.value}")
    elif not _explained(wanted, outcome):
        problems.append(f"the engine's reason does not explain the path: {outcome.reason!r}")
    if outcome.throughput_bits_per_second <= 0:
        problems.append("nothing came through")
    return Report(
        scenario=scenario,
        expected=wanted.path.value,
        why=wanted.why,
        got=outcome.path.value,
        endpoint=outcome.endpoint,
        reason=outcome.reason,
        first_byte_seconds=round(outcome.first_byte_seconds, 3),
        direct_seconds=None if outcome.direct_seconds is None else round(outcome.direct_seconds, 3),
        throughput_bits_per_second=round(outcome.throughput_bits_per_second),
        problems=tuple(problems),
    )


def _explained(wanted: Expected, outcome: Outcome) -> bool:
    if outcome.path is Path.DIRECT:
        return _DIRECT_REASON.search(outcome.reason) is not None and outcome.endpoint in outcome.reason
    return re.fullmatch(wanted.reason, outcome.reason) is not None


def misjudged(kind: Kind, outside: str, seen: Seen) -> list[str]:
    """Say what a node in a network of this kind got wrong about it; `outside` is its public IPv4 address."""
    told = kind.udp and 4 in kind.families  # a STUN server has an IPv4 address of ours to tell
    facts = {
        "UDP": (seen.udp, kind.udp),
        "IPv4": (seen.ipv4, 4 in kind.families),
        "IPv6": (seen.ipv6, 6 in kind.families),
        "mapping varies": (bool(seen.mapping_varies), told and kind.mapping is Mapping.DEPENDENT),
        "public address": (seen.outside, outside if told else ""),
    }
    return [
        f"a node behind {kind.name} took {name} for {found!r}, not {wanted!r}"
        for name, (found, wanted) in facts.items()
        if found != wanted
    ]


HEADINGS = ("scenario", "expected", "got", "first byte", "direct after", "throughput", "reason")


def row(report: Report) -> tuple[str, ...]:
    """Write a report as a row of the table."""
    reason = report.reason
    if report.longest_gap_seconds is not None:
        reason = f"longest gap {report.longest_gap_seconds:.2f} s; {reason}"
    return (
        report.scenario,
        report.expected or "-",
        (report.got or "-") + ("" if report.good else " !"),
        _seconds(report.first_byte_seconds),
        _seconds(report.direct_seconds),
        _megabits(report.throughput_bits_per_second),
        "; ".join(report.problems) or reason,
    )


def verdict(reports: Sequence[Report]) -> str:
    """Sum up in a sentence."""
    bad = [report.scenario for report in reports if not report.good]
    if bad:
        return f"{len(bad)} of {len(reports)} not as expected: {', '.join(bad)}"
    return f"{len(reports)} of {len(reports)} as expected"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} s"


def _megabits(value: float | None) -> str:
    return "-" if value is None else f"{value / 1e6:,.0f} Mbit/s"
