"""`netcheck`: what this machine's network allows: sentences on a terminal, the whole report as JSON elsewhere."""

from __future__ import annotations

import click

from warren.cli import connect, params, ui
from warren.cli.command import command
from warren.cli.context import Context


@command()
@params.option(
    "--output",
    "-o",
    type=click.Choice(["text", "json"], case_sensitive=False),
    default=None,
    help="Output format; text on a terminal, else json.",
)
async def netcheck(context: Context, *, output: str | None) -> None:
    """Report on this machine's network: relays, STUN, NAT, interfaces."""
    connect.quiet_imports()
    connect.quiet_logs(verbose=context.options.verbose)
    from warren.cli import examine, findings_text
    from warren.net import diagnosis
    from warren.net import netcheck as wire

    measured = await examine.machine(context)
    report = measured.report
    assert report.network is not None  # `machine` measured it
    if output == "json" or (output is None and not context.terminal.output_tty):
        whole = wire.report(report.network, measured.derp_map, report.relays, report.stun)
        context.terminal.out(ui.json_text(whole))
        return
    found = diagnosis.diagnose(report)
    lines = [*findings_text.network_lines(report), *findings_text.findings(found)]
    context.terminal.out("\n".join([*lines, "", findings_text.verdict(found)]))
