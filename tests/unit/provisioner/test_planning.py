"""How the provider plans, and what it accepts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warren.provisioner.coder_provider import checks, planning, schedules
from warren.provisioner.coder_provider.schema import DATA_SOURCES, RESOURCES
from warren.provisioner.coder_provider.values import UNKNOWN, Object, Value, decode, encode

ENV = RESOURCES["coder_env"]


def test_a_new_resource_gets_defaults_and_unknown_ids() -> None:
    config: Object = {"agent_id": UNKNOWN, "name": "A", "value": None}
    planned = planning.plan(ENV, None, config, config)
    assert planned.replaces == ()
    assert planned.state == {
        "id": UNKNOWN,
        "agent_id": UNKNOWN,
        "name": "A",
        "value": None,
        "merge_strategy": "replace",
    }


def test_an_unchanged_resource_stays() -> None:
    prior: Object = {"id": "i", "agent_id": "a", "name": "A", "value": "", "merge_strategy": "replace"}
    proposed: Object = {"id": "i", "agent_id": "a", "name": "A", "value": None, "merge_strategy": None}
    planned = planning.plan(ENV, prior, proposed, {"name": "A"})
    assert planned.replaces == ()
    assert planned.state == prior


def test_a_changed_attribute_forces_a_replacement() -> None:
    prior: Object = {"id": "i", "agent_id": "a", "name": "A", "value": "1", "merge_strategy": "replace"}
    for change in ({"value": "2"}, {"agent_id": UNKNOWN}):
        proposed: Object = {**prior, **change}
        assert planning.plan(ENV, prior, proposed, proposed).replaces == tuple(change)


def test_display_apps_are_there_without_a_block() -> None:
    planned = planning.plan(RESOURCES["coder_agent"], None, {"os": "linux", "arch": "arm64"}, {})
    assert planned.state["display_apps"] == [
        {
            "vscode": True,
            "vscode_insiders": False,
            "web_terminal": True,
            "ssh_helper": True,
            "port_forwarding_helper": True,
        }
    ]


def test_a_state_of_another_version_is_made_to_fit() -> None:
    state = planning.conform(RESOURCES["coder_app"], {"slug": "a", "relative_path": True, "healthcheck": None})
    assert state["slug"] == "a"
    assert state["tooltip"] is None
    assert state["healthcheck"] == []
    assert "relative_path" not in state


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        (None, "", True),
        (None, False, True),
        (None, [], True),
        (None, "x", False),
        (1, 1.0, True),
        ("1", 1, True),
        ("1", "1.0", False),
        ([{"a": None}], [{"a": 0}], True),
        ([1], [1, 2], False),
        ({"a": "1"}, {"a": "1", "b": None}, True),
        (UNKNOWN, UNKNOWN, False),
        (True, False, False),
    ],
)
def test_unset_and_zero_mean_the_same(left: Value, right: Value, same: bool) -> None:
    assert planning.equivalent(left, right) is same


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**31), 2**31) | st.text(max_size=5) | st.just(UNKNOWN),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(values)
def test_values_survive_the_wire(value: Value) -> None:
    assert decode(encode(value)) == value


def complaints(kind: str, config: Object) -> list[str]:
    return [f"{item.message} {item.detail}" for item in checks.violations(kind, config, data=kind in DATA_SOURCES)]


BROKEN: list[tuple[str, Object, str]] = [
    ("coder_agent", {"os": "plan9"}, "expected os to be one of"),
    ("coder_agent", {"arch": "386"}, "expected arch to be one of"),
    ("coder_agent", {"connection_timeout": -1}, "connection_timeout"),
    ("coder_agent", {"metadata": [{"key": "a"}, {"key": "a"}]}, 'duplicate agent metadata key "a"'),
    ("coder_agent", {"resources_monitoring": [{}]}, "resources_monitoring must define at least one monitor"),
    (
        "coder_agent",
        {"resources_monitoring": [{"volume": [{"path": "/a"}, {"path": "/a"}]}]},
        'duplicate volume path "/a"',
    ),
    ("coder_agent", {"resources_monitoring": [{"memory": [{"threshold": 101}]}]}, "range (0 - 100)"),
    ("coder_app", {"slug": "a--b"}, "slug"),
    ("coder_app", {"slug": "a", "command": "x", "url": "y"}, '"command": conflicts with url'),
    ("coder_app", {"slug": "a", "external": True, "share": "owner"}, '"external": conflicts with share'),
    ("coder_app", {"slug": "a", "display_name": "x" * 65}, "display name is too long (max 64 characters)"),
    ("coder_script", {}, 'at least one of "run_on_start", "run_on_stop", or "cron" must be set'),
    ("coder_script", {"run_on_stop": True, "start_blocks_login": True}, "start_blocks_login"),
    ("coder_script", {"cron": "61 * * * * *"}, "cron"),
    ("coder_script", {"cron": "0 0 * * * *", "timeout": 0}, "timeout"),
    ("coder_env", {"name": "1A"}, "must be a valid environment variable name"),
    ("coder_metadata", {"item": [{"key": "k"}, {"key": "k"}]}, 'duplicate resource metadata key "k"'),
    ("coder_devcontainer", {"workspace_folder": ""}, "not be an empty string"),
    ("coder_ai_task", {"app_id": "x"}, "valid UUID"),
    ("coder_workspace_preset", {"name": ""}, "not be an empty string"),
    ("coder_workspace_preset", {"name": "a", "prebuilds": [{"instances": -1}]}, "instances"),
    (
        "coder_workspace_preset",
        {"name": "a", "prebuilds": [{"expiration_policy": [{"ttl": 60}]}]},
        "must be 0 or between 3600",
    ),
]


@pytest.mark.parametrize(("kind", "config", "words"), BROKEN)
def test_rules(kind: str, config: Object, words: str) -> None:
    assert any(words in message for message in complaints(kind, config)), complaints(kind, config)


def test_what_is_not_known_yet_breaks_no_rule() -> None:
    assert complaints("coder_script", {"cron": UNKNOWN}) == []
    assert complaints("coder_agent", {"os": UNKNOWN, "arch": UNKNOWN, "resources_monitoring": []}) == []


@pytest.mark.parametrize(
    ("cron", "valid"),
    [
        ("0 0 7 * * 1-5", True),
        ("0 7 * * 1", True),
        ("*/15 * * * * *", True),
        ("0 0 0 1 JAN SUN", True),
        ("@daily", True),
        ("@every 5m", True),
        ("CRON_TZ=UTC 0 0 7 * * *", True),
        ("* * * *", False),
        ("0 0 24 * * *", False),
        ("0 0 5-3 * * *", False),
        ("0 0 */0 * * *", False),
        ("@sometimes", False),
        ("", False),
    ],
)
def test_crons_of_scripts(cron: str, valid: bool) -> None:
    assert (schedules.script_problem(cron) is None) is valid


@pytest.mark.parametrize(
    ("first", "second", "clash"),
    [
        ("* 8-18 * * 1-5", "* 9 * * 5", True),
        ("* 8-18 * * 1-5", "* 19-23 * * 1-5", False),
        ("* 8-18 * * 1-5", "* 8-18 * * 6,0", False),
        ("* * 1 * *", "* * 2 * *", False),
        ("* * 1 * *", "* * * * 1", True),
        ("* * 1-10 * 1", "* * 11-20 * 1", True),
        ("* * * 1 *", "* * * 2 *", False),
    ],
)
def test_overlapping_schedules(first: str, second: str, clash: bool) -> None:
    problem = schedules.overlap([first, second])
    assert (problem is not None) is clash
    if problem:
        assert problem == f"schedules overlap with each other: schedules overlap: {first} and {second}"


def test_preset_schedules_and_zones() -> None:
    assert schedules.preset_problem("* 8 * * *") is None
    assert schedules.preset_problem("0 8 * * *") == "cron spec failed validation: minute field should be *"
    assert schedules.preset_problem("* 8 * *") == 'cron spec "* 8 * *" should consist of 5 fields'
    assert schedules.zone_problem("Europe/Berlin") is None
    assert schedules.zone_problem("Mars/Base") is not None
