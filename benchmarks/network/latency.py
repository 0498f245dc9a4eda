"""How soon does a new client get an answer, and a direct path, and what does the tunnel add to a round trip?"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from statistics import median

from benchmarks.figures import Figure
from benchmarks.network import place
from benchmarks.network.place import TAILSCALE

NAMES = ("ping_overhead", "first_echo_relay", "direct_after")
ROUNDS = 3
PINGS = 400


def run() -> Iterator[Figure]:
    """Measure in turns with Tailscale's nodes and a bare UDP echo."""
    pings: list[float] = []
    bare: list[float] = []
    direct_after: list[float] = []
    relayed: list[float] = []
    theirs_relayed: list[float] = []
    theirs_direct: list[float] = []
    for _ in range(ROUNDS):
        with place.fresh_pair(relayed=False) as pair:
            pair.client.ask(do="echo")
            direct_after.append(pair.until_direct()["direct_after"])
            pings.append(pair.client.ask(do="pings", count=PINGS)["seconds"])
        bare.append(udp_echo())
        with place.fresh_pair(relayed=True) as pair:
            relayed.append(pair.client.ask(do="echo")["since_start"])
        for relay, times in ((True, theirs_relayed), (False, theirs_direct)):
            with place.tailscale_pair(relayed=relay) as nodes:
                times.append(nodes.client.ask(dial=7)["since_start"])
    overhead = (median(pings) - median(bare)) * 1e3
    yield Figure("ping_overhead", overhead, "ms", median(bare) * 1e3, "raw UDP echo, in turns in this run")
    yield Figure("first_echo_relay", median(relayed), "seconds", median(theirs_relayed), TAILSCALE)
    yield Figure("direct_after", median(direct_after), "seconds", median(theirs_direct), f"{TAILSCALE}: first echo")


def udp_echo() -> float:
    """Seconds of a round trip between two plain UDP sockets, each with its own thread to wake."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as far,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as near,
    ):
        far.bind((place.HOST, 0))
        near.connect(far.getsockname())

        def answer() -> None:
            for _ in range(PINGS):
                far.sendto(*far.recvfrom(64))

        thread = threading.Thread(target=answer)
        thread.start()
        times: list[float] = []
        for _ in range(PINGS):
            began = time.perf_counter()
            near.send(b"x")
            near.recv(64)
            times.append(time.perf_counter() - began)
        thread.join()
    return median(times)
