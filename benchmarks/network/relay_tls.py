"""How fast does the relay alone move packets under TLS, and at what cost? `relayed.py` has the same without TLS."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from tests.certificates import self_signed

from benchmarks.figures import Figure
from benchmarks.relay import PEERS, derper, our_relay, transfer

NAMES = ("relay_tls", "relay_tls_cpu")
ROUNDS = 3
TOTAL_BYTES = 512 << 20
DERPER_BYTES = 128 << 20  # it is slower


def run() -> Iterator[Figure]:
    """Measure ours and, where it was built, Tailscale's in turns."""
    ours: list[tuple[float, float]] = []
    theirs: list[tuple[float, float]] = []
    with tempfile.TemporaryDirectory(prefix="warren-bench-") as name:
        folder = Path(name)
        self_signed(folder, "localhost")
        for _ in range(ROUNDS):
            with our_relay(folder) as (port, pid):
                ours.append(transfer(port, pid, TOTAL_BYTES, folder))
            if (PEERS / "derper").exists():
                with derper(folder) as (port, pid):
                    theirs.append(transfer(port, pid, DERPER_BYTES, folder))
    for index, (figure, unit) in enumerate((("relay_tls", "Mbit/s"), ("relay_tls_cpu", "s/GiB"))):
        reference = median(each[index] for each in theirs) if theirs else None
        named = "derper 1.102.5 under TLS, in turns in this run" if theirs else ""
        yield Figure(figure, median(each[index] for each in ours), unit, reference, named)
