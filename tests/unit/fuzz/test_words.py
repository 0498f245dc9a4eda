"""Words that users write: searches and schedules."""

from __future__ import annotations

import contextlib

from tests.unit.fuzz.corpus import fuzz
from warren.domain import schedule, search
from warren.errors import Invalid


@fuzz("search")
def test_a_search(data: bytes) -> None:
    query = data.decode(errors="replace")
    with contextlib.suppress(Invalid):
        search.workspace_filter(query)
    with contextlib.suppress(Invalid):
        search.template_filter(query)


@fuzz("schedule")
def test_a_schedule(data: bytes) -> None:
    with contextlib.suppress(Invalid):
        schedule.parse_weekly(data.decode(errors="replace"))
