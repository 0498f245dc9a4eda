"""When scripts run by the clock: seconds come first, and the day of the week may be left out."""

from __future__ import annotations

from datetime import datetime, timedelta

from warren.errors import Invalid

_FIELDS_WITHOUT_WEEKDAY = 5
_FIELDS = 6


def next_run(expression: str, after: datetime) -> datetime:
    """Say when `expression` (second minute hour day month [weekday]) is due next, strictly after `after`.

    Raises:
        Invalid: it is not such an expression, or never due.
    """
    from cronsim import CronSim, CronSimError

    fields = expression.split()
    if len(fields) == _FIELDS_WITHOUT_WEEKDAY:
        fields.append("*")
    if len(fields) != _FIELDS:
        raise Invalid(f"expected 5 to 6 fields, found {len(fields)}: {expression!r}")
    try:
        return next(CronSim(" ".join(fields), after))
    except (CronSimError, StopIteration) as error:
        raise Invalid(f"bad cron expression {expression!r}: {error}") from error


def pause_seconds(expression: str, now: datetime) -> float:
    """Say how long to wait from `now` until the expression is due."""
    return (next_run(expression, now) - now) / timedelta(seconds=1)
