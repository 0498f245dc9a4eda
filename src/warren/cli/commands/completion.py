"""Shell completion, with the names of commands, options, workspaces and templates."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import click

from warren.cli import params
from warren.cli.command import HELP_NAMES, Group, command
from warren.cli.completion_scripts import SCRIPTS, script
from warren.cli.context import Context
from warren.errors import Invalid, WarrenError

if TYPE_CHECKING:
    from collections.abc import Sequence

ANSWER_SECONDS = 2.0  # a person waits at the keyboard; no names are better than late names
START, END = "# >>> warren completion >>>", "# <<< warren completion <<<"


def _install_or_print(*, shell: str | None, print_it: bool) -> None:
    if click.get_current_context().invoked_subcommand is not None:
        return
    context = Context.current()
    chosen = shell or Path(os.environ.get("SHELL", "")).name
    if chosen not in SCRIPTS:
        raise Invalid(f"no completion for the shell `{chosen}`", hint="choose one with --shell: " + ", ".join(SCRIPTS))
    if print_it:
        context.terminal.out(script(chosen, context.program).rstrip())
        return
    _install(context, chosen)


completion = Group(
    "completion",
    help="Install shell completion, or print its script.",
    params=[
        click.Option(["--shell", "-s"], type=click.Choice(list(SCRIPTS)), help="Shell; $SHELL unless given."),
        params.FlagOption(["--print", "-p", "print_it"], is_flag=True, help="Print the script, install nothing."),
    ],
    invoke_without_command=True,
    callback=_install_or_print,
    context_settings=HELP_NAMES,
)


@command("candidates", parent=completion, hidden=True, context_settings={"ignore_unknown_options": True})
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
async def candidates(context: Context, *, words: tuple[str, ...]) -> None:
    """Print the words that may stand at the end of a command line."""
    from warren.cli.main import root_command

    *before, last = words or ("",)
    ctx, found = _descend(root_command(), before)
    for word in await _suggest(context, ctx, found, before, last):
        if word.startswith(last):
            context.terminal.out(word)


def _descend(root: click.Command, words: Sequence[str]) -> tuple[click.Context, click.Command]:
    """Follow the words down to the command they name."""
    found, ctx = root, click.Context(root, info_name="warren")
    for word in words:
        if word.startswith("-"):
            continue
        below = found.get_command(ctx, word) if isinstance(found, click.Group) else None
        if below is None:
            break
        found, ctx = below, click.Context(below, info_name=word, parent=ctx)
    return ctx, found


async def _suggest(
    context: Context, ctx: click.Context, found: click.Command, before: Sequence[str], last: str
) -> list[str]:
    if before and (option := _option(found, ctx, before[-1])) is not None:
        if isinstance(option.type, click.Choice):
            return [str(choice) for choice in option.type.choices]  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]  of texts
        return await _names(context, "template") if "--template" in option.opts else []
    if last.startswith("-"):
        return [name for param in found.params if not _hidden(param) for name in param.opts if name.startswith("--")]
    if isinstance(found, click.Group):
        return [name for name in found.list_commands(ctx) if not _hidden_command(found, ctx, name)]
    arguments = {param.name for param in found.params if isinstance(param, click.Argument)}
    if "workspace" in arguments:
        return await _names(context, "workspace")
    in_templates = ctx.parent is not None and ctx.parent.info_name in {"templates", "template", "versions", "presets"}
    if in_templates and arguments & {"name", "names", "template"}:
        return await _names(context, "template")
    return []


def _option(found: click.Command, ctx: click.Context, word: str) -> click.Option | None:
    """Find the option that waits for a value."""
    for param in found.get_params(ctx):
        if isinstance(param, click.Option) and word in param.opts and not param.is_flag:
            return param
    return None


def _hidden(param: click.Parameter) -> bool:
    return isinstance(param, click.Option) and param.hidden


def _hidden_command(group: click.Group, ctx: click.Context, name: str) -> bool:
    from warren.cli.command import LazyGroup

    if isinstance(group, LazyGroup):
        return group.table[name].hidden
    found = group.get_command(ctx, name)
    return found is not None and found.hidden


async def _names(context: Context, kind: str) -> list[str]:
    """Ask the server for names; one who is not signed in gets none."""
    try:
        with anyio.move_on_after(ANSWER_SECONDS):
            if kind == "workspace":
                return [workspace.name for workspace in await context.client.workspaces.list("owner:me")]
            return [template.name for template in await context.client.templates.list()]
    except WarrenError:
        return []
    return []


def _install(context: Context, shell: str) -> None:
    text = script(shell, context.program)
    if shell == "fish":
        path = Path.home() / ".config/fish/completions" / f"{context.program}.fish"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    else:
        path = Path.home() / {"bash": ".bashrc", "zsh": ".zshrc"}[shell]
        before = path.read_text() if path.exists() else ""
        path.write_text(with_section(before, text))
    context.terminal.say(f"Installed {shell} completion in {path}; open a new shell to use it.")


def with_section(before: str, text: str) -> str:
    """Put the script between its markers, in the place of an older one or at the end."""
    section = f"{START}\n{text.rstrip()}\n{END}\n"
    head, found, rest = before.partition(START)
    if found:
        _, _, after = rest.partition(END + "\n")
        return head + section + after
    return before + ("\n" if before and not before.endswith("\n") else "") + section
