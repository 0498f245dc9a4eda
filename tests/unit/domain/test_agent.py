"""How agents look at a moment, and what is kept of their reports."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from warren.domain import agent as rules
from warren.domain.agent import Agent, AgentStatus, BuildPoint, Lifecycle, MetadataValue
from warren.errors import Invalid

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
NIL = UUID(int=0)

NEW = Agent(
    id=NIL,
    parent_id=None,
    resource_id=NIL,
    name="main",
    auth_instance_id=None,
    architecture="amd64",
    operating_system="linux",
    directory="",
    expanded_directory="",
    environment_variables={},
    motd_file="",
    connection_timeout_seconds=120,
    troubleshooting_url="",
    display_apps=(),
    api_key_scope="all",
    resources_monitoring=None,
    version="",
    api_version="",
    subsystems=(),
    lifecycle=Lifecycle.CREATED,
    started_at=None,
    ready_at=None,
    first_connected_at=None,
    last_connected_at=None,
    disconnected_at=None,
    logs_length=0,
    logs_overflowed=False,
    created_at=NOW,
    updated_at=NOW,
)
SEEN = replace(NEW, first_connected_at=NOW, last_connected_at=NOW)


def after(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("agent", "seconds", "status", "disconnected_at"),
    [
        (NEW, 120, AgentStatus.CONNECTING, None),
        (NEW, 121, AgentStatus.TIMEOUT, None),
        (replace(NEW, connection_timeout_seconds=0), 9999, AgentStatus.CONNECTING, None),
        (SEEN, 30, AgentStatus.CONNECTED, None),
        (SEEN, 31, AgentStatus.DISCONNECTED, NOW),
        (replace(SEEN, disconnected_at=NOW), 1, AgentStatus.DISCONNECTED, NOW),
        (replace(SEEN, disconnected_at=after(5)), 6, AgentStatus.DISCONNECTED, after(5)),
        (replace(SEEN, disconnected_at=after(-5)), 6, AgentStatus.CONNECTED, after(-5)),
    ],
)
def test_status(agent: Agent, seconds: int, status: AgentStatus, disconnected_at: datetime | None) -> None:
    assert rules.status(agent, after(seconds)) == (status, disconnected_at)


@pytest.mark.parametrize(
    ("status", "lifecycle", "reason"),
    [
        (AgentStatus.CONNECTED, Lifecycle.READY, ""),
        (AgentStatus.CONNECTED, Lifecycle.START_TIMEOUT, ""),
        (AgentStatus.CONNECTED, Lifecycle.START_ERROR, "agent startup script exited with an error"),
        (AgentStatus.CONNECTED, Lifecycle.SHUTDOWN_ERROR, "agent is shutting down"),
        (AgentStatus.CONNECTED, Lifecycle.OFF, "agent is shutting down"),
        (AgentStatus.DISCONNECTED, Lifecycle.OFF, "agent is not running"),
        (AgentStatus.DISCONNECTED, Lifecycle.READY, "agent has lost connection"),
        (AgentStatus.CONNECTING, Lifecycle.CREATED, "agent has not yet connected"),
        (AgentStatus.TIMEOUT, Lifecycle.CREATED, "agent is taking too long to connect"),
    ],
)
def test_health(status: AgentStatus, lifecycle: Lifecycle, reason: str) -> None:
    health = rules.health(status, lifecycle)
    assert (health.healthy, health.reason) == (not reason, reason)


RUNNING = BuildPoint(3, "start", "succeeded")


@pytest.mark.parametrize(
    ("own", "latest", "may"),
    [
        (RUNNING, RUNNING, True),
        (RUNNING, BuildPoint(4, "stop", "pending"), True),
        (RUNNING, BuildPoint(4, "stop", "running"), True),
        (RUNNING, BuildPoint(4, "stop", "succeeded"), False),
        (RUNNING, BuildPoint(4, "start", "running"), False),
        (RUNNING, BuildPoint(4, "delete", "running"), False),
        (RUNNING, BuildPoint(5, "stop", "running"), False),
        (BuildPoint(3, "start", "failed"), BuildPoint(4, "stop", "running"), False),
    ],
)
def test_which_agents_speak_for_a_workspace(own: BuildPoint, latest: BuildPoint, may: bool) -> None:
    assert rules.may_connect(own, latest) is may


def test_metadata_is_cut_at_its_limits() -> None:
    values = [
        MetadataValue("a", " fits ", ""),
        MetadataValue("b", "ä" * 1025, ""),
        MetadataValue("c", "", "e" * 2049),
        MetadataValue("k" * 6141, "", ""),
        MetadataValue("z", "last straw", ""),
    ]
    kept, problem = rules.check_metadata(values)
    assert kept[0] == MetadataValue("a", "fits", "")
    assert kept[1] == MetadataValue("b", "ä" * 1024, "value of 2050 bytes exceeded 2048 bytes")
    assert kept[2] == MetadataValue("c", "", "error of 2049 bytes exceeded 2048 bytes")
    assert len(kept) == 4
    assert problem == "metadata keys of 6145 bytes exceeded 6144 bytes"


@pytest.mark.parametrize("version", ["v2.31.0", "v2.31", "v0.0.0-devel+1234567", "v1.2.3-rc.1"])
def test_versions_that_agents_have(version: str) -> None:
    assert rules.check_version(version) == version


@pytest.mark.parametrize("version", ["", "2.31.0", "v", "v2.31.0\n", "vx.y.z", "v1.2.3.4"])
def test_versions_that_no_agent_has(version: str) -> None:
    with pytest.raises(Invalid):
        rules.check_version(version)


def test_use_moves_a_deadline_seldom_and_never_past_the_latest() -> None:
    hour = timedelta(hours=1)
    assert rules.bumped_deadline(None, None, hour, NOW) is None
    assert rules.bumped_deadline(NOW + hour * 8, None, hour, NOW) is None
    assert rules.bumped_deadline(NOW + timedelta(minutes=59), None, hour, NOW) is None
    assert rules.bumped_deadline(NOW + timedelta(minutes=5), None, hour, NOW) == NOW + hour
    latest = NOW + timedelta(minutes=30)
    assert rules.bumped_deadline(NOW + timedelta(minutes=5), latest, hour, NOW) == latest
    assert rules.bumped_deadline(NOW - timedelta(minutes=5), None, hour, NOW) is None
    assert rules.bumped_deadline(NOW + timedelta(minutes=5), None, timedelta(0), NOW) is None


def test_latencies_carry_the_names_of_regions() -> None:
    measured = {"999-v4": 0.01, "999-v6": 0.02, "1000-v6": 0.03, "7-v4": 0.5, "junk": 1.0}
    found = rules.latencies(measured, 999, {999: "Here", 1000: "There"})
    assert {name: (each.preferred, round(each.milliseconds)) for name, each in found.items()} == {
        "Here": (True, 10),
        "There": (False, 30),
    }


def test_monitoring_reads_what_templates_say() -> None:
    document = {"memory": {"enabled": True, "threshold": 1}, "volumes": [{"path": "/", "enabled": False}]}
    found = rules.monitoring(document)
    assert (found.memory, found.volumes) == (True, {"/": False})
    assert rules.monitoring(None) == rules.Monitoring(None, {})
    assert rules.monitoring({"memory": None, "volumes": []}) == rules.Monitoring(None, {})


def test_status_messages_lose_control_characters() -> None:
    assert rules.check_app_status("idle", "a\x1b[31mb\n") == "a[31mb\n"
    for state, message in (("idle", "x" * 161), ("busy", "x")):
        with pytest.raises(Invalid):
            rules.check_app_status(state, message)
