"""`templates init`: a starter template in a folder of one's own."""

from __future__ import annotations

from pathlib import Path

import click

from warren.cli import params
from warren.cli.command import command
from warren.cli.context import Context
from warren.errors import Invalid


@command()
@click.argument("directory", required=False, type=click.Path(path_type=Path))
@params.option("--id", "example_id", default="", metavar="EXAMPLE", help="Which starter template to take.")
def init(context: Context, *, directory: Path | None, example_id: str) -> None:
    """Write a starter template into a folder."""
    from warren.cli.archive import unpack
    from warren.starter_templates import examples

    known = {example.id: example for example in examples()}
    if not example_id:
        terminal = context.terminal
        for example in known.values():
            terminal.say(f"{terminal.keyword(example.id)}  {example.name}: {example.description}")
        example_id = terminal.choose("Select a starter template:", list(known))
    if example_id not in known:
        raise Invalid(f"no starter template `{example_id}`", hint="there are " + ", ".join(known))
    folder = directory or Path(example_id)
    if folder.exists() and any(folder.iterdir()):
        raise Invalid(f"the folder {folder} is not empty")
    folder.mkdir(parents=True, exist_ok=True)
    unpack(known[example_id].archive, folder)
    context.terminal.say(f"Wrote template {context.terminal.keyword(example_id)} to {folder}.")
    context.terminal.say(f"Create it with:\n\n  {context.program} templates push -d {folder}\n")
