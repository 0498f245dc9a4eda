"""Schedules as people write and read them: `9:30AM Mon-Fri Europe/Berlin` and its cron text."""

from __future__ import annotations

import re
from collections.abc import Sequence

from warren.errors import Invalid

DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_TIME = re.compile(r"(\d{1,2})(?::(\d{2}))?\s*([ap]m)?", re.IGNORECASE)
_CRON = re.compile(r"(?:CRON_TZ=(\S+) )?(\d+) (\d+) \* \* (\S+)")


def cron(words: Sequence[str]) -> str | None:
    """Turn `<time> [days] [zone]` into a cron text with its zone; `manual` gives `None`.

    Raises:
        Invalid: it cannot be read.
    """
    if len(words) == 1 and words[0].lower() == "manual":
        return None
    if not 1 <= len(words) <= 3:
        raise Invalid("a schedule is a time, then days, then a time zone", hint="write it like 9:30AM Mon-Fri UTC")
    hour, minute = _clock(words[0])
    days, zone = "*", ""
    for word in words[1:]:
        if _is_days(word):
            days = word.lower() if word != "*" else "*"
        else:
            zone = _zone(word)
    return f"CRON_TZ={zone or local_zone()} {minute} {hour} * * {days}"


def text(schedule: str) -> str:
    """Write a cron text as people say it: `9:30AM Mon-Fri (Europe/Berlin)`; unknown forms stay as they are."""
    found = _CRON.fullmatch(schedule.strip())
    if found is None:
        return schedule
    zone, minute, hour, days = found[1] or "UTC", int(found[2]), int(found[3]), found[4]
    half = "AM" if hour < 12 else "PM"
    shown = "daily" if days == "*" else _day_names(days)
    return f"{hour % 12 or 12}:{minute:02d}{half} {shown} ({zone})"


def local_zone() -> str:
    """Find the name of this machine's time zone."""
    import os
    from pathlib import Path

    if name := os.environ.get("TZ", "").lstrip(":"):
        return name
    try:
        target = str(Path("/etc/localtime").resolve())
    except OSError:
        return "UTC"
    _, found, name = target.partition("zoneinfo/")
    return name if found else "UTC"


def _clock(word: str) -> tuple[int, int]:
    found = _TIME.fullmatch(word)
    if found is None:
        raise Invalid(f"`{word}` is not a time of day", hint="write it like 9:30AM, 21:30 or 7pm")
    hour, minute, half = int(found[1]), int(found[2] or 0), (found[3] or "").lower()
    if half and not 1 <= hour <= 12:
        raise Invalid(f"`{word}` is not a time of day")
    if half:
        hour = hour % 12 + (12 if half == "pm" else 0)
    if hour > 23 or minute > 59:
        raise Invalid(f"`{word}` is not a time of day")
    return hour, minute


def _is_days(word: str) -> bool:
    parts = re.split(r"[,-]", word.lower())
    return word == "*" or all(part in DAYS or (part.isdecimal() and int(part) <= 7) for part in parts)


def _zone(word: str) -> str:
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    try:
        ZoneInfo(word)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise Invalid(f"`{word}` is neither days nor a time zone", hint="write it like Mon-Fri, or UTC") from error
    return word


def _day_names(days: str) -> str:
    return re.sub(r"\d|[a-z]+", lambda found: _day_name(found[0]), days.lower())


def _day_name(day: str) -> str:
    return (DAYS[int(day) % 7] if day.isdecimal() else day).capitalize()
