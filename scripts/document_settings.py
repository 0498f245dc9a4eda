"""Write `docs/reference/settings.md` from the settings themselves."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

from warren.settings import Option, duration_text, options

TARGET = Path(__file__).parent.parent / "docs/reference/settings.md"
HEAD = """\
# Settings of the server

Made from `warren.settings` by `make gen`; do not edit.

A value comes from the flag of `warren server`, else the variable, else the YAML file (`--config`), else the default.
Where two variables are named, the first that is set wins. Lists are separated by commas; durations are such as `90s`,
`1h30m` or `7d`. `warren server --write-config` prints what is in force as YAML.
"""


def reference() -> str:
    """Write the whole page."""
    shown = [option for option in options() if not option.hidden]
    lines = [HEAD]
    for group in dict.fromkeys(option.group for option in shown):
        lines += [f"## {group}", ""]
        lines += ["| Flag | Variables | YAML | Default | Meaning |", "| --- | --- | --- | --- | --- |"]
        lines += [_row(option) for option in shown if option.group == group]
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def _row(option: Option) -> str:
    cells = (
        ", ".join(_code(flag) for flag in _flags(option)),
        "<br>".join(_code(name) for name in option.variables),
        _code(option.yaml),
        _code(_default(option)),
        option.help,
    )
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _flags(option: Option) -> Iterator[str]:
    yield f"--{option.flag}"
    if option.short:
        yield f"-{option.short}"


def _default(option: Option) -> str:
    match option.default:
        case None:
            return ""
        case bool():
            return "true" if option.default else "false"
        case timedelta():
            return duration_text(option.default)
        case list():
            # A default may be a list of anything, for all that the types tell; it is one of texts.
            return ",".join(map(str, option.default))  # pyright: ignore[reportUnknownArgumentType, reportUnknownMemberType]
        case _:
            return str(option.default)


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


if __name__ == "__main__":
    TARGET.write_text(reference())
