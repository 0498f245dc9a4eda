"""Read `coder_parameter`: choose its value and check it by the rules templates rely on."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from warren.errors import Invalid, Violation
from warren.provisioner.coder_provider.values import Object, Value, blocks, number, text

TYPES = ("string", "number", "bool", "list(string)")

# The first entry is the default form.
_WITH_OPTIONS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "string": ("radio", "dropdown"),
        "number": ("radio", "dropdown"),
        "bool": ("radio", "dropdown"),
        "list(string)": ("radio", "multi-select"),
    }
)
_WITHOUT_OPTIONS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "string": ("input", "textarea"),
        "number": ("input", "slider"),
        "bool": ("checkbox", "switch"),
        "list(string)": ("tag-select",),
    }
)
_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})
_INTEGER = re.compile(r"[+-]?[0-9]+")
_FLOAT = re.compile(
    r"[+-]?((\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|0[xX][0-9a-fA-F]+\.?[0-9a-fA-F]*[pP][+-]?\d+|inf(inity)?|nan)",
    re.ASCII | re.IGNORECASE,
)
_BAD_VALUE = "Invalid parameter value according to 'validation' block"


@dataclass(frozen=True, slots=True)
class Validation:
    """The `validation` block; `None` means the template did not set that bound."""

    minimum: int | None = None
    maximum: int | None = None
    monotonic: str = ""
    regex: str = ""
    error: str = ""

    def describe(self, message: str, value: str) -> str:
        """Prefer the template's own message, with its placeholders filled in."""
        if not self.error:
            return message
        low, high = self.minimum or 0, self.maximum or 0
        return self.error.replace("{min}", str(low)).replace("{max}", str(high)).replace("{value}", value)


def environment_name(name: str) -> str:
    """Name the variable that carries the value given for parameter `name`."""
    return f"CODER_PARAMETER_{hashlib.sha256(name.encode()).hexdigest()}"


def previous_environment_name(name: str) -> str:
    """Name the variable that carries the value of the previous build."""
    return f"CODER_PARAMETER_PREVIOUS_{hashlib.sha256(name.encode()).hexdigest()}"


def read(config: Object, environment: Mapping[str, str]) -> Object:
    """Compute the attributes `value`, `optional`, `form_type` and the validation flags.

    Raises:
        Invalid: the parameter is declared wrongly, or its value breaks a rule; the message says which.
    """
    name, kind, default = text(config["name"]), text(config["type"]), config.get("default")
    _check_declaration(config, kind)
    given = environment.get(environment_name(name))
    value = given if given is not None else (text(default) if default is not None else None)
    subject = "Default value" if given is None else "Value"
    options = blocks(config.get("option"))
    form = form_type(kind, text(config.get("form_type")), has_options=bool(options))
    validations = blocks(config.get("validation"))
    _check_options(kind, form, options)
    chosen = ""
    if validations or value is not None:
        chosen = value or ""
        _check_member(subject, form, chosen, options)
        previous = environment.get(previous_environment_name(name))
        for block in validations:
            check_validation(kind, chosen, _validation(block), previous)
        if chosen or kind == "string" or value is not None:
            _check_type(subject, kind, chosen)
    return {
        "value": chosen,
        "optional": default is not None,
        "form_type": form,
        "validation": [_with_flags(block) for block in validations],
    }


def form_type(kind: str, wanted: str, *, has_options: bool) -> str:
    """Say how the parameter is shown: as asked when that suits its type, else by default.

    Raises:
        Invalid: the form does not suit the type.
    """
    if kind not in TYPES:
        raise Invalid(f'expected type to be one of ["string" "number" "bool" "list(string)"], got {kind}')
    table, other = (_WITH_OPTIONS, _WITHOUT_OPTIONS) if has_options else (_WITHOUT_OPTIONS, _WITH_OPTIONS)
    if not wanted:
        return table[kind][0]
    if wanted in table[kind]:
        return wanted
    when = ""
    if wanted in other[kind]:
        when = " when options exist" if has_options else " when options do not exist"
    raise Invalid(
        "Invalid form_type for parameter",
        detail=f'"form_type" attribute="{wanted}" is not supported for "type"="{kind}"{when}, '
        f"choose one of [{' '.join(table[kind])}]",
    )


def check_validation(kind: str, value: str, rule: Validation, previous: str | None) -> None:
    """Check `value` against a validation block and against the value of the previous build.

    Raises:
        Invalid: the block does not suit the type, or the value breaks it.
    """
    _check_rule_suits(kind, rule)
    match kind:
        case "bool":
            if value not in ("true", "false"):
                raise Invalid(_BAD_VALUE, detail='boolean value can be either "true" or "false"')
        case "string":
            _check_regex(value, rule)
        case "number":
            _check_number(value, rule, previous)
        case _:
            _string_list(value)


def _check_declaration(config: Object, kind: str) -> None:
    ephemeral, mutable = config.get("ephemeral") is True, config.get("mutable") is True
    if ephemeral and not mutable:
        raise Invalid("parameter can't be immutable and ephemeral")
    if ephemeral and config.get("default") is None:
        raise Invalid("ephemeral parameter requires the default property")
    if kind not in TYPES:
        raise Invalid(f'expected type to be one of ["string" "number" "bool" "list(string)"], got {kind}')


def _check_options(kind: str, form: str, options: Sequence[Object]) -> None:
    names: set[str] = set()
    values: set[str] = set()
    option_kind = "string" if form == "multi-select" else kind
    mistyped: list[Violation] = []
    for option in options:
        name, value = text(option["name"]), text(option["value"])
        if name in names:
            raise Invalid("Option names must be unique.", detail=f'multiple options found with the same name "{name}"')
        if value in values:
            raise Invalid(
                "Option values must be unique.", detail=f'multiple options found with the same value "{value}"'
            )
        names.add(name)
        values.add(value)
        if not _is_type(option_kind, value):
            summary = f'Option "{name}" with value="{value}" is not of type "{option_kind}"'
            mistyped.append(Violation(summary, _why_not(option_kind, value)))
    if mistyped:
        raise Invalid(mistyped[0].field, detail=mistyped[0].detail, violations=mistyped[1:])


def _check_member(subject: str, form: str, value: str, options: Sequence[Object]) -> None:
    if not options:
        return
    valid = [text(option["value"]) for option in options]
    if form == "multi-select":
        missing = [item for item in _string_list(value or "[]") if item not in valid]
        if missing:
            raise Invalid(
                "Values must be a valid option",
                detail=f"{subject} {json.dumps(value)} is not a valid option, "
                f'values "{", ".join(missing)}" are missing from the options',
            )
        return
    if value in valid:
        return
    hint = "" if value else ". The value is empty, did you forget to set it with a default or from user input?"
    raise Invalid(
        f"{subject} must be a valid option{hint}",
        detail=f'the value "{value}" must be defined as one of options',
    )


def _check_rule_suits(kind: str, rule: Validation) -> None:
    if kind != "number":
        if rule.minimum is not None:
            raise Invalid(_BAD_VALUE, detail=f"a min cannot be specified for a {kind} type")
        if rule.maximum is not None:
            raise Invalid(_BAD_VALUE, detail=f"a max cannot be specified for a {kind} type")
        if rule.monotonic:
            raise Invalid(
                _BAD_VALUE, detail=f"monotonic validation can only be specified for number types, not {kind} types"
            )
    if kind != "string" and rule.regex:
        raise Invalid(_BAD_VALUE, detail=f"a regex cannot be specified for a {kind} type")


def _check_regex(value: str, rule: Validation) -> None:
    if not rule.regex:
        return
    if not rule.error:
        raise Invalid(_BAD_VALUE, detail="an error must be specified with a regex validation")
    try:
        pattern = re.compile(go_pattern(rule.regex))
    except re.error as error:
        raise Invalid(_BAD_VALUE, detail=f'compile regex "{rule.regex}": {error}') from error
    if pattern.search(value) is None:
        raise Invalid(_BAD_VALUE, detail=f'{rule.error} (value "{value}" does not match "{rule.regex}")')


def _check_number(value: str, rule: Validation, previous: str | None) -> None:
    current = _integer(value)
    if current is None:
        raise Invalid(_BAD_VALUE, detail=rule.describe(f'value "{value}" is not a number', value))
    if rule.minimum is not None and current < rule.minimum:
        raise Invalid(
            _BAD_VALUE, detail=rule.describe(f"value {current} is less than the minimum {rule.minimum}", value)
        )
    if rule.maximum is not None and current > rule.maximum:
        raise Invalid(
            _BAD_VALUE, detail=rule.describe(f"value {current} is more than the maximum {rule.maximum}", value)
        )
    if rule.monotonic not in ("", "increasing", "decreasing"):
        raise Invalid(_BAD_VALUE, detail='number monotonicity can be either "increasing" or "decreasing"')
    before = None if previous is None else _integer(previous)
    if before is None or not rule.monotonic:
        return
    if rule.monotonic == "increasing" and current < before:
        raise Invalid(
            _BAD_VALUE,
            detail=rule.describe(
                f"parameter value '{current}' must be equal or greater than previous value: {before}", value
            ),
        )
    if rule.monotonic == "decreasing" and current > before:
        raise Invalid(
            _BAD_VALUE,
            detail=rule.describe(
                f"parameter value '{current}' must be equal or lower than previous value: {before}", value
            ),
        )


def _check_type(subject: str, kind: str, value: str) -> None:
    if not _is_type(kind, value):
        raise Invalid(f'Parameter {subject.lower()} is not of type "{kind}"', detail=_why_not(kind, value))


def _why_not(kind: str, value: str) -> str:
    return f'value "{value}" is not a valid list of strings' if kind == "list(string)" else f'"{value}" is not a {kind}'


def _is_type(kind: str, value: str) -> bool:
    match kind:
        case "number":
            return _FLOAT.fullmatch(value) is not None
        case "bool":
            return value in _TRUE or value in _FALSE
        case "list(string)":
            return _parse_list(value) is not None
        case _:
            return True


def _integer(value: str) -> int | None:
    return int(value) if _INTEGER.fullmatch(value) else None


def _parse_list(value: str) -> list[str] | None:
    try:
        parsed: object = json.loads(value)
    except ValueError:
        return None
    if not isinstance(parsed, list):
        return None
    items: list[object] = parsed  # pyright: ignore[reportUnknownVariableType]  of JSON, checked below
    return [item for item in items if isinstance(item, str)] if all(isinstance(item, str) for item in items) else None


def _string_list(value: str) -> list[str]:
    parsed = _parse_list(value)
    if parsed is None:
        raise Invalid(
            "When using list(string) type, value must be a json encoded list of strings",
            detail=f'value "{value}" is not a valid list of strings',
        )
    return parsed


def _validation(block: Object) -> Validation:
    low, high = block.get("min"), block.get("max")
    return Validation(
        None if low is None else number(low),
        None if high is None else number(high),
        text(block.get("monotonic")),
        text(block.get("regex")),
        text(block.get("error")),
    )


def _with_flags(block: Object) -> Object:
    result: dict[str, Value] = dict(block)
    for bound in ("min", "max"):
        result[f"{bound}_disabled"] = block.get(bound) is None
        result[bound] = 0 if block.get(bound) is None else block[bound]
    for word in ("monotonic", "regex", "error"):
        result[word] = text(block.get(word))
    return result


_POSIX_CLASSES: Mapping[str, str] = MappingProxyType(
    {
        "[:alpha:]": "a-zA-Z",
        "[:digit:]": "0-9",
        "[:alnum:]": "a-zA-Z0-9",
        "[:upper:]": "A-Z",
        "[:lower:]": "a-z",
        "[:space:]": r"\s",
        "[:word:]": r"\w",
        "[:xdigit:]": "0-9A-Fa-f",
        "[:punct:]": r"!-/:-@\[-`{-~",
    }
)
_TOKEN = re.compile(r"\\.|\[:[a-z]+:\]|\[\^?\]?|\]|\$|.", re.DOTALL)


def go_pattern(pattern: str) -> str:
    """Write a Go regular expression as Python's: the end of text, and POSIX classes, differ."""
    multiline = re.match(r"\(\?[a-z]*m[a-z]*\)", pattern) is not None
    result: list[str] = ["" if multiline else "(?a)"] if not pattern.startswith("(?") else []
    inside = False
    for token in _TOKEN.findall(pattern):
        if token in _POSIX_CLASSES and inside:
            result.append(_POSIX_CLASSES[token])
        elif token == r"\z" or (token == "$" and not inside and not multiline):  # noqa: S105  not a secret
            result.append(r"\Z")
        else:
            result.append(token)
        if not inside and token.startswith("["):
            inside = True
        elif inside and token == "]":  # noqa: S105
            inside = False
    return "".join(result)
