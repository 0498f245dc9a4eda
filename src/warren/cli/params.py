"""Options and arguments of commands: environment names, lists, durations, booleans with a value."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from warren.cli import duration
from warren.errors import Invalid

F = TypeVar("F", bound=Callable[..., object])

TRUE = frozenset({"1", "t", "true", "yes", "on"})
FALSE = frozenset({"", "0", "f", "false", "no", "off"})


class DurationType(click.ParamType[timedelta]):
    """A duration in Go's syntax, with days and weeks."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta:  # Any: click's
        """Read a duration."""
        if isinstance(value, timedelta):
            return value
        try:
            return duration.parse(str(value))
        except Invalid as error:
            self.fail(error.message, param, ctx)


DURATION = DurationType()


class ListOption(click.Option):
    """A repeatable option whose values are comma-separated lists; an empty value clears it."""

    def type_cast_value(self, ctx: click.Context, value: Any) -> Any:  # Any: click's
        """Flatten the lists."""
        items: list[str] = []
        for text in value or ():
            if not text:
                items.clear()
            else:
                items.extend(split_list(text))
        return super().type_cast_value(ctx, items)

    def value_from_envvar(self, ctx: click.Context) -> Any:  # Any: click's
        """Take the variable's text whole; it is split as a written value is."""
        value = self.resolve_envvar_value(ctx)
        return None if value is None else (value,)


class FlagOption(click.Option):
    """A boolean option that may also be written `--flag=false`."""

    def consume_value(self, ctx: click.Context, opts: Mapping[str, Any]) -> tuple[Any, ParameterSource]:  # Any: click's
        """Prefer what was written with a value, then what click finds."""
        written = written_flags(ctx).get(self.name or "")
        if written is not None:
            return written, ParameterSource.COMMANDLINE
        return super().consume_value(ctx, opts)

    def value_from_envvar(self, ctx: click.Context) -> Any:  # Any: click's
        """Read `true`, `false` and their kin; an empty value is false."""
        value = self.resolve_envvar_value(ctx)
        return None if value is None else truth(value, self.name or "")


def written_flags(ctx: click.Context) -> dict[str, bool]:
    """Return the flags of this command that were written with a value (`--flag=false`); the caller may add some."""
    return ctx.meta.setdefault(f"warren.flags.{id(ctx)}", {})


def take_written_flags(ctx: click.Context, args: Sequence[str], params: Sequence[click.Parameter]) -> list[str]:
    """Take `--flag=value` of boolean options out of the arguments, which click would refuse."""
    flags = {name: param for param in params if isinstance(param, FlagOption) for name in param.opts}
    kept: list[str] = []
    for index, argument in enumerate(args):
        if argument == "--":
            kept.extend(args[index:])
            break
        name, equals, value = argument.partition("=")
        if equals and name in flags:
            written_flags(ctx)[flags[name].name or ""] = truth(value, name)
        else:
            kept.append(argument)
    return kept


def truth(text: str, name: str) -> bool:
    """Read a boolean."""
    lowered = text.strip().lower()
    if lowered in TRUE:
        return True
    if lowered in FALSE:
        return False
    raise click.BadParameter(f"{text!r} is not a boolean", param_hint=name)


def split_list(text: str) -> list[str]:
    """Split a comma-separated list; quotes protect commas."""
    return [item for row in csv.reader([text]) for item in row]


def environment(name: str) -> list[str]:
    """Say under which variables a setting is looked up: ours first."""
    return [f"WARREN_{name}", f"CODER_{name}"]


def option(*names: str, env: str = "", **attributes: Any) -> Callable[[F], F]:  # Any: passed on to click
    """Declare an option; `env` is its variable without the prefix."""
    if env:
        attributes["envvar"] = environment(env)
    return click.option(*names, **attributes)


def flag(*names: str, env: str = "", **attributes: Any) -> Callable[[F], F]:  # Any: passed on to click
    """Declare a boolean option that is false unless given."""
    return option(*names, env=env, is_flag=True, cls=FlagOption, **attributes)


def strings(*names: str, env: str = "", **attributes: Any) -> Callable[[F], F]:  # Any: passed on to click
    """Declare a repeatable option that takes comma-separated lists."""
    return option(*names, env=env, multiple=True, cls=ListOption, **attributes)


def durations(*names: str, env: str = "", **attributes: Any) -> Callable[[F], F]:  # Any: passed on to click
    """Declare an option that takes a duration."""
    return option(*names, env=env, type=DURATION, **attributes)


yes_option = flag("--yes", "-y", help="Bypass prompts.")


def key_values(items: Sequence[str], option_name: str) -> dict[str, str]:
    """Read `key=value` items.

    Raises:
        Invalid: an item has no `=`.
    """
    pairs: dict[str, str] = {}
    for item in items:
        key, equals, value = item.partition("=")
        if not equals or not key:
            raise Invalid(f"`{item}` is not of the form key=value", hint=f"write {option_name} key=value")
        pairs[key.strip()] = value
    return pairs
