from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from warren.domain.build import Build, BuildReason, Transition
from warren.domain.job import JobStatus
from warren.domain.resource import Agent, Env, environment
from warren.domain.template import (
    TemplateSettings,
    check_settings,
    days_from_names,
    display_name_problem,
    generated_name,
    name_problem,
    names_from_days,
    version_name_problem,
)
from warren.domain.workspace import check_automatic_updates, check_extension, check_schedule, check_ttl
from warren.errors import Conflict, Invalid

NOW = datetime(2026, 11, 21, 10, tzinfo=UTC)
HOUR = timedelta(hours=1)
BUILD = Build(
    id=uuid4(),
    workspace_id=uuid4(),
    template_version_id=uuid4(),
    template_version_preset_id=None,
    job_id=uuid4(),
    initiator_id=uuid4(),
    build_number=1,
    transition=Transition.START,
    reason=BuildReason.INITIATOR,
    daily_cost=0,
    deadline=NOW + HOUR,
    max_deadline=None,
    has_ai_task=None,
    has_external_agent=None,
    created_at=NOW,
    updated_at=NOW,
)


@pytest.mark.parametrize("name", ["dev", "a", "A-1-b", "x" * 32])
def test_names(name: str) -> None:
    assert name_problem(name, tag="workspace_name") is None


@pytest.mark.parametrize("name", ["", "-", "a-", "-a", "a--b", "Bad_Name!", "x" * 33, "new", "Create", "ä", "a\n"])
def test_bad_names(name: str) -> None:
    problem = name_problem(name, tag="workspace_name")
    assert problem is not None
    assert problem.detail == f'Validation failed for tag "workspace_name" with value: "{name}"'


@pytest.mark.parametrize(("name", "good"), [("v1.2_3-x", True), ("x" * 64, True), ("x" * 65, False), ("a..b", False)])
def test_version_names(name: str, *, good: bool) -> None:
    assert (version_name_problem(name) is None) is good


def test_display_names() -> None:
    assert display_name_problem("") is None
    assert display_name_problem("My Box") is None
    assert display_name_problem(" x") is not None
    assert display_name_problem("x" * 65) is not None


@pytest.mark.parametrize("number", [0, 1, 2**64 - 1])
def test_generated_names_are_good_names(number: int) -> None:
    assert version_name_problem(generated_name(number)) is None


@pytest.mark.parametrize(("given", "expected"), [(None, None), (0, None), (60_000, 60_000), (119_999, 60_000)])
def test_ttl(given: int | None, expected: int | None) -> None:
    assert check_ttl(given) == expected


@pytest.mark.parametrize(
    ("given", "detail"),
    [
        (1, "time until shutdown must be at least one minute"),
        (-5, "time until shutdown must be at least one minute"),
        (31 * 24 * 3600 * 1000, "time until shutdown must be less than 30 days"),
    ],
)
def test_bad_ttl(given: int, detail: str) -> None:
    with pytest.raises(Invalid) as caught:
        check_ttl(given)
    assert caught.value.violations[0].detail == detail


def test_schedule() -> None:
    assert check_schedule("", allowed=False) is None
    assert check_schedule("0 9 * * 1-5", allowed=True) == "0 9 * * 1-5"
    with pytest.raises(Invalid, match="Invalid autostart schedule"):
        check_schedule("nonsense", allowed=True)
    with pytest.raises(Invalid, match="not allowed"):
        check_schedule("0 9 * * 1-5", allowed=False)


def test_automatic_updates() -> None:
    assert check_automatic_updates("") == "never"
    assert check_automatic_updates("always") == "always"
    with pytest.raises(Invalid):
        check_automatic_updates("sometimes")


def test_extension() -> None:
    check_extension(BUILD, JobStatus.SUCCEEDED, NOW + HOUR, NOW)
    for build, status in (
        (replace(BUILD, transition=Transition.STOP), JobStatus.SUCCEEDED),
        (BUILD, JobStatus.RUNNING),
        (replace(BUILD, deadline=None), JobStatus.SUCCEEDED),
    ):
        with pytest.raises(Conflict):
            check_extension(build, status, NOW + HOUR, NOW)
    with pytest.raises(Invalid):
        check_extension(BUILD, JobStatus.SUCCEEDED, NOW + timedelta(minutes=28), NOW)
    with pytest.raises(Invalid):
        check_extension(replace(BUILD, max_deadline=NOW + HOUR), JobStatus.SUCCEEDED, NOW + 2 * HOUR, NOW)


def test_settings_report_every_problem() -> None:
    check_settings(TemplateSettings(name="t"))
    with pytest.raises(Invalid) as caught:
        check_settings(
            TemplateSettings(
                name="Bad Name!", default_ttl_ms=-1, failure_ttl_ms=5, autostop_weeks=17, max_port_share_level="x"
            )
        )
    assert [item.field for item in caught.value.violations] == [
        "name", "default_ttl_ms", "failure_ttl_ms", "autostop_requirement.weeks", "max_port_share_level",
    ]  # fmt: skip


def test_weekdays() -> None:
    assert names_from_days(0b100_0001) == ["monday", "sunday"]
    assert days_from_names("x", ["sunday", "monday"]) == 0b100_0001
    with pytest.raises(Invalid):
        days_from_names("x", ["Monday"])


def agent(*envs: Env, **own: str) -> Agent:
    return Agent(
        name="main", token="", instance_id="", operating_system="linux", architecture="amd64", directory="", env=own,
        extra_envs=envs, motd_file="", connection_timeout_seconds=120, troubleshooting_url="", display_apps=(),
        display_order=0, api_key_scope="", resources_monitoring=None, apps=(), scripts=(), metadata=(),
    )  # fmt: skip


def test_environment() -> None:
    envs = (Env("P", "a", "replace"), Env("P", "b", "append"), Env("P", "0", "prepend"), Env("Q", "x", "error"))
    assert environment(agent(*envs, Q="own")) == {"P": "0:a:b", "Q": "own"}
    with pytest.raises(Invalid, match='merge_strategy is "error"'):
        environment(agent(Env("P", "a", ""), Env("P", "b", "error")))
