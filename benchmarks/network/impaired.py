"""What is left of the throughput on real lines: delay, loss and reordering, by the kernel's TCP and by our own?

Every condition is made by the impairer of the network lab, between two namespaces: the same for the plain kernel TCP
that the kernel path is compared with, and for the kernel path that the portable stack is compared with. The sender is
the far end. The portable stack sends to itself and to a kernel-path peer; the slower of both counts.

Plain TCP gets the buffers that the engine asks of the kernel for itself. What it does with those that the kernel gives
without being asked is measured beside it (`..._untuned`): that is what programs have that nobody tuned.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.figures import Figure
from benchmarks.network import place
from warren.netlab.link import ImpairedLink, impaired_link

NAMES = (
    "rtt20_kernel",
    "loss_01pct_kernel",
    "loss_1pct_kernel",
    "reorder_kernel",
    "rtt100_kernel",
    "rtt20_portable",
    "loss_01pct_portable",
    "loss_1pct_portable",
    "reorder_portable",
    "rtt20_untuned",
    "loss_01pct_untuned",
    "loss_1pct_untuned",
    "reorder_untuned",
)
ROUNDS = 3
SECONDS = 4.0
LONG_SECONDS = 8.0  # a long line takes longer to fill
BUFFERS = {"ipv4/tcp_rmem": "4096 131072 134217728", "ipv4/tcp_wmem": "4096 131072 134217728"}
"""What the engine asks of the kernel in its own namespace; plain TCP gets the same."""
OWN_BUFFERS = {f"ipv4/tcp_{name}": Path(f"/proc/sys/net/ipv4/tcp_{name}").read_text() for name in ("rmem", "wmem")}
"""What the kernel gives by itself."""


@dataclass(frozen=True)
class Line:
    """A condition: seconds one way, and shares of packets."""

    delay_seconds: float
    loss: float = 0.0
    reorder: float = 0.0


LINES = {
    "rtt20": Line(0.01),
    "loss_01pct": Line(0.01, loss=0.001),
    "loss_1pct": Line(0.01, loss=0.01),
    "reorder": Line(0.01, reorder=0.01),
}
SENDERS = {"plain": ("plain", "plain"), "kernel": ("kernel", "kernel"), "portable": ("portable", "portable")}
SENDERS["portable to kernel"] = ("portable", "kernel")
SENDERS["untuned"] = ("plain", "plain")


def run() -> Iterator[Figure]:
    """Measure all senders over each line, in turns."""
    for name, line in LINES.items():
        speed = measure(line, SENDERS, SECONDS)
        reference = f"plain TCP with {speed.control}, same line, in turns in this run"
        yield Figure(f"{name}_kernel", speed.of("kernel"), "Mbit/s", speed.of("plain"), reference)
        untuned = (
            f"plain TCP with {speed.control} and the buffers that the kernel gives by itself, in turns in this run"
        )
        yield Figure(f"{name}_untuned", speed.of("kernel"), "Mbit/s", speed.of("untuned"), untuned)
        slower = min(speed.of("portable"), speed.of("portable to kernel"))
        yield Figure(f"{name}_portable", slower, "Mbit/s", speed.of("kernel"), "our kernel path, in turns in this run")
    long = measure(Line(0.05), {"kernel": SENDERS["kernel"]}, LONG_SECONDS)
    yield Figure("rtt100_kernel", long.of("kernel"), "Mbit/s", 1000, "1 Gbit/s")


@dataclass
class Speeds:
    """Mbit/s of each sender, one a round."""

    runs: dict[str, list[float]]
    control: str = ""

    def of(self, sender: str) -> float:
        """The median of a sender."""
        return median(self.runs[sender])


def measure(line: Line, senders: dict[str, tuple[str, str]], seconds: float) -> Speeds:
    """Let each sender have the line for so long, in turns."""
    speeds = Speeds({name: [] for name in senders})
    for seed in range(ROUNDS):
        for name, (sending, receiving) in senders.items():
            buffers = OWN_BUFFERS if name == "untuned" else BUFFERS
            with joined(line, sending, receiving, seed=seed, buffers=buffers) as pair:
                speeds.runs[name].append(pair.move(seconds).mbits)
                speeds.control = pair.client.about.get("congestion_control", speeds.control)
    return speeds


@contextmanager
def joined(
    line: Line, sending: str, receiving: str, *, seed: int, buffers: Mapping[str, str] = BUFFERS
) -> Generator[place.Pair]:
    """Run two ends on both sides of a line."""
    with impaired_link(seed=seed + 1, delay_seconds=line.delay_seconds, loss=line.loss, reorder=line.reorder) as link:
        for namespace in (link.left, link.right):
            namespace.sysctl(buffers)
        with (
            end_in(link, "right", sending, "fd7a:115c:a1e0::2") as server,
            end_in(link, "left", receiving, "fd7a:115c:a1e0::1") as client,
        ):
            place.introduce(server, client)
            pair = place.Pair(client, server)
            client.ask(do="echo") if receiving != "plain" else client.ask(do="echoes", count=1)
            pair.until_direct()
            yield pair


def end_in(link: ImpairedLink, side: str, stack: str, address: str) -> place.Ending:
    """Run an end on one side of a line."""
    namespace = link.left if side == "left" else link.right
    host = link.left_address if side == "left" else link.right_address
    return place.end(namespace.command(), host=host, stack=stack, address=address, congestion_control="bbr")
