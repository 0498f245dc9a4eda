"""How long does a stream pause when its direct path is silently cut, and how soon is it direct again after that?"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median

from benchmarks.figures import UPSTREAM, CannotMeasure, Figure
from benchmarks.network import place

NAMES = ("cut_to_relay", "back_to_direct")
ROUNDS = 3
BEFORE_SECONDS = 2.0
CUT_SECONDS = 5.0

RULES = """
table inet cut {
  chain output {
    type filter hook output priority 0;
    meta l4proto udp drop
  }
}
"""


def run() -> Iterator[Figure]:
    """Drop all UDP for a while under a trickle of data."""
    pauses: list[float] = []
    returns: list[float] = []
    for _ in range(ROUNDS):
        with place.pair(relay=True) as pair:
            pair.client.ask(do="ticks")
            time.sleep(BEFORE_SECONDS)
            at = time.perf_counter()
            with cut():
                time.sleep(CUT_SECONDS)
                seen = pair.client.ask(do="gap", at=at)
                if seen["broken"] or not seen["ticks"]:
                    raise CannotMeasure(f"the stream did not go on by relay: {seen['broken'] or 'silence'}")
                pauses.append(seen["gap"])
                pair.until_direct(direct=False)
            began = time.perf_counter()
            pair.until_direct()
            returns.append(time.perf_counter() - began)
    yield Figure("cut_to_relay", median(pauses), "seconds", 6.3, UPSTREAM)
    yield Figure("back_to_direct", median(returns), "seconds", 0.9, UPSTREAM)


@contextmanager
def cut() -> Iterator[None]:
    """Drop all UDP inside of this namespace; silently, as a firewall does."""
    try:
        subprocess.run(["nft", "-f", "-"], input=RULES, text=True, check=True, capture_output=True)
    except FileNotFoundError as error:
        raise CannotMeasure("a path is cut with nft: install nftables") from error
    try:
        yield
    finally:
        subprocess.run(["nft", "delete", "table", "inet", "cut"], check=True)
