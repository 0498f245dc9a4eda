from __future__ import annotations

from datetime import UTC, datetime

import pytest

from warren.domain.schedule import parse_weekly
from warren.errors import Invalid


@pytest.mark.parametrize(
    ("text", "after", "expected"),
    [
        ("30 9 * * 1-5", "2026-11-21T12:00", "2026-11-23T09:30"),  # Saturday to Monday
        ("CRON_TZ=Europe/Berlin 30 9 * * 1-5", "2026-11-21T12:00", "2026-11-23T08:30"),
        ("CRON_TZ=Europe/Berlin 30 9 * * 1-5", "2026-07-20T07:30", "2026-07-21T07:30"),  # summer; strictly later
        ("0 0 * * 0", "2026-11-21T12:00", "2026-11-22T00:00"),
        ("0 0 * * 7", "2026-11-21T12:00", "2026-11-22T00:00"),
        ("0 0 * * SUN", "2026-11-21T12:00", "2026-11-22T00:00"),
        ("*/20 8,17 * * *", "2026-11-21T08:20", "2026-11-21T08:40"),
        ("*/20 8,17 * * *", "2026-11-21T08:40", "2026-11-21T17:00"),
        ("0 12 * * 6", "2026-11-21T12:00", "2026-11-28T12:00"),  # the very moment counts for the next week
    ],
)
def test_next(text: str, after: str, expected: str) -> None:
    start = datetime.fromisoformat(after).replace(tzinfo=UTC)
    assert parse_weekly(text).next(start) == datetime.fromisoformat(expected).replace(tzinfo=UTC)


def test_forbidden_days_are_passed_over() -> None:
    saturday = datetime(2026, 11, 21, 12, tzinfo=UTC)
    assert parse_weekly("0 9 * * *").next(saturday, allowed_days=0b10) == datetime(2026, 11, 24, 9, tzinfo=UTC)
    assert parse_weekly("0 9 * * *").next(saturday, allowed_days=0) is None


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("nonsense", "expected schedule to consist of 5 fields with an optional CRON_TZ=<timezone> prefix"),
        ("0 9 1 * *", "expected day-of-month to be *"),
        ("0 9 * 2 *", "expected month to be *"),
        ("60 9 * * *", "60 is not between 0 and 59"),
        ("0 9-8 * * *", "beginning of range (9) beyond end of range (8)"),
        ("x 9 * * *", "failed to parse int from x"),
        ("CRON_TZ=Mars/Base 0 9 * * *", "unknown time zone Mars/Base"),
        ("CRON_TZ=Local 0 9 * * *", "local time"),
        ("CRON_TZ=../../etc/passwd 0 9 * * *", "unknown time zone"),
    ],
)
def test_refused(text: str, complaint: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse_weekly(text)
    assert complaint in caught.value.message
