"""Write the reference of the command line from the commands themselves: `python -m warren.cli.docs [FILE]`.

Commands that cannot be imported, because this build lacks them, are left out.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from warren.cli.command import GLOBALS
from warren.cli.main import root_command

TITLE = """\
# Command line

Made from the commands by `make gen`; do not edit.

Every command has `--help`. Options may stand anywhere before the arguments of a remote command. A setting is taken
from the flag, then the variable, then the stored configuration. Data goes to stdout and everything else to stderr; the
exit code is 0, or 1 after an error; `warren ssh` returns the exit status of the remote command, and 255 when the
session ends without one.
"""


def reference() -> str:
    """Write the whole reference."""
    root = root_command()
    ctx = click.Context(root, info_name="warren")
    lines = [TITLE, "## Global options", "", *_options(ctx, list(GLOBALS)), ""]
    for name in sorted(root.list_commands(ctx)):
        if not root.table[name].hidden:
            lines += _command(root, ctx, name)
    return "\n".join(lines).rstrip() + "\n"


def _command(parent: click.Group, parent_ctx: click.Context, name: str) -> Iterator[str]:
    try:
        found = parent.get_command(parent_ctx, name)
    except ModuleNotFoundError:
        return
    if found is None or found.hidden:
        return
    ctx = click.Context(found, info_name=name, parent=parent_ctx)
    yield from ("## " + ctx.command_path, "", "```", _usage(found, ctx), "```", "")
    yield from (_text(found), "")
    if options := list(_options(ctx, found.params)):
        yield from (*options, "")
    if isinstance(found, click.Group):
        for below in sorted(found.list_commands(ctx)):
            yield from _command(found, ctx, below)


def _usage(found: click.Command, ctx: click.Context) -> str:
    return " ".join([ctx.command_path, *found.collect_usage_pieces(ctx)])


def _text(found: click.Command) -> str:
    return (found.help or "").partition("\f")[0].strip()


def _options(ctx: click.Context, known: list[click.Parameter] | list[click.Option]) -> Iterator[str]:
    shown = [param for param in known if isinstance(param, click.Option) and not param.hidden]
    if not shown:
        return
    yield "| Option | Variable | Meaning |"
    yield "| --- | --- | --- |"
    for option in shown:
        record = option.get_help_record(ctx)
        assert record is not None
        names = [option.envvar] if isinstance(option.envvar, str) else list(option.envvar or ())
        variables = ", ".join(f"`{name}`" for name in names)
        yield f"| `{_escaped(record[0])}` | {variables} | {_escaped(record[1])} |"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


def main(arguments: Sequence[str]) -> None:
    """Write to the named file, or to stdout."""
    if arguments:
        Path(arguments[0]).write_text(reference())
    else:
        sys.stdout.write(reference())


if __name__ == "__main__":
    main(sys.argv[1:])
