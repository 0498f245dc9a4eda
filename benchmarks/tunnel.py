"""How fast is one stream through the tunnel, direct and relayed, with both ends on this machine?"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator

from benchmarks.figures import UPSTREAM, Figure
from benchmarks.lab import lab

NAMES = ("tunnel_direct", "tunnel_relay")
ROUNDS = 3


def run() -> Iterator[Figure]:
    """Run `warren speedtest`, interleaved."""
    direct: list[float] = []
    relayed: list[float] = []
    with lab() as place:
        place.start()
        place.login()
        place.template()
        place.workspace()
        for _ in range(ROUNDS):
            direct.append(throughput(place.run("speedtest", "dev", "--direct", "--time", "5s", "--output", "json")))
            relayed.append(
                throughput(
                    place.run("--disable-direct-connections", "speedtest", "dev", "--time", "5s", "--output", "json")
                )
            )
    yield Figure("tunnel_direct", statistics.median(direct), "Mbit/s", 574, UPSTREAM)
    yield Figure("tunnel_relay", statistics.median(relayed), "Mbit/s", 487, UPSTREAM)


def throughput(output: str) -> float:
    """The overall figure of a speedtest in Mbit/s."""
    return float(json.loads(output)["overall"]["throughput_mbits"])
