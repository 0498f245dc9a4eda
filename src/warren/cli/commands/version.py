"""`version`: local, so that it works without a server."""

from __future__ import annotations

import platform

from warren import __version__
from warren.cli import ui
from warren.cli.command import command
from warren.cli.context import Context


@command()
@ui.output_option(formats=("text", "json"), default="text")
def version(context: Context, *, output: str) -> None:
    """Print the version."""
    known = {"version": f"v{__version__}", "python": platform.python_version(), "platform": platform.platform()}
    if output == "json":
        context.terminal.out(ui.json_text(known))
        return
    context.terminal.out(f"Warren v{__version__}")
    context.terminal.out(f"Python {known['python']} on {known['platform']}")
