"""How fast is one stream through a relay, all three on this machine, and what does the relay spend on it?"""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from benchmarks.figures import Figure
from benchmarks.network import place
from benchmarks.network.place import TAILSCALE, Moved

NAMES = ("relay", "relay_cpu")
ROUNDS = 3
SECONDS = 4.0


def run() -> Iterator[Figure]:
    """Measure ours and Tailscale's with `derper`, in turns."""
    ours: list[Moved] = []
    theirs: list[Moved] = []
    for _ in range(ROUNDS):
        with place.pair(relayed=True) as pair:
            ours.append(pair.move(SECONDS))
        with place.tailscale_pair(relayed=True) as nodes:
            theirs.append(place.take(nodes, SECONDS))
    speed, reference = (median(each.mbits for each in runs) for runs in (ours, theirs))
    yield Figure("relay", speed, "Mbit/s", reference, f"{TAILSCALE}, by derper")
    cost, reference = (median(each.relay_cpu for each in runs) for runs in (ours, theirs))
    yield Figure("relay_cpu", cost, "s/GiB", reference, "derper 1.102.5, in turns in this run")
