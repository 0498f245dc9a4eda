"""Which exit code and text an error gets; nothing else in the command line knows."""

from __future__ import annotations

from collections.abc import Sequence

from warren.cli.ui import BOLD, RED, Canceled, Terminal
from warren.errors import Violation, WarrenError

NAME = "1 to 32 letters, digits and single hyphens between them"
RULES = {
    "workspace_name": NAME,
    "template_name": NAME,
    "username": NAME,
    "email": "an address such as name@example.com",
}
"""What the rules mean that the API names in `Validation failed for tag "…"`, whose words clients know."""


class ExitStatus(WarrenError):
    """End with this exit code; the message, if any, goes to stderr as it is."""

    def __init__(self, code: int, message: str = "") -> None:
        super().__init__(message)
        self.code = code


def report(terminal: Terminal, command: str, error: WarrenError, *, verbose: bool) -> int:
    """Tell the user of an error; return the exit code."""
    match error:
        case Canceled():
            return 1
        case ExitStatus(code=code, message=message):
            if message:
                terminal.say(message)
            return code
        case _:
            for line in lines(error, command, terminal, verbose=verbose):
                terminal.say(line)
            return 1


def lines(error: WarrenError, command: str, terminal: Terminal, *, verbose: bool) -> list[str]:
    """Write an error: what was run, what went wrong, each refused field, the cause, what to do."""
    found = [
        f'Encountered an error running "{command}", see "{command} --help" for more information',
        f"{terminal.style('error:', RED)} {error.message}",
    ]
    found += [f"  {violation.field}: {violation.detail}" for violation in error.violations]
    if error.detail and error.detail != error.message and (verbose or not error.hint):
        found.append(f"  {error.detail}")
    if hint := error.hint or _rules(error.violations):
        found.append(f"{terminal.style('hint:', BOLD)} {hint}")
    return found


def _rules(violations: Sequence[Violation]) -> str:
    """Say what was expected of the refused fields."""
    named = {
        violation.field: rule
        for violation in violations
        for tag, rule in RULES.items()
        if violation.detail.startswith(f'Validation failed for tag "{tag}"')
    }
    return "; ".join(f"{field} is {rule}" for field, rule in named.items())
