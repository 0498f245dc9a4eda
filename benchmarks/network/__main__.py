"""Measure the network: all figures, or those named by `--only`; one JSON line a figure."""

from __future__ import annotations

import argparse
import sys
import time
from types import ModuleType

from benchmarks import transfer
from benchmarks.figures import CannotMeasure
from benchmarks.network import (
    idle_peers,
    impaired,
    latency,
    relay_memory,
    relay_tls,
    relayed,
    switching,
    throughput,
)
from benchmarks.network.place import enter_namespace

MODULES: tuple[ModuleType, ...] = (
    throughput,
    relayed,
    relay_tls,
    relay_memory,
    latency,
    switching,
    impaired,
    idle_peers,
    transfer,
)


def main() -> int:
    """Measure module by module; one that cannot says why, and the others go on."""
    known = [name for module in MODULES for name in module.NAMES]
    parser = argparse.ArgumentParser(
        prog="benchmarks.network", description=__doc__, epilog="figures: " + ", ".join(known)
    )
    parser.add_argument("--only", default="", metavar="NAME,NAME", help="measure only these figures")
    wanted = {name for name in parser.parse_args().only.split(",") if name}
    if unknown := wanted - set(known):
        parser.error(f"no such figure: {', '.join(sorted(unknown))}")
    enter_namespace()
    failures = 0
    for module in MODULES:
        if wanted and not wanted & set(module.NAMES):
            continue
        began = time.monotonic()
        try:
            for figure in module.run():
                if not wanted or figure.name in wanted:
                    figure.print()
        except CannotMeasure as error:
            failures += 1
            print(f"{', '.join(module.NAMES)}: not measured: {error}", file=sys.stderr)
        print(f"{module.__name__}: {time.monotonic() - began:.0f} s", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
