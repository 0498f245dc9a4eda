"""Durations as Go writes and reads them, plus days and weeks: `1h30m`, `7d`, `2w`."""

from __future__ import annotations

import re
from datetime import timedelta
from decimal import Decimal

from warren.errors import Invalid

_UNITS_NS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "μs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
    "d": 86_400_000_000_000,
    "w": 604_800_000_000_000,
    "y": 31_536_000_000_000_000,
}
_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h|d|w|y)")


def parse(text: str) -> timedelta:
    """Read a duration; a bare `0` is allowed.

    Raises:
        Invalid: it is not one.
    """
    unsigned = text.strip().lstrip("+")
    negative = unsigned.startswith("-")
    unsigned = unsigned.removeprefix("-")
    if unsigned == "0":
        return timedelta()
    nanoseconds, end = Decimal(0), 0
    for part in _PART.finditer(unsigned):
        if part.start() != end:
            break
        nanoseconds += Decimal(part[1]) * _UNITS_NS[part[2]]
        end = part.end()
    if not unsigned or end != len(unsigned):
        raise Invalid(f"`{text}` is not a duration", hint="write it like 30s, 1h30m, 7d or 2w")
    duration = timedelta(microseconds=float(nanoseconds / 1000))
    return -duration if negative else duration


def text(duration: timedelta) -> str:
    """Write a duration as Go does: `1h30m0s`, `1.5s`, `12ms`."""
    microseconds = duration // timedelta(microseconds=1)
    sign, microseconds = ("-", -microseconds) if microseconds < 0 else ("", microseconds)
    if microseconds == 0:
        return "0s"
    if microseconds < 1_000:
        return f"{sign}{microseconds}µs"
    if microseconds < 1_000_000:
        return f"{sign}{_decimal(microseconds, 1_000)}ms"
    minutes, rest = divmod(microseconds, 60_000_000)
    hours, minutes = divmod(minutes, 60)
    parts = [f"{hours}h"] if hours else []
    if hours or minutes:
        parts.append(f"{minutes}m")
    return sign + "".join(parts) + f"{_decimal(rest, 1_000_000)}s"


def short(duration: timedelta) -> str:
    """Write a duration without its zero parts: `8h`, `1h30m`."""
    written = text(duration)
    if written.endswith("m0s"):
        written = written[:-2]
    if written.endswith("h0m"):
        written = written[:-2]
    return written


def nanoseconds(duration: timedelta) -> int:
    """Count the nanoseconds of a duration."""
    return duration // timedelta(microseconds=1) * 1_000


def milliseconds(duration: timedelta) -> int:
    """Count the milliseconds of a duration."""
    return duration // timedelta(milliseconds=1)


def about(duration: timedelta) -> str:
    """Write the two largest units of a duration, as tables show an age: `3d4h`, `12m`, `5s`."""
    seconds = max(0, duration // timedelta(seconds=1))
    parts: list[str] = []
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)):
        count, seconds = divmod(seconds, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts[:2]) or "0s"


def _decimal(value: int, unit: int) -> str:
    whole, rest = divmod(value, unit)
    if not rest:
        return str(whole)
    return f"{whole}.{rest:0{len(str(unit)) - 1}d}".rstrip("0")
