from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warren.domain.parameter import (
    Answers,
    Option,
    Parameter,
    Preset,
    check,
    evaluate,
    match_preset,
    monotonic_problem,
    resolve,
    resolve_classic,
)
from warren.errors import Invalid

REGIONS = (Option("Europe", "eu"), Option("America", "us"))


# `Any`: the fields of a parameter, of which each test sets a few.
def parameter(name: str = "p", **fields: Any) -> Parameter:
    known: dict[str, Any] = {"name": name, "type": "string", "mutable": True, "required": False}
    return Parameter(**(known | fields))


CPU = parameter(
    "cpu", type="number", default_value="2", validation_min=1, validation_max=8, validation_monotonic="increasing"
)
REGION = parameter("region", mutable=False, default_value="eu", options=REGIONS)
NAME = parameter("name", default_value="abc", validation_regex="^[a-z]+$", validation_error="only lower-case letters")
DEBUG = parameter("debug", type="bool", default_value="false", ephemeral=True)
TAGS = parameter("tags", type="list(string)", default_value='["a","b"]')


@pytest.mark.parametrize(
    ("known", "value", "summary", "detail"),
    [
        (CPU, "4", "", ""),
        (CPU, "99", "Invalid parameter value according to 'validation' block", "value 99 is more than the maximum 8"),
        (CPU, "0", "Invalid parameter value according to 'validation' block", "value 0 is less than the minimum 1"),
        (CPU, "1.5", "Invalid parameter value according to 'validation' block", 'value "1.5" is not a number'),
        (REGION, "mars", "Value must be a valid option", 'the value "mars" must be defined as one of options'),
        (REGION, "us", "", ""),
        (
            NAME,
            "A1",
            "Invalid parameter value according to 'validation' block",
            'only lower-case letters (value "A1" does not match "^[a-z]+$")',
        ),
        (NAME, "abc\n", "Invalid parameter value according to 'validation' block", None),
        (NAME, "abc", "", ""),
        (DEBUG, "T", "", ""),
        (DEBUG, "maybe", 'Parameter value is not of type "bool"', None),
        (TAGS, "[]", "", ""),
        (TAGS, "a,b", 'Parameter value is not of type "list(string)"', None),
        (TAGS, "[1]", 'Parameter value is not of type "list(string)"', None),
        (parameter(type="number"), "1e3", "", ""),
        (parameter(type="number"), "x", 'Parameter value is not of type "number"', None),
        (parameter(form_type="multi-select", type="list(string)", options=REGIONS), '["eu","us"]', "", ""),
        (
            parameter(form_type="multi-select", type="list(string)", options=REGIONS),
            '["eu","mars"]',
            "Values must be a valid option",
            None,
        ),
        (CPU, None, "Required parameter not provided", "parameter value is null"),
    ],
)
def test_check(known: Parameter, value: str | None, summary: str, detail: str | None) -> None:
    problem = check(known, value)
    assert (problem.summary if problem else "") == summary
    if detail is not None:
        assert (problem.detail if problem else "") == detail


def test_custom_error_names_the_limits() -> None:
    known = parameter(type="number", validation_min=1, validation_max=3, validation_error="{value} is not {min}-{max}")
    problem = check(known, "7")
    assert problem is not None
    assert problem.detail == "7 is not 1-3"


def test_evaluate_gives_defaults_and_says_what_is_missing() -> None:
    asked = parameter("asked", required=True)
    found = evaluate([CPU, asked], {"cpu": "3"})
    assert [item.value for item in found] == ["3", None]
    assert [item.diagnostics[0].code if item.diagnostics else "-" for item in found] == ["-", "required"]


@pytest.mark.parametrize(
    ("value", "previous", "expected"),
    [("3", "4", "greater"), ("4", "4", ""), ("5", "4", ""), ("3", None, ""), ("3", "x", "")],
)
def test_monotonic(value: str, previous: str | None, expected: str) -> None:
    assert (expected in monotonic_problem(CPU, value, previous)) if expected else True
    assert bool(monotonic_problem(CPU, value, previous)) is bool(expected)


ALL = (CPU, REGION, NAME, DEBUG, TAGS)


def answers(
    requested: dict[str, str] | None = None,
    previous: dict[str, str] | None = None,
    preset: dict[str, str] | None = None,
    *,
    first: bool = False,
) -> Answers:
    return Answers(requested or {}, preset or {}, previous or {}, first)


def test_defaults_are_frozen_at_the_first_build() -> None:
    expected = {"cpu": "2", "region": "eu", "name": "abc", "debug": "false", "tags": '["a","b"]'}
    assert resolve(ALL, answers(first=True)) == expected


def test_precedence() -> None:
    previous = {"cpu": "3", "name": "old", "debug": "true", "gone": "x"}
    values = resolve(ALL, answers({"cpu": "4", "name": "asked"}, previous, {"name": "preset"}))
    assert values["cpu"] == "4"
    assert values["name"] == "preset"
    assert values["debug"] == "false"  # ephemeral: never from the build before
    assert "gone" not in values


@pytest.mark.parametrize(
    ("requested", "previous", "field", "detail"),
    [
        (
            {"region": "us"},
            {"region": "eu"},
            "region",
            'Immutable parameter changed; Parameter "region" is not mutable,'
            " so it can't be updated after creating a workspace.",
        ),
        (
            {"cpu": "1"},
            {"cpu": "4"},
            "cpu",
            "Parameter \"cpu\" monotonicity; parameter value '1' must be equal or greater than previous value: 4",
        ),
        (
            {"cpu": "99"},
            {},
            "cpu",
            "Invalid parameter value according to 'validation' block; value 99 is more than the maximum 8",
        ),
        (
            {"region": "mars"},
            {"region": "eu"},
            "region",
            'Immutable parameter changed; Parameter "region" is not mutable,'
            " so it can't be updated after creating a workspace., and 1 other diagnostic(s)",
        ),
    ],
)
def test_refused(requested: dict[str, str], previous: dict[str, str], field: str, detail: str) -> None:
    with pytest.raises(Invalid) as caught:
        resolve(ALL, answers(requested, previous))
    assert caught.value.message == "Unable to validate parameters"
    assert [(item.field, item.detail) for item in caught.value.violations] == [(field, detail)]


def test_a_new_immutable_parameter_may_be_set() -> None:
    assert resolve(ALL, answers({"region": "us"}, {"cpu": "2"}))["region"] == "us"


def test_required_parameter_without_value_is_refused() -> None:
    with pytest.raises(Invalid) as caught:
        resolve([parameter("asked", required=True)], answers(first=True))
    assert caught.value.violations[0].detail == "Required parameter not provided; parameter value is null"


def test_classic_rules() -> None:
    assert resolve_classic(ALL, answers({"cpu": "4"}, {"debug": "true"})) == {
        "cpu": "4", "region": "eu", "name": "abc", "debug": "false", "tags": '["a","b"]',
    }  # fmt: skip
    with pytest.raises(Invalid) as caught:
        resolve_classic([parameter("asked", required=True)], answers())
    assert caught.value.message == 'Unable to validate parameter "asked"'
    assert "is required but not provided" in caught.value.detail


@given(
    st.dictionaries(st.sampled_from(["cpu", "region", "name", "debug", "tags", "x"]), st.text(max_size=5)),
    st.dictionaries(st.sampled_from(["cpu", "region", "name", "debug", "tags", "x"]), st.text(max_size=5)),
)
def test_what_is_chosen_is_always_valid(requested: dict[str, str], previous: dict[str, str]) -> None:
    try:
        values = resolve(ALL, answers(requested, previous))
    except Invalid as error:
        assert error.violations
        return
    assert set(values) == {known.name for known in ALL}
    assert all(check(known, values[known.name]) is None for known in ALL)
    assert "region" not in previous or values["region"] == previous["region"]


def preset(name: str, **values: str) -> Preset:
    return Preset(uuid4(), name, "", "", is_default=False, desired_prebuilds=None, parameters=values)


def test_the_preset_that_says_most_is_matched() -> None:
    presets = [preset("any"), preset("eu", region="eu"), preset("big", region="eu", cpu="8"), preset("us", region="us")]
    found = match_preset(presets, {"region": "eu", "cpu": "8", "name": "abc"})
    assert found is not None
    assert found.name == "big"
    assert match_preset([preset("us", region="us")], {"region": "eu"}) is None
