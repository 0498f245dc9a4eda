"""Weekly schedules: `CRON_TZ=Europe/Berlin 30 9 * * 1-5`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from warren.errors import Invalid

ALL_DAYS = 0b111_1111
"""Every weekday; bit 0 is Monday."""

_DAY_NAMES = {name: number for number, name in enumerate(("sun", "mon", "tue", "wed", "thu", "fri", "sat"))}
_PREFIXES = ("CRON_TZ=", "TZ=")
_SHAPE = "expected schedule to consist of 5 fields with an optional CRON_TZ=<timezone> prefix"


@dataclass(frozen=True, slots=True)
class Weekly:
    """A cron expression that names times of day and weekdays, in a time zone."""

    zone: ZoneInfo
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: int
    """Weekdays as bits, bit 0 is Monday."""

    def next(self, after: datetime, *, allowed_days: int = ALL_DAYS) -> datetime | None:
        """Find the first time later than `after` on an allowed weekday; `None` when there is none in eight days."""
        local = after.astimezone(self.zone)
        for offset in range(9):
            day = (local + timedelta(days=offset)).date()
            if not self.days & allowed_days & (1 << day.weekday()):
                continue
            for hour in self.hours:
                for minute in self.minutes:
                    moment = datetime.combine(day, time(hour, minute), self.zone).astimezone(UTC)
                    if moment > after:
                        return moment
        return None


def parse_weekly(text: str) -> Weekly:
    """Read a schedule.

    Raises:
        Invalid: it is not a weekly schedule; the message says why.
    """
    fields = text.split()
    zone = ZoneInfo("UTC")
    for prefix in _PREFIXES:
        if fields and fields[0].startswith(prefix):
            zone = _zone(fields.pop(0).removeprefix(prefix))
    if len(fields) != 5:
        raise Invalid(f"validate weekly schedule: {_SHAPE}")
    minute, hour, day_of_month, month, day_of_week = fields
    if day_of_month != "*":
        raise Invalid("validate weekly schedule: expected day-of-month to be *")
    if month != "*":
        raise Invalid("validate weekly schedule: expected month to be *")
    return Weekly(zone, _numbers(minute, 0, 59), _numbers(hour, 0, 23), _weekdays(day_of_week))


def _zone(name: str) -> ZoneInfo:
    if name.lower() == "local":
        raise Invalid("schedules scoped to system local time are not supported")
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise Invalid(f"parse schedule: provided bad location {name}: unknown time zone {name}") from error


def _weekdays(field: str) -> int:
    bits = 0
    for day in _numbers(field, 0, 7):
        bits |= 1 << ((day - 1) % 7)  # cron counts from Sunday (0 and 7), the bits from Monday
    return bits


def _numbers(field: str, lowest: int, highest: int) -> tuple[int, ...]:
    found: set[int] = set()
    for part in field.split(","):
        span, slash, step_text = part.partition("/")
        step = _number(step_text, 1, highest) if slash else 1
        if span == "*":
            first, last = lowest, highest
        else:
            start, dash, end = span.partition("-")
            first = _number(start, lowest, highest)
            last = _number(end, lowest, highest) if dash else (highest if slash else first)
        if last < first:
            raise Invalid(f"parse schedule: beginning of range ({first}) beyond end of range ({last}): {part}")
        found.update(range(first, last + 1, step))
    return tuple(sorted(found))


def _number(text: str, lowest: int, highest: int) -> int:
    if highest == 7 and text.lower() in _DAY_NAMES:
        return _DAY_NAMES[text.lower()]
    if not (text.isascii() and text.isdigit()):
        raise Invalid(f"parse schedule: failed to parse int from {text}")
    number = int(text)
    if not lowest <= number <= highest:
        raise Invalid(f"parse schedule: {number} is not between {lowest} and {highest}")
    return number
