"""Cron expressions in templates: of scripts (seconds first) and of prebuild schedules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

UNIX_FIELDS = 5
_DESCRIPTORS = frozenset({"@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"})
_MONTHS: Mapping[str, int] = MappingProxyType(
    {
        name: index + 1
        for index, name in enumerate(
            ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
        )
    }
)
_WEEKDAYS: Mapping[str, int] = MappingProxyType(
    {name: index for index, name in enumerate(["sun", "mon", "tue", "wed", "thu", "fri", "sat"])}
)


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    low: int
    high: int
    names: Mapping[str, int] | None = None


_SECOND, _MINUTE, _HOUR = _Field("second", 0, 59), _Field("minute", 0, 59), _Field("hour", 0, 23)
_DAY, _MONTH = _Field("day of month", 1, 31), _Field("month", 1, 12, _MONTHS)
_WEEKDAY = _Field("day of week", 0, 6, _WEEKDAYS)


def script_problem(cron: str) -> str | None:
    """Say what is wrong with a script's expression: six fields, seconds first, the weekday may be left out."""
    expression = cron.split(maxsplit=1)[1] if cron.startswith(("TZ=", "CRON_TZ=")) and " " in cron else cron
    if expression.startswith("@"):
        known = expression in _DESCRIPTORS or expression.startswith("@every ")
        return None if known else f"unrecognized descriptor: {expression}"
    parts = expression.split()
    fields = (_SECOND, _MINUTE, _HOUR, _DAY, _MONTH, _WEEKDAY)
    if len(parts) not in (UNIX_FIELDS, len(fields)):
        return f"expected {UNIX_FIELDS} to {len(fields)} fields, found {len(parts)}: [{expression}]"
    return _first_problem(zip(fields, parts, strict=False))


def preset_problem(cron: str) -> str | None:
    """Say what is wrong with a prebuild schedule: five fields, and the minute must be `*`."""
    parts = cron.split()
    if len(parts) != UNIX_FIELDS:
        return f'cron spec "{cron}" should consist of {UNIX_FIELDS} fields'
    if parts[0] != "*":
        return "cron spec failed validation: minute field should be *"
    return _first_problem(zip((_MINUTE, _HOUR, _DAY, _MONTH, _WEEKDAY), parts, strict=True))


def zone_problem(name: str) -> str | None:
    """Say what is wrong with a time zone's name."""
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return f'failed to load timezone "{name}": unknown time zone {name}'
    return None


def overlap(crons: Sequence[str]) -> str | None:
    """Name the first two prebuild schedules that are active in the same hour of some day."""
    valid = [cron for cron in crons if preset_problem(cron) is None]
    for index, first in enumerate(valid):
        for second in valid[index + 1 :]:
            if _overlap(first.split(), second.split()):
                return f"schedules overlap with each other: schedules overlap: {first} and {second}"
    return None


def _overlap(first: Sequence[str], second: Sequence[str]) -> bool:
    def meet(position: int, field: _Field) -> bool:
        return bool(_values(field, first[position]) & _values(field, second[position]))

    if not (meet(1, _HOUR) and meet(3, _MONTH)):
        return False
    days, weekdays = meet(2, _DAY), meet(4, _WEEKDAY)
    if "*" in (first[2], second[2]):
        return weekdays
    if "*" in (first[4], second[4]):
        return days
    return days or weekdays


def _first_problem(pairs: Iterator[tuple[_Field, str]] | zip[tuple[_Field, str]]) -> str | None:
    for field, part in pairs:
        try:
            _values(field, part)
        except ValueError as error:
            return str(error)
    return None


def _values(field: _Field, part: str) -> frozenset[int]:
    result: set[int] = set()
    for item in part.split(","):
        result.update(_range(field, item))
    return frozenset(result)


def _range(field: _Field, item: str) -> range:
    span, slash, step_text = item.partition("/")
    step = _number(step_text) if slash else 1
    if step < 1:
        raise ValueError(f"step of range should be a positive number: {item}")
    if span in ("*", "?"):
        return range(field.low, field.high + 1, step)
    start_text, dash, end_text = span.partition("-")
    start = _point(field, start_text)
    end = _point(field, end_text) if dash else (field.high if slash else start)
    if start < field.low:
        raise ValueError(f"beginning of range ({start}) below minimum ({field.low}): {item}")
    if end > field.high:
        raise ValueError(f"end of range ({end}) above maximum ({field.high}): {item}")
    if start > end:
        raise ValueError(f"beginning of range ({start}) beyond end of range ({end}): {item}")
    return range(start, end + 1, step)


def _point(field: _Field, word: str) -> int:
    named = field.names.get(word.lower()) if field.names else None
    return _number(word) if named is None else named


def _number(word: str) -> int:
    if not word.isdecimal():
        raise ValueError(f'failed to parse int from {word}: strconv.Atoi: parsing "{word}": invalid syntax')
    return int(word)
