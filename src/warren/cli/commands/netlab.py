"""`netlab`: the networks of users, made on this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

import click

from warren.cli import connect, params, ui
from warren.cli.command import command, group
from warren.cli.context import Context
from warren.cli.errors import ExitStatus
from warren.errors import Unavailable

if TYPE_CHECKING:
    from warren.netlab.report import Report

netlab = group("netlab", "Reproduce a network on this machine, with NATs and faults, and see how nodes connect in it.")
INSIDE = "WARREN_NETLAB_INSIDE"
"""Set once we have started again in a user namespace: what fails there fails for good."""
WIDTHS = (31, 8, 8, 10, 12, 14)
"""Of the table's columns but the last: rows are printed as they come."""


@command("list", parent=netlab)
@ui.output_option()
async def list_scenarios(context: Context, *, output: str) -> None:
    """List the scenarios: every pair of networks, and the special ones."""
    from warren.netlab import scenario

    rows = [{"name": found.name, "summary": found.summary} for found in scenario.catalogue().values()]
    if output == "json":
        context.terminal.out(ui.json_text(rows))
        return
    context.terminal.out(ui.columns_text([("NAME", "SUMMARY"), *((row["name"], row["summary"]) for row in rows)]))


@command("run", parent=netlab)
@click.argument("scenarios", nargs=-1, required=True, metavar="SCENARIO...")
@params.durations("--delay", default="0s", show_default=True, help="Delay of each site's line, one way.")
@params.option("--loss", type=click.FloatRange(0, 100), default=0.0, help="Percent of packets lost on each line.")
@params.option("--reorder", type=click.FloatRange(0, 100), default=0.0, help="Percent of packets late by 1 ms.")
@params.option("--duplicate", type=click.FloatRange(0, 100), default=0.0, help="Percent of packets that come twice.")
@params.option("--rate", type=click.FloatRange(0), default=0.0, help="Mbit/s of each line; 0 is no limit.")
@params.option("--seed", type=int, default=1, show_default=True, help="What chance is made of.")
@params.option("--jobs", type=click.IntRange(1, 16), default=1, show_default=True, help="Scenarios at a time.")
@ui.output_option()
async def run(
    context: Context,
    *,
    scenarios: tuple[str, ...],
    delay: timedelta,
    loss: float,
    reorder: float,
    duplicate: float,
    rate: float,
    seed: int,
    jobs: int,
    output: str,
) -> None:
    """Run scenarios in network namespaces of their own, with real engines.

    A scenario is named as `netlab list` says: `easy+hard` for a pair of networks, one of them alone for all of its
    pairs, `pairs`, `others` or `all`. It needs root, or user namespaces; nothing outside of it is touched, and nothing
    is left behind. The exit code is 1 when anything is not as expected.
    """
    _enter_user_namespace()
    from warren.netlab import namespace, report, scenario
    from warren.netlab.link import Impairment

    if problem := namespace.missing():
        reason, _, advice = problem.partition(": ")
        raise Unavailable(reason, hint=advice)
    connect.quiet_logs(verbose=context.options.verbose)
    impairment = Impairment(
        delay_seconds=delay.total_seconds(),
        loss=loss / 100,
        reorder=reorder / 100,
        duplicate=duplicate / 100,
        rate_bits_per_second=rate * 1e6,
    )
    options = scenario.Options(impairment=None if impairment == Impairment() else impairment, seed=seed)
    chosen = scenario.choose(scenarios)
    as_table = output == "table"

    def show(found: Report) -> None:
        if as_table:
            context.terminal.out(_row(report.row(found)))

    if as_table:
        context.terminal.out(_row([heading.upper() for heading in report.HEADINGS]))
    reports = await scenario.run_all(chosen, options, jobs=jobs, show=show)
    if not as_table:
        context.terminal.out(ui.json_text(reports))
    context.terminal.say(report.verdict(reports))
    if not all(found.good for found in reports):
        raise ExitStatus(1)


def _row(cells: Sequence[str]) -> str:
    padded = [cell.ljust(width) for cell, width in zip(cells, WIDTHS, strict=False)]
    return "  ".join([*padded, *cells[len(WIDTHS) :]]).rstrip()


def _enter_user_namespace() -> None:
    """Start again as the root of a user namespace, where we may not make network namespaces as we are."""
    from warren.netlab import namespace

    if namespace.allowed() or INSIDE in os.environ or shutil.which("unshare") is None:
        return  # what is missing is said next
    enter = ["unshare", "--user", "--map-root-user", "--"]
    if subprocess.run([*enter, "true"], capture_output=True, check=False).returncode != 0:
        return
    again = [*enter, sys.executable, "-m", "warren", *sys.argv[1:]]
    os.execvpe("unshare", again, {**os.environ, INSIDE: "1"})  # noqa: S606  there is nothing for a shell to do
