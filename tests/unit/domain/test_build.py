from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warren.domain.build import (
    ALREADY_ACTIVE,
    BuildReason,
    Deadlines,
    Deny,
    Enqueue,
    Latest,
    Transition,
    WorkspaceStatus,
    deadlines,
    decide,
    reason_of,
    status_of,
)
from warren.domain.job import JobStatus
from warren.domain.schedule import ALL_DAYS, parse_weekly

MONDAY = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize("wanted", Transition)
def test_first_build_has_number_one(wanted: Transition) -> None:
    assert decide(None, wanted, deleted=False) == Enqueue(1)


@pytest.mark.parametrize("wanted", Transition)
@pytest.mark.parametrize("status", JobStatus)
@pytest.mark.parametrize("before", Transition)
def test_one_build_at_a_time(before: Transition, status: JobStatus, wanted: Transition) -> None:
    decision = decide(Latest(4, before, status), wanted, deleted=False)
    if status in (JobStatus.PENDING, JobStatus.RUNNING, JobStatus.CANCELING):
        assert decision == Deny(ALREADY_ACTIVE, ALREADY_ACTIVE)
    else:
        assert decision == Enqueue(5)


@pytest.mark.parametrize("wanted", Transition)
def test_deleted_workspace_is_not_built(wanted: Transition) -> None:
    decision = decide(Latest(4, Transition.DELETE, JobStatus.SUCCEEDED), wanted, deleted=True)
    assert isinstance(decision, Deny)
    assert decision.message == f"Cannot {wanted} a deleted workspace!"


@pytest.mark.parametrize(
    ("job", "transition", "expected"),
    [
        ("pending", "start", "pending"),
        ("running", "start", "starting"),
        ("running", "stop", "stopping"),
        ("running", "delete", "deleting"),
        ("succeeded", "start", "running"),
        ("succeeded", "stop", "stopped"),
        ("succeeded", "delete", "deleted"),
        ("canceling", "stop", "canceling"),
        ("canceled", "start", "canceled"),
        ("failed", "delete", "failed"),
    ],
)
def test_status(job: str, transition: str, expected: str) -> None:
    assert status_of(JobStatus(job), Transition(transition)) is WorkspaceStatus(expected)


@pytest.mark.parametrize(
    ("text", "transition", "expected"),
    [
        ("cli", Transition.START, BuildReason.CLI),
        ("ssh_connection", Transition.STOP, BuildReason.SSH),
        ("cli", Transition.DELETE, BuildReason.INITIATOR),
        ("autostart", Transition.START, BuildReason.INITIATOR),
        ("nonsense", Transition.START, BuildReason.INITIATOR),
        ("", Transition.START, BuildReason.INITIATOR),
    ],
)
def test_reason(text: str, transition: Transition, expected: BuildReason) -> None:
    assert reason_of(text, transition) is expected


@given(
    st.lists(
        st.tuples(st.sampled_from(Transition), st.sampled_from(JobStatus), st.sampled_from(JobStatus)), max_size=30
    )
)
def test_no_sequence_of_requests_breaks_the_lifecycle(
    requests: list[tuple[Transition, JobStatus, JobStatus]],
) -> None:
    latest: Latest | None = None
    deleted = False
    for wanted, first, last in requests:
        decision = decide(latest, wanted, deleted=deleted)
        if isinstance(decision, Enqueue):
            assert not deleted
            assert latest is None or not latest.status.active
            assert decision.number == (latest.number if latest else 0) + 1
            latest = Latest(decision.number, wanted, first)
        else:
            assert deleted or (latest is not None and latest.status.active)
        if latest is not None and latest.status.active:
            latest = Latest(latest.number, latest.transition, last)
        deleted = deleted or (
            latest is not None and latest.transition is Transition.DELETE and latest.status is JobStatus.SUCCEEDED
        )


def test_no_deadline_without_a_time_to_run() -> None:
    assert deadlines(MONDAY, None, None, autostart_days=ALL_DAYS) == Deadlines()


def test_deadline_is_the_end_of_the_time_to_run() -> None:
    assert deadlines(MONDAY, timedelta(hours=8), None, autostart_days=ALL_DAYS).deadline == MONDAY + timedelta(hours=8)


def test_deadline_passes_over_an_autostart() -> None:
    schedule = parse_weekly("CRON_TZ=UTC 0 14 * * *")
    found = deadlines(MONDAY, timedelta(hours=8), schedule, autostart_days=ALL_DAYS)
    assert found.deadline == MONDAY.replace(hour=22)
    forbidden = deadlines(MONDAY, timedelta(hours=8), schedule, autostart_days=ALL_DAYS & ~1)
    assert forbidden.deadline == MONDAY.replace(hour=20)
