"""How long do the commands take that people and `ssh` run all day?"""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.figures import UPSTREAM, Figure, median_seconds
from benchmarks.lab import lab

NAMES = ("ssh_true", "cli_help", "cli_list")


def run() -> Iterator[Figure]:
    """Time whole commands."""
    with lab() as place:
        place.start()
        place.login()
        place.template()
        place.workspace()
        yield Figure(
            "ssh_true", median_seconds(lambda: place.run("ssh", "dev", "--", "true"), 9), "seconds", 0.2, UPSTREAM
        )
        yield Figure("cli_help", median_seconds(lambda: place.run("--help"), 15), "seconds", 0.073, UPSTREAM)
        yield Figure("cli_list", median_seconds(lambda: place.run("list"), 9), "seconds", 0.05, UPSTREAM)
