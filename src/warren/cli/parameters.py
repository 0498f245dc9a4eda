"""Which values a build's parameters get: from flags, a file, the workspace, a preset, the template, or the user."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

from warren.cli import params
from warren.cli.ui import Terminal
from warren.errors import Invalid

if TYPE_CHECKING:
    from warren.sdk.types.templates import TemplateVersionParameter

F = TypeVar("F", bound=Callable[..., object])


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the flags say about parameters."""

    values: Mapping[str, str] = field(default_factory=dict[str, str])
    defaults: Mapping[str, str] = field(default_factory=dict[str, str])
    ephemeral: Mapping[str, str] = field(default_factory=dict[str, str])
    use_defaults: bool = False
    always_prompt: bool = False
    prompt_ephemeral: bool = False

    @classmethod
    def parse(cls, flags: Mapping[str, object]) -> Wanted:
        """Take the flags that `options` declared."""

        def pairs(name: str) -> dict[str, str]:
            # click makes repeatable options tuples of texts
            items = cast("tuple[str, ...]", flags.get(name) or ())
            return params.key_values(items, "--" + name.replace("_", "-"))

        values: dict[str, str] = {}
        if file := flags.get("rich_parameter_file"):
            values |= read_file(Path(str(file)))
        values |= pairs("parameter")
        return cls(
            values=values,
            defaults=pairs("parameter_default"),
            ephemeral=pairs("ephemeral_parameter") | pairs("build_option"),
            use_defaults=bool(flags.get("use_parameter_defaults")),
            always_prompt=bool(flags.get("always_prompt")),
            prompt_ephemeral=bool(flags.get("prompt_ephemeral_parameters") or flags.get("build_options")),
        )


def options(function: F) -> F:
    """Declare the flags about parameters."""
    for decorate in (
        params.option(
            "--parameter", env="RICH_PARAMETER", multiple=True, metavar="NAME=VALUE", help="Parameter value."
        ),
        params.option("--rich-parameter-file", env="RICH_PARAMETER_FILE", metavar="FILE", help="YAML file of values."),
        params.option(
            "--parameter-default",
            env="RICH_PARAMETER_DEFAULT",
            multiple=True,
            metavar="NAME=VALUE",
            help="Default to offer instead of the template's.",
        ),
        params.flag("--use-parameter-defaults", env="WORKSPACE_USE_PARAMETER_DEFAULTS", help="Take defaults unasked."),
        params.flag("--always-prompt", help="Ask for all parameters, also those with a value from before."),
        params.option(
            "--ephemeral-parameter",
            env="EPHEMERAL_PARAMETER",
            multiple=True,
            metavar="NAME=VALUE",
            help="Value of a parameter that holds for this build only.",
        ),
        params.flag("--prompt-ephemeral-parameters", env="PROMPT_EPHEMERAL_PARAMETERS", help="Ask for those, too."),
        params.option("--build-option", env="BUILD_OPTION", multiple=True, hidden=True, metavar="NAME=VALUE"),
        params.flag("--build-options", hidden=True),
    ):
        function = decorate(function)
    return function


def resolve(
    terminal: Terminal,
    asked: Sequence[TemplateVersionParameter],
    wanted: Wanted,
    *,
    previous: Mapping[str, str] | None = None,
    preset: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Choose the values to send: flags win over the preset, that over those of the last build; the user is asked for
    what has none.

    `previous` is `None` for a first build. Values that did not change are left out: the server keeps them.

    Raises:
        Invalid: a value is for no parameter, or is not allowed.
    """
    known = {parameter.name: parameter for parameter in asked}
    _check_known(known, wanted)
    chosen: dict[str, str] = {}
    for parameter in asked:
        value = _value(terminal, parameter, wanted, previous, preset or {})
        if value is not None:
            chosen[parameter.name] = value
    return chosen


def check(parameter: TemplateVersionParameter, value: str) -> str | None:
    """Say what is wrong with a value, or `None`; the server has the last word."""
    if parameter.options and parameter.form_type not in {"multi-select", "tag-select"}:
        allowed = [option.value for option in parameter.options]
        if value not in allowed:
            return f"`{value}` is none of {', '.join(allowed)}"
    match parameter.type:
        case "number":
            return _check_number(parameter, value)
        case "bool" if value not in {"true", "false"}:
            return "write true or false"
        case _:
            return "a value is required" if parameter.required and not value else None


def read_file(path: Path) -> dict[str, str]:
    """Read parameter values from a YAML file; lists become JSON texts.

    Raises:
        Invalid: it cannot be read.
    """
    import json

    import yaml

    try:
        content: object = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise Invalid(f"cannot read {path}: {error}") from error
    if not isinstance(content, dict):
        raise Invalid(f"{path} is not a mapping of names to values")
    values: dict[str, str] = {}
    for name, value in content.items():  # pyright: ignore[reportUnknownVariableType]  YAML is untyped
        text = value if isinstance(value, str) else json.dumps(value, default=str)
        values[str(name)] = text  # pyright: ignore[reportUnknownArgumentType]  YAML is untyped
    return values


def _check_known(known: Mapping[str, TemplateVersionParameter], wanted: Wanted) -> None:
    for name in [*wanted.values, *wanted.ephemeral]:
        if name not in known:
            there = ", ".join(sorted(known)) or "none"
            raise Invalid(f"parameter `{name}` is not present in the template", hint=f"its parameters: {there}")
    for name in wanted.ephemeral:
        if not known[name].ephemeral:
            raise Invalid(f"parameter `{name}` is not ephemeral", hint="use --parameter")


def _value(
    terminal: Terminal,
    parameter: TemplateVersionParameter,
    wanted: Wanted,
    previous: Mapping[str, str] | None,
    preset: Mapping[str, str],
) -> str | None:
    name = parameter.name
    given = wanted.ephemeral.get(name, wanted.values.get(name, preset.get(name)))
    if given is not None:
        problem = check(parameter, given)
        if problem:
            raise Invalid(f"parameter `{name}`: {problem}")
        return given
    if parameter.ephemeral and not wanted.prompt_ephemeral:
        return None
    if previous is not None and name in previous and not (wanted.always_prompt and parameter.mutable):
        return None  # the server keeps what the last build had
    default = wanted.defaults.get(name, (previous or {}).get(name, parameter.default_value))
    if wanted.use_defaults and (default or not parameter.required):
        return default
    return _ask(terminal, parameter, default)


def _ask(terminal: Terminal, parameter: TemplateVersionParameter, default: str) -> str:
    from warren.cli.ui import BOLD

    terminal.say(terminal.style(parameter.display_name or parameter.name, BOLD))
    if parameter.description_plaintext:
        terminal.say(parameter.description_plaintext)
    if parameter.options and parameter.type != "list(string)":
        values = [option.value for option in parameter.options]
        names = [option.name for option in parameter.options]
        shown = names[values.index(default)] if default in values else ""
        picked = terminal.choose("Options:", names, default=shown, values=values)
        return values[names.index(picked)]
    return terminal.prompt("Enter a value:", default=default, validate=lambda text: check(parameter, text))


def _check_number(parameter: TemplateVersionParameter, value: str) -> str | None:
    try:
        number = float(value)
    except ValueError:
        return f"`{value}` is not a number"
    low, high = parameter.validation_min, parameter.validation_max
    if (low is not None and number < low) or (high is not None and number > high):
        return parameter.validation_error or f"{value} is not between {low} and {high}"
    return None
