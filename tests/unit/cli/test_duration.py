from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warren.cli import duration
from warren.errors import Invalid


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", timedelta()),
        ("30s", timedelta(seconds=30)),
        ("1h30m", timedelta(hours=1, minutes=30)),
        ("1.5h", timedelta(minutes=90)),
        ("7d", timedelta(days=7)),
        ("2w", timedelta(days=14)),
        ("1y", timedelta(days=365)),
        ("250ms", timedelta(milliseconds=250)),
        ("-5m", timedelta(minutes=-5)),
        ("+5m", timedelta(minutes=5)),
        ("1m0s", timedelta(minutes=1)),
    ],
)
def test_reads_durations(text: str, expected: timedelta) -> None:
    assert duration.parse(text) == expected


@pytest.mark.parametrize("text", ["", "5", "h", "5x", "1h 5m", "5m!", "--5m", "1hh"])
def test_refuses_what_is_no_duration(text: str) -> None:
    with pytest.raises(Invalid):
        duration.parse(text)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (timedelta(), "0s"),
        (timedelta(microseconds=7), "7µs"),
        (timedelta(milliseconds=12), "12ms"),
        (timedelta(microseconds=12_340), "12.34ms"),
        (timedelta(seconds=1.5), "1.5s"),
        (timedelta(minutes=1), "1m0s"),
        (timedelta(hours=1, minutes=30), "1h30m0s"),
        (timedelta(days=2), "48h0m0s"),
        (timedelta(hours=-1), "-1h0m0s"),
    ],
)
def test_writes_durations_as_go_does(value: timedelta, expected: str) -> None:
    assert duration.text(value) == expected


@given(st.integers(min_value=-(10**15), max_value=10**15))
def test_reads_what_it_wrote(microseconds: int) -> None:
    value = timedelta(microseconds=microseconds)
    assert abs(duration.parse(duration.text(value)) - value) <= timedelta(microseconds=1)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(timedelta(hours=8), "8h"), (timedelta(minutes=90), "1h30m"), (timedelta(seconds=5), "5s")],
)
def test_short_form_leaves_zero_parts_out(value: timedelta, expected: str) -> None:
    assert duration.short(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (timedelta(days=3, hours=4, minutes=5), "3d4h"),
        (timedelta(seconds=59), "59s"),
        (timedelta(hours=1, seconds=5), "1h5s"),
        (timedelta(seconds=-3), "0s"),
    ],
)
def test_age_has_two_units(value: timedelta, expected: str) -> None:
    assert duration.about(value) == expected
