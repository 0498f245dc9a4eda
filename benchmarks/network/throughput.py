"""How fast is one stream through the tunnel, direct, and what does it cost: by the kernel's TCP and by our own?"""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from benchmarks.figures import Figure
from benchmarks.network import place
from benchmarks.network.place import TAILSCALE, Moved

NAMES = ("direct", "direct_cpu", "direct_portable", "streams_8", "both_ways", "engine_memory")
ROUNDS = 3
SECONDS = 4.0
OURS = "our one stream, in this run"


def run() -> Iterator[Figure]:
    """Measure ours by both stacks and Tailscale's, in turns."""
    runs: dict[str, list[Moved]] = {"kernel": [], "portable": [], "tailscale": [], "eight": [], "both": []}
    peaks: list[float] = []
    theirs: list[float] = []
    for _ in range(ROUNDS):
        with place.pair(stack="kernel") as ours:
            runs["kernel"].append(ours.move(SECONDS))
            runs["eight"].append(ours.move(SECONDS, takes=8))
            runs["both"].append(ours.move(SECONDS, takes=1, gives=1))
            peaks.append(max(end.ask(do="memory")["peak"] for end in (ours.client, ours.server)) / 1e6)
        with place.pair(stack="portable") as ours:
            runs["portable"].append(ours.move(SECONDS))
        with place.tailscale_pair() as nodes:
            runs["tailscale"].append(place.take(nodes, SECONDS))
            theirs.append(max(place.peak_mb(end.pid) for end in (nodes.client, nodes.server)))
    speed = {name: median(each.mbits for each in moved) for name, moved in runs.items()}
    cost = {name: median(each.ends_cpu for each in moved) for name, moved in runs.items()}
    yield Figure("direct", speed["kernel"], "Mbit/s", speed["tailscale"], TAILSCALE)
    yield Figure("direct_cpu", cost["kernel"], "s/GiB", cost["tailscale"], TAILSCALE)
    yield Figure("direct_portable", speed["portable"], "Mbit/s", speed["tailscale"], TAILSCALE)
    yield Figure("streams_8", speed["eight"], "Mbit/s", speed["kernel"], OURS)
    yield Figure("both_ways", speed["both"], "Mbit/s", speed["kernel"], OURS)
    yield Figure("engine_memory", median(peaks), "MB", median(theirs), f"{TAILSCALE}; ours with Python")
