"""The value of a `coder_parameter`, and the rules it must keep."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pytest

from warren.errors import Invalid
from warren.provisioner.coder_provider import parameter
from warren.provisioner.coder_provider.values import Object, Value

OPTIONS: list[Value] = [{"name": "A", "value": "a"}, {"name": "B", "value": "b"}]


def read(given: str | None, config: Mapping[str, Value], previous: str | None = None) -> Object:
    environment: dict[str, str] = {}
    if given is not None:
        environment[parameter.environment_name("p")] = given
    if previous is not None:
        environment[parameter.previous_environment_name("p")] = previous
    return parameter.read({"name": "p", "type": "string", **config}, environment)


def rule(**values: Value) -> list[Value]:
    return [values]


@pytest.mark.parametrize(
    ("given", "config", "value"),
    [
        (None, {}, ""),
        (None, {"default": "d"}, "d"),
        ("x", {"default": "d"}, "x"),
        ("", {"default": "d"}, ""),
        (None, {"option": OPTIONS}, ""),
        ("b", {"option": OPTIONS, "default": "a"}, "b"),
        ("5", {"type": "number", "default": "bad", "validation": rule(min=1, max=9)}, "5"),
        ("1.5", {"type": "number"}, "1.5"),
        ("T", {"type": "bool"}, "T"),
        ('["x"]', {"type": "list(string)"}, '["x"]'),
        ('["a","b"]', {"type": "list(string)", "form_type": "multi-select", "option": OPTIONS}, '["a","b"]'),
        ("abc", {"validation": rule(regex="^[a-z]+$", error="no")}, "abc"),
    ],
)
def test_accepted(given: str | None, config: dict[str, Value], value: str) -> None:
    result = read(given, config)
    assert result["value"] == value
    assert result["optional"] is (config.get("default") is not None)


@pytest.mark.parametrize(
    ("given", "config", "message"),
    [
        ("x", {"option": OPTIONS}, "Value must be a valid option"),
        ("", {"option": OPTIONS}, "Value must be a valid option. The value is empty, did you forget to set it"),
        (None, {"default": "x", "option": OPTIONS}, "Default value must be a valid option"),
        ("z", {"type": "number", "option": OPTIONS}, 'Option "A" with value="a" is not of type "number"'),
        ("a", {"option": [OPTIONS[0], OPTIONS[0]]}, "Option names must be unique."),
        ("a", {"option": [OPTIONS[0], {"name": "C", "value": "a"}]}, "Option values must be unique."),
        ('["c"]', {"type": "list(string)", "form_type": "multi-select", "option": OPTIONS}, "Values must be a valid"),
        ("c", {"type": "list(string)", "form_type": "multi-select", "option": OPTIONS}, "When using list(string)"),
        ("", {"validation": rule(regex="^.+$", error="needed")}, 'needed (value "" does not match "^.+$")'),
        ("a\n", {"validation": rule(regex="^a$", error="no")}, "no (value"),
        ("a", {"validation": rule(regex="^a$")}, "an error must be specified with a regex validation"),
        ("a", {"validation": rule(min=1)}, "a min cannot be specified for a string type"),
        ("a", {"validation": rule(monotonic="increasing")}, "monotonic validation can only be specified for number"),
        ("1", {"type": "number", "validation": rule(regex="x")}, "a regex cannot be specified for a number type"),
        ("[]", {"type": "list(string)", "validation": rule(regex="x", error="e")}, "a regex cannot be specified for a"),
        ("0", {"type": "number", "validation": rule(min=1)}, "value 0 is less than the minimum 1"),
        ("9", {"type": "number", "validation": rule(max=8)}, "value 9 is more than the maximum 8"),
        ("9", {"type": "number", "validation": rule(min=1, max=8, error="{value}: {min} to {max}")}, "9: 1 to 8"),
        ("1.5", {"type": "number", "validation": rule(min=1)}, 'value "1.5" is not a number'),
        ("yes", {"type": "bool", "validation": rule()}, 'boolean value can be either "true" or "false"'),
        ("x", {"type": "number"}, 'Parameter value is not of type "number"'),
        ("x", {"type": "map"}, "expected type to be one of"),
        ("x", {"ephemeral": True, "default": "x"}, "parameter can't be immutable and ephemeral"),
        ("x", {"ephemeral": True, "mutable": True}, "ephemeral parameter requires the default property"),
    ],
)
def test_refused(given: str | None, config: dict[str, Value], message: str) -> None:
    with pytest.raises(Invalid, match=re.escape(message)) as raised:
        try:
            read(given, config)
        except Invalid as error:
            raise Invalid(f"{error.message} {error.detail}") from error
    assert message in raised.value.message


@pytest.mark.parametrize(
    ("monotonic", "previous", "given", "refused"),
    [
        ("increasing", "5", "5", False),
        ("increasing", "5", "6", False),
        ("increasing", "5", "4", True),
        ("decreasing", "5", "6", True),
        ("decreasing", "5", "4", False),
        ("increasing", "not a number", "1", False),
        ("increasing", None, "1", False),
    ],
)
def test_monotonic(monotonic: str, previous: str | None, given: str, refused: bool) -> None:
    def attempt() -> Object:
        return read(given, {"type": "number", "validation": rule(monotonic=monotonic)}, previous)

    if refused:
        with pytest.raises(Invalid) as raised:
            attempt()
        assert "than previous value: 5" in raised.value.detail
    else:
        assert attempt()["value"] == given


@pytest.mark.parametrize(
    ("kind", "wanted", "options", "result"),
    [
        ("string", "", True, "radio"),
        ("string", "", False, "input"),
        ("string", "textarea", False, "textarea"),
        ("number", "slider", False, "slider"),
        ("bool", "", False, "checkbox"),
        ("list(string)", "", False, "tag-select"),
        ("list(string)", "multi-select", True, "multi-select"),
    ],
)
def test_form_types(kind: str, wanted: str, options: bool, result: str) -> None:
    assert parameter.form_type(kind, wanted, has_options=options) == result


def test_a_form_type_that_does_not_suit() -> None:
    with pytest.raises(Invalid) as raised:
        parameter.form_type("number", "slider", has_options=True)
    assert raised.value.detail == (
        '"form_type" attribute="slider" is not supported for "type"="number" when options exist, '
        "choose one of [radio dropdown]"
    )
    with pytest.raises(Invalid) as raised:
        parameter.form_type("bool", "slider", has_options=False)
    assert raised.value.detail.startswith('"form_type" attribute="slider" is not supported for "type"="bool", choose')


@pytest.mark.parametrize(
    ("pattern", "matches", "differs"),
    [
        (r"^a$", "a", "a\n"),
        (r"^[[:alpha:]_]+\z", "ab_", "a1"),
        (r"^[$]+$", "$$", "a"),
        (r"(?i)^ab$", "AB", "ABC"),
        (r"\$x", "$x", "x"),
        (r"^[]a]+$", "]a", "b"),
        (r"^\d$", "7", "\u0667"),
    ],
)
def test_regular_expressions_mean_what_they_mean_in_go(pattern: str, matches: str, differs: str) -> None:
    compiled = re.compile(parameter.go_pattern(pattern))
    assert compiled.search(matches)
    assert not compiled.search(differs)
