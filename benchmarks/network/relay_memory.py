"""What does an idle client cost a relay with 2,000 of them, with and without TLS?"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.certificates import self_signed

from benchmarks.figures import BAR, Figure
from benchmarks.relay import client_cost, our_relay

NAMES = ("relay_idle_memory", "relay_idle_memory_tls")
BAR_KIB = 24
"""`derper` takes 63 KB, as its makers have published."""


def run() -> Iterator[Figure]:
    """Connect, let every client talk once, and look at the relay's process when all is quiet."""
    with our_relay() as (port, pid):
        yield Figure("relay_idle_memory", client_cost(port, pid), "KiB", BAR_KIB, BAR)
    with tempfile.TemporaryDirectory(prefix="warren-bench-") as name:
        folder = Path(name)
        self_signed(folder, "localhost")
        with our_relay(folder) as (port, pid):
            yield Figure("relay_idle_memory_tls", client_cost(port, pid, folder), "KiB", BAR_KIB, BAR)
