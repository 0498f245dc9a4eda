"""What people see: data on stdout, everything else on stderr; tables, JSON, colours, prompts."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Generic, TypeVar

import click

from warren.errors import Invalid, WarrenError

if TYPE_CHECKING:
    import msgspec

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., object])

RED, GREEN, YELLOW, BLUE, GREY, BOLD = "31", "32", "33", "34", "90", "1"


class Canceled(WarrenError):
    """The user said no: nothing is printed, the exit code is 1."""


@dataclass(frozen=True, slots=True)
class Terminal:
    """What the streams of the process can do."""

    input_tty: bool
    output_tty: bool
    error_tty: bool
    colour: bool

    @classmethod
    def of_process(cls, *, force_tty: bool = False) -> Terminal:
        """Look at the streams of this process."""
        error_tty = force_tty or sys.stderr.isatty()
        colour = error_tty and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        return cls(
            input_tty=force_tty or sys.stdin.isatty(),
            output_tty=force_tty or sys.stdout.isatty(),
            error_tty=error_tty,
            colour=colour,
        )

    def style(self, text: str, code: str) -> str:
        """Colour a text for stderr, where colours are wanted."""
        return f"\x1b[{code}m{text}\x1b[0m" if self.colour else text

    def out(self, text: str) -> None:
        """Write a line of data."""
        sys.stdout.write(text + "\n")
        sys.stdout.flush()

    def say(self, text: str = "") -> None:
        """Tell the user something."""
        sys.stderr.write(text + "\n")
        sys.stderr.flush()

    def warn(self, text: str) -> None:
        """Warn the user."""
        self.say(self.style("WARN: ", YELLOW) + text)

    def keyword(self, text: str) -> str:
        """Highlight a name."""
        return self.style(text, BLUE)

    def prompt(
        self,
        question: str,
        *,
        default: str = "",
        secret: bool = False,
        validate: Callable[[str], str | None] | None = None,
    ) -> str:
        """Ask for a text until it is valid; without a terminal, read a line of stdin.

        `validate` says what is wrong with an answer.

        Raises:
            Invalid: the input ended.
        """
        while True:
            suffix = f" ({default})" if default else ""
            answer = self._read(f"{self.style('>', GREY)} {question}{suffix} ", secret=secret) or default
            problem = validate(answer) if validate else None
            if problem is None:
                return answer
            self.say(self.style(problem, RED))
            if not self.input_tty:
                raise Invalid(problem)

    def confirm(self, question: str, *, yes: bool, default: bool = True) -> None:
        """Go on only if the user agrees; `yes` is their `--yes`.

        Raises:
            Canceled: they do not.
        """
        if yes:
            return
        bold = f"({self.style('yes', BOLD)}/no)" if default else f"(yes/{self.style('no', BOLD)})"
        shown = f"{self.style('>', GREY)} {question} {bold} "
        answer = self._read(shown, secret=False, advice="pass --yes to go on without being asked").strip()
        if (answer or ("yes" if default else "no")) not in {"yes", "y"}:
            raise Canceled("canceled")

    def choose(self, question: str, options: Sequence[str], *, default: str = "", values: Sequence[str] = ()) -> str:
        """Let the user pick one of the options: by name, by its number, or by its value where those are given.

        Names come first, so that a number among them means itself.

        Raises:
            Invalid: the input ended.
        """
        self.say(self.style(question, BOLD))
        for number, option in enumerate(options, 1):
            self.say(f"  {number}. {option}")

        def pick(answer: str) -> str | None:
            if answer in options:
                return answer
            if answer.isdecimal() and 1 <= int(answer) <= len(options):
                return options[int(answer) - 1]
            return options[values.index(answer)] if answer in values else None

        answer = self.prompt(
            "Choose:",
            default=default or options[0],
            validate=lambda text: None if pick(text) is not None else f"`{text}` is none of them",
        )
        chosen = pick(answer)
        assert chosen is not None
        return chosen

    def _read(self, shown: str, *, secret: bool, advice: str = "answer the prompt, or give the value as a flag") -> str:
        # Set before the prompt is shown: whoever answers at once must not see a secret echoed, nor lose a Ctrl-C.
        with _interruptible(), _unechoed(secret=secret):
            sys.stderr.write(shown)
            sys.stderr.flush()
            line = sys.stdin.readline()
        if not line:
            self.say()
            raise Invalid("unexpected end of input (EOF)", hint=advice)
        return line.rstrip("\n")


@contextmanager
def _unechoed(*, secret: bool) -> Generator[None]:
    """Keep a terminal from showing what is typed, while a secret is read; what was typed ahead is kept."""
    if not secret or not sys.stdin.isatty():
        yield
        return
    import termios

    before = termios.tcgetattr(sys.stdin)
    hidden = list(before)
    hidden[3] &= ~termios.ECHO
    termios.tcsetattr(sys.stdin, termios.TCSADRAIN, hidden)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
        sys.stderr.write("\n")  # the one that was typed was not shown either
        sys.stderr.flush()


@contextmanager
def _interruptible() -> Generator[None]:
    """Let Ctrl-C end a read that blocks; the event loop's own handler only cancels what awaits."""
    try:
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
    except ValueError:  # not the main thread, which alone gets signals
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@dataclass(frozen=True)
class Table(Generic[T]):
    """The columns that a listing can show, and those it shows when not told."""

    columns: Mapping[str, Callable[[T], str]]
    default: Sequence[str]

    def choose(self, wanted: Sequence[str]) -> Sequence[str]:
        """Check the wanted columns; none means the default ones.

        Raises:
            Invalid: there is no such column.
        """
        chosen = [name.strip().lower() for name in wanted] or list(self.default)
        unknown = [name for name in chosen if name not in self.columns]
        if unknown:
            raise Invalid(f"no column `{unknown[0]}`", hint="there are " + ", ".join(self.columns))
        return chosen

    def text(self, items: Sequence[T], wanted: Sequence[str] = ()) -> str:
        """Write the items as aligned columns under upper-case headings."""
        chosen = self.choose(wanted)
        rows = [[name.upper() for name in chosen]]
        rows += [[self.columns[name](item).replace("\n", " ") for name in chosen] for item in items]
        return columns_text(rows)

    def options(self, *, formats: Sequence[str] = ("table", "json"), default: str = "table") -> Callable[[F], F]:
        """Declare `--output` and `--column`."""
        from warren.cli import params

        names = ", ".join(self.columns)
        column = params.strings("--column", "-c", metavar="COLUMNS", help=f"Columns to show: {names}.")
        output = output_option(formats=formats, default=default)
        return lambda function: output(column(function))


def output_option(*, formats: Sequence[str] = ("table", "json"), default: str = "table") -> Callable[[F], F]:
    """Declare `--output`."""
    from warren.cli import params

    kind = click.Choice(list(formats), case_sensitive=False)
    return params.option("--output", "-o", type=kind, default=default, show_default=True, help="Output format.")


def columns_text(rows: Sequence[Sequence[str]]) -> str:
    """Align cells in columns, two spaces between them."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join(line.rstrip() for line in lines)


def json_text(value: msgspec.Struct | Sequence[object] | Mapping[str, object]) -> str:
    """Write a value as JSON, indented by two spaces."""
    import msgspec

    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()


def listing(
    terminal: Terminal,
    items: Sequence[T],
    table: Table[T],
    *,
    output: str,
    column: Sequence[str],
    empty: str = "",
) -> None:
    """Print a list as a table or as JSON; `empty` is said when there is nothing to show."""
    table.choose(column)
    if output == "json":
        terminal.out(json_text(list(items)))
    elif items or not empty:
        terminal.out(table.text(items, column))
    else:
        terminal.say(empty)


def when(time: datetime | None) -> str:
    """Write a moment as tables show it; empty for none."""
    if time is None or time.year <= 1:
        return ""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def yes_no(value: object) -> str:
    """Write a boolean as tables show it."""
    return "true" if value else "false"
