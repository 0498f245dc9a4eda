"""Parameters: the questions that a template asks, and which answers a build gets."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from uuid import UUID

from warren.errors import Invalid, Violation

LIST = "list(string)"
MULTI_SELECT = "multi-select"

_INVALID_VALUE = "Invalid parameter value according to 'validation' block"
_BOOLS = frozenset({"1", "t", "T", "TRUE", "true", "True", "0", "f", "F", "FALSE", "false", "False"})


@dataclass(frozen=True, slots=True)
class Option:
    """One choice."""

    name: str
    value: str
    description: str = ""
    icon: str = ""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One question, as a template version stores it."""

    name: str
    type: str
    mutable: bool
    required: bool
    display_name: str = ""
    description: str = ""
    form_type: str = ""
    default_value: str = ""
    icon: str = ""
    options: Sequence[Option] = ()
    validation_regex: str = ""
    validation_error: str = ""
    validation_min: int | None = None
    validation_max: int | None = None
    validation_monotonic: str = ""
    ephemeral: bool = False
    display_order: int = 0

    @property
    def validated(self) -> bool:
        """Say whether the template gives rules for the value."""
        limits = (self.validation_min, self.validation_max)
        return bool(self.validation_regex or self.validation_monotonic) or any(limit is not None for limit in limits)


@dataclass(frozen=True, slots=True)
class Preset:
    """A named set of values."""

    id: UUID
    name: str
    description: str
    icon: str
    is_default: bool
    desired_prebuilds: int | None
    parameters: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Variable:
    """A Terraform variable of a template version, with its value."""

    name: str
    description: str
    type: str
    value: str
    default_value: str
    required: bool
    sensitive: bool

    @property
    def passed(self) -> bool:
        """Say whether Terraform is given the value."""
        return bool(self.value or self.default_value or self.required)


class Severity(StrEnum):
    """Whether a value can be used."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """What is wrong with a value."""

    summary: str
    detail: str
    code: str = ""
    severity: Severity = Severity.ERROR

    def text(self) -> str:
        """Say it in one line."""
        return f"{self.summary}; {self.detail}"


@dataclass(frozen=True, slots=True)
class Evaluated:
    """A parameter with the value it has for some inputs; `None` when it has none."""

    parameter: Parameter
    value: str | None
    diagnostics: Sequence[Diagnostic] = field(default=())


def evaluate(parameters: Sequence[Parameter], inputs: Mapping[str, str]) -> Sequence[Evaluated]:
    """Give each parameter its value for `inputs`, and say what is wrong with it."""
    result: list[Evaluated] = []
    for parameter in parameters:
        value = inputs.get(parameter.name, None if parameter.required else parameter.default_value)
        problem = check(parameter, value)
        result.append(Evaluated(parameter, value, (problem,) if problem else ()))
    return result


def check(parameter: Parameter, value: str | None) -> Diagnostic | None:
    """Say what is wrong with a value on its own, in the order in which a provider looks."""
    if value is None:
        return Diagnostic("Required parameter not provided", "parameter value is null", code="required")
    if parameter.options and (problem := _check_option(parameter, value)):
        return problem
    if parameter.validated and (rule := _check_rules(parameter, value)):
        return Diagnostic(_INVALID_VALUE, rule)
    if not _has_type(parameter.type, value):
        return Diagnostic(f'Parameter value is not of type "{parameter.type}"', f"the value {_quote(value)} is not one")
    return None


def _check_option(parameter: Parameter, value: str) -> Diagnostic | None:
    choices = {option.value for option in parameter.options}
    if parameter.form_type == MULTI_SELECT:
        items = _string_list(value)
        if items is None:
            text = "When using list(string) type, value must be a json encoded list of strings"
            return Diagnostic(text, f"value {_quote(value)} is not valid list of strings")
        unknown = [item for item in items if item not in choices]
        if unknown:
            text = ", ".join(_quote(item) for item in unknown)
            return Diagnostic("Values must be a valid option", f"values {text} must be defined as one of options")
        return None
    if value in choices:
        return None
    hint = "" if value else ". The value is empty, did you forget to set it with a default or from user input?"
    return Diagnostic(
        "Value must be a valid option", f"the value {_quote(value)} must be defined as one of options{hint}"
    )


def _check_rules(parameter: Parameter, value: str) -> str:
    match parameter.type:
        case "number":
            return _check_number(parameter, value)
        case "string":
            if parameter.validation_regex and not _matches(parameter.validation_regex, value):
                pattern = _quote(parameter.validation_regex)
                return f"{parameter.validation_error} (value {_quote(value)} does not match {pattern})"
        case "bool":
            if value not in ("true", "false"):
                return 'boolean value can be either "true" or "false"'
        case _ if parameter.type == LIST:
            if _string_list(value) is None:
                return f"value {_quote(value)} is not valid list of strings"
        case _:
            pass
    return ""


def _check_number(parameter: Parameter, value: str) -> str:
    number = _integer(value)
    if number is None:
        return _custom_error(parameter, value) or f"value {_quote(value)} is not a number"
    lowest, highest = parameter.validation_min, parameter.validation_max
    if lowest is not None and number < lowest:
        return _custom_error(parameter, value) or f"value {number} is less than the minimum {lowest}"
    if highest is not None and number > highest:
        return _custom_error(parameter, value) or f"value {number} is more than the maximum {highest}"
    return ""


def _custom_error(parameter: Parameter, value: str) -> str:
    text = parameter.validation_error
    for key, replacement in (("min", parameter.validation_min), ("max", parameter.validation_max), ("value", value)):
        text = text.replace("{" + key + "}", "" if replacement is None else str(replacement))
    return text


def _matches(pattern: str, value: str) -> bool:
    # Templates write RE2, where `$` is the very end; Python's also stands before a last newline.
    if pattern.endswith("$") and not pattern.endswith("\\$"):
        pattern = pattern[:-1] + r"\Z"
    try:
        return re.search(pattern.replace(r"\z", r"\Z"), value) is not None
    except re.error:
        return False


def _integer(value: str) -> int | None:
    try:
        return int(value, 10) if value == value.strip() and "_" not in value else None
    except ValueError:
        return None


def _string_list(value: str) -> list[str] | None:
    try:
        items: object = json.loads(value)
    except ValueError:
        return None
    if not isinstance(items, list):
        return None
    texts = [item for item in items if isinstance(item, str)]  # pyright: ignore[reportUnknownVariableType]
    return texts if len(texts) == len(items) else None  # pyright: ignore[reportUnknownArgumentType]


def _has_type(type_name: str, value: str) -> bool:
    match type_name:
        case "number":
            try:
                float(value)
            except ValueError:
                return False
            return True
        case "bool":
            return value in _BOOLS
        case _:
            return type_name != LIST or _string_list(value) is not None


def _quote(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)


def monotonic_problem(parameter: Parameter, value: str, previous: str | None) -> str:
    """Say how a value breaks the rule that it may only grow, or only shrink; empty when it does not."""
    new, old = _integer(value), _integer(previous or "")
    if new is None or old is None:
        return ""
    if parameter.validation_monotonic == "increasing" and new < old:
        return f"parameter value '{new}' must be equal or greater than previous value: {old}"
    if parameter.validation_monotonic == "decreasing" and new > old:
        return f"parameter value '{new}' must be equal or lower than previous value: {old}"
    return ""


def match_preset(presets: Sequence[Preset], values: Mapping[str, str]) -> Preset | None:
    """Find the preset whose every value was given; of several the one that says most."""
    matching = [
        preset for preset in presets if all(values.get(name) == value for name, value in preset.parameters.items())
    ]
    return max(matching, key=lambda preset: len(preset.parameters), default=None)


@dataclass(frozen=True, slots=True)
class Answers:
    """Where the values of a build may come from."""

    requested: Mapping[str, str]
    preset: Mapping[str, str]
    previous: Mapping[str, str]
    first_build: bool


def resolve(parameters: Sequence[Parameter], answers: Answers) -> dict[str, str]:
    """Choose the values of a build: preset before request before previous build before default.

    Raises:
        Invalid: some values cannot be used; one violation for each parameter.
    """
    given = {**answers.requested, **answers.preset}
    inputs = {
        parameter.name: answers.previous[parameter.name]
        for parameter in parameters
        if parameter.name in answers.previous and not parameter.ephemeral
    } | given
    violations: list[Violation] = []
    values: dict[str, str] = {}
    for evaluated in evaluate(parameters, inputs):
        problems = [*_change_problems(evaluated, answers), *evaluated.diagnostics]
        if problems:
            violations.append(Violation(evaluated.parameter.name, _summary(problems)))
        elif evaluated.value is not None:
            values[evaluated.parameter.name] = evaluated.value
    if violations:
        raise Invalid("Unable to validate parameters", violations=sorted(violations, key=lambda item: item.field))
    return values


def _change_problems(evaluated: Evaluated, answers: Answers) -> Sequence[Diagnostic]:
    parameter, value = evaluated.parameter, evaluated.value
    previous = answers.previous.get(parameter.name)
    if value is None or previous is None:
        return ()
    problems: list[Diagnostic] = []
    if not answers.first_build and not parameter.mutable and value != previous:
        problems.append(Diagnostic("Immutable parameter changed", _immutable(parameter.name)))
    if not evaluated.diagnostics and (text := monotonic_problem(parameter, value, previous)):
        problems.append(Diagnostic(f'Parameter "{parameter.name}" monotonicity', text))
    return problems


def _summary(problems: Sequence[Diagnostic]) -> str:
    more = f", and {len(problems) - 1} other diagnostic(s)" if len(problems) > 1 else ""
    return problems[0].text() + more


def _immutable(name: str) -> str:
    return f'Parameter "{name}" is not mutable, so it can\'t be updated after creating a workspace.'


def resolve_classic(parameters: Sequence[Parameter], answers: Answers) -> dict[str, str]:
    """Choose the values of a build by the rules of templates that keep the classic parameter flow.

    Raises:
        Invalid: a value cannot be used; names the first such parameter.
    """
    given = {**answers.requested, **answers.preset}
    values: dict[str, str] = {}
    for parameter in parameters:
        name = parameter.name
        new, previous = given.get(name), answers.previous.get(name)
        try:
            values[name] = _classic_value(parameter, new, previous)
        except Invalid as error:
            raise Invalid(f'Unable to validate parameter "{name}"', detail=error.message) from error
    return values


def _classic_value(parameter: Parameter, new: str | None, previous: str | None) -> str:
    if not parameter.mutable and new is not None and previous is not None and new != previous:
        raise Invalid(_immutable(parameter.name))
    if parameter.required and new is None and previous is None:
        raise Invalid(f'Parameter "{parameter.name}" is required but not provided')
    value = new if new is not None else previous if not parameter.ephemeral else None
    if value is None:
        value = parameter.default_value
    label = parameter.display_name or parameter.name
    if not value:
        if parameter.required:
            raise Invalid(f'can\'t validate build parameter "{label}": parameter value is required')
        value = parameter.default_value
    elif problem := check(parameter, value):
        raise Invalid(f'can\'t validate build parameter "{label}": {problem.detail}')
    if text := monotonic_problem(parameter, value, previous):
        raise Invalid(f'can\'t validate build parameter "{label}": {text}')
    return value
