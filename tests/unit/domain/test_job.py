from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warren.domain.job import (
    LOG_LIMIT_BYTES,
    LOGS_OVERFLOWED,
    Job,
    JobStatus,
    JobType,
    LogLevel,
    LogLine,
    LogSource,
    QueuePlace,
    StoredLogLine,
    Waiting,
    check_cancel,
    check_owner,
    error_code,
    fit,
    places,
)
from warren.domain.tags import UNTAGGED, merge, runs, scoped
from warren.errors import Conflict, Invalid

NOW = datetime(2026, 11, 21, 10, tzinfo=UTC)
WORKER = uuid4()


def line(output: str, stage: str = "Plan") -> LogLine:
    return LogLine(NOW, LogSource.PROVISIONER, LogLevel.INFO, stage, output)


def job(*, started: bool = True, canceled: bool = False, completed: bool = False) -> Job:
    return Job(
        id=uuid4(),
        organization_id=uuid4(),
        initiator_id=uuid4(),
        provisioner="terraform",
        type=JobType.BUILD,
        file_id=uuid4(),
        input={},
        tags=UNTAGGED,
        worker_id=WORKER if started else None,
        fence=3,
        error="",
        error_code="",
        logs_overflowed=False,
        created_at=NOW,
        updated_at=NOW,
        started_at=NOW if started else None,
        canceled_at=NOW if canceled else None,
        completed_at=NOW if completed else None,
        status=JobStatus.RUNNING,
    )


def test_lines_are_cut_to_their_columns() -> None:
    batch = fit([line("x" * 5000, stage="s" * 500), line("a\0b")], length=0, overflowed=False)
    assert [len(kept.output) for kept in batch.lines] == [1024, 2]
    assert len(batch.lines[0].stage) == 128
    assert batch.length == 1026


def test_an_overflowing_log_says_so_once() -> None:
    batch = fit([line("x" * 1000)] * 2000, length=0, overflowed=False)
    assert batch.overflowed
    assert batch.length <= LOG_LIMIT_BYTES
    assert batch.lines[-1].output == LOGS_OVERFLOWED
    assert batch.lines[-1].level is LogLevel.WARN
    assert sum(kept.output == LOGS_OVERFLOWED for kept in batch.lines) == 1
    assert fit([line("more")], length=batch.length, overflowed=True).lines == []


@given(st.lists(st.text(max_size=2000), max_size=40), st.integers(0, LOG_LIMIT_BYTES))
def test_a_log_never_grows_over_its_limit(outputs: list[str], length: int) -> None:
    batch = fit([line(output) for output in outputs], length=min(length, LOG_LIMIT_BYTES - 200), overflowed=False)
    assert batch.length <= LOG_LIMIT_BYTES


@pytest.mark.parametrize(
    ("found", "worker", "fence", "complaint"),
    [
        (job(), WORKER, 3, ""),
        (job(), WORKER, 2, "you don't own this job"),
        (job(), uuid4(), 3, "you don't own this job"),
        (job(started=False), WORKER, 3, "job isn't running yet"),
        (job(completed=True), WORKER, 3, "job already completed"),
    ],
)
def test_only_the_holder_of_the_newest_lease_reports(found: Job, worker: UUID, fence: int, complaint: str) -> None:
    if not complaint:
        check_owner(found, worker, fence)
        return
    with pytest.raises(Conflict, match=complaint):
        check_owner(found, worker, fence)


def test_cancel() -> None:
    check_cancel(job())
    with pytest.raises(Invalid, match="Job has already completed!"):
        check_cancel(job(completed=True))
    with pytest.raises(Invalid, match="Job has already been marked as canceled!"):
        check_cancel(job(canceled=True))


def test_error_codes() -> None:
    assert error_code("x: missing parameter: y") == "MISSING_TEMPLATE_PARAMETER"
    assert error_code("required template variables need values: a") == "REQUIRED_TEMPLATE_VARIABLES"
    assert error_code("exit status 1") == ""


def test_text_of_a_line() -> None:
    stored = StoredLogLine(1, NOW, LogSource.PROVISIONER, LogLevel.INFO, "Plan", "hello")
    assert stored.text() == "2026-11-21T10:00:00Z [info] [provisioner|Plan] hello"


USER = {"scope": "user", "owner": "u"}


@pytest.mark.parametrize(
    ("daemon", "wanted", "expected"),
    [
        (UNTAGGED, UNTAGGED, True),
        (dict(UNTAGGED) | {"env": "a"}, UNTAGGED, False),
        (dict(UNTAGGED) | {"env": "a", "dc": "b"}, dict(UNTAGGED) | {"env": "a"}, True),
        (UNTAGGED, dict(UNTAGGED) | {"env": "a"}, False),
        (USER, USER, True),
        (USER | {"env": "a"}, USER, True),
        (USER, USER | {"owner": "v"}, False),
        (UNTAGGED, USER, False),
    ],
)
def test_which_daemon_runs_which_job(daemon: dict[str, str], wanted: dict[str, str], *, expected: bool) -> None:
    assert runs(daemon, wanted) is expected


def test_scope_and_owner_of_tags() -> None:
    user = uuid4()
    assert scoped({}, user) == UNTAGGED
    assert scoped({"scope": "nonsense", "owner": "x"}, user) == UNTAGGED
    assert scoped({"scope": "user", "env": "a"}, user) == {"scope": "user", "owner": str(user), "env": "a"}
    assert merge({"a": "1", "b": "2"}, {"a": "", "b": "3", "c": ""}) == {"a": "1", "b": "3", "c": ""}


def test_places_in_the_queue() -> None:
    first, second, third = (Waiting(uuid4(), tags) for tags in (UNTAGGED, USER, UNTAGGED))
    found = places([first, second, third], [UNTAGGED, UNTAGGED])
    assert found == {first.id: QueuePlace(1, 2), third.id: QueuePlace(2, 2)}
    assert places([first], []) == {}
