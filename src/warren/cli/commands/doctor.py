"""`doctor`: try everything on the way to the server and to a workspace, and say what is wrong and who has to act."""

from __future__ import annotations

import click

from warren.cli import connect, ui
from warren.cli.command import command
from warren.cli.context import Context
from warren.cli.errors import ExitStatus
from warren.errors import Unauthenticated


@command()
@click.argument("workspace", default="")
@ui.output_option(formats=("text", "json"), default="text")
async def doctor(context: Context, *, workspace: str, output: str) -> None:
    """Find out what keeps connections from working well, and who has to act.

    Tries the server, its relays and STUN servers, this machine's network and, if one is named, a workspace. Exits with
    0 when everything works, be it slower than it could, and with 1 when something does not.
    """
    connect.quiet_imports()
    connect.quiet_logs(verbose=context.options.verbose)
    from warren.cli import examine, findings_text
    from warren.net import diagnosis

    if not context.url:
        raise Unauthenticated(f"You are not logged in. Try logging in using '{context.program} login <url>'.")
    if output == "text" and context.terminal.error_tty:
        way = f", this network and the way to {workspace}" if workspace else " and this network"
        context.terminal.say(f"Examining {context.url}{way}…")
    report = await examine.everything(context, workspace)
    found = diagnosis.diagnose(report)
    if output == "json":
        context.terminal.out(
            ui.json_text({"healthy": found.healthy, "findings": found.findings, "pairs": found.pairs, "report": report})
        )
    else:
        relayed = (
            report.workspace is not None and report.workspace.path is not None and not report.workspace.path.direct
        )
        lines = [*findings_text.summary(report), *findings_text.findings(found)]
        if context.options.verbose or relayed:
            lines += findings_text.pairs(found.pairs)
        if found.findings:
            lines.append("")
        if found.findings or report.workspace is None:
            lines.append(findings_text.verdict(found))
        context.terminal.out("\n".join(lines))
    if not found.healthy:
        raise ExitStatus(1)
