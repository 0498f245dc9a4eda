"""Run benchmarks: all, or those that measure the figures named by `--only`."""

from __future__ import annotations

import argparse
import sys
from types import ModuleType

from benchmarks import agents, api, builds, commands, demo, impairer, relay, startup, transfer, tunnel

MODULES: tuple[ModuleType, ...] = (commands, startup, builds, tunnel, relay, transfer, api, agents, demo, impairer)


def main() -> int:
    """Print one JSON line a figure."""
    known = [name for module in MODULES for name in module.NAMES]
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__, epilog="figures: " + ", ".join(known))
    parser.add_argument("--only", default="", metavar="NAME,NAME", help="measure only these figures")
    wanted = [name for name in parser.parse_args().only.split(",") if name]
    unknown = set(wanted) - set(known)
    if unknown:
        parser.error(f"no such figure: {', '.join(sorted(unknown))}")
    for module in MODULES:
        if wanted and not set(wanted) & set(module.NAMES):
            continue
        for figure in module.run():
            if not wanted or figure.name in wanted:
                figure.print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
