"""Does the lab's impaired line limit what is measured over it?"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from benchmarks.figures import BAR, Figure
from warren.netlab import link, namespace
from warren.netlab.namespace import Namespace

NAMES = ("impairer_20ms", "impairer_cpu", "impairer_clean")
SECONDS = 3.0
WARM_SECONDS = 1.0
ROUNDS = 3
ONE_WAY_SECONDS = 0.01
PORT = 5001
BLOCK_BYTES = 1 << 20
THREAD = "warren-impairer"
CPU_BAR = 1.0  # s/GiB: a core then moves 8.6 Gbit/s


def run() -> Iterator[Figure]:
    """Send over a line with 20 ms round trip, a line without delay, and a plain pair of devices, in turns."""
    if namespace.missing():
        return
    slow: list[tuple[float, float]] = []
    clean: list[tuple[float, float]] = []
    plain: list[tuple[float, float]] = []
    for _ in range(ROUNDS):
        with link.impaired_link(delay_seconds=ONE_WAY_SECONDS) as line:
            slow.append(transfer(line.left, line.right))
        with link.impaired_link() as line:
            clean.append(transfer(line.left, line.right))
        with pair_of_devices() as (left, right):
            plain.append(transfer(left, right))
    reference = round(median([each[0] for each in plain]), 1)
    yield Figure("impairer_20ms", median([each[0] for each in slow]), "Mbit/s", 6000.0, BAR)
    yield Figure("impairer_cpu", median([each[1] for each in slow]), "s/GiB", CPU_BAR, BAR)
    name = "a plain pair of devices, in turns in this run"
    yield Figure("impairer_clean", median([each[0] for each in clean]), "Mbit/s", reference, name)


def median(values: list[float]) -> float:
    """Give the middle one."""
    return sorted(values)[len(values) // 2]


@contextmanager
def pair_of_devices() -> Iterator[tuple[Namespace, Namespace]]:
    """Join two namespaces by Ethernet devices with nothing between them."""
    with ExitStack() as stack:
        left, right = (stack.enter_context(Namespace(name)) for name in ("left", "right"))
        namespace.join_by_wire(left, right, "wan", "wan")
        left.ip(f"address add {link.LEFT_ADDRESS}/24 dev wan")
        right.ip(f"address add {link.RIGHT_ADDRESS}/24 dev wan")
        yield left, right


def transfer(left: Namespace, right: Namespace) -> tuple[float, float]:
    """Send to the right by one TCP stream; return Mbit/s and the impairer's CPU-seconds a GiB."""
    with right.call(lambda: socket.create_server((link.RIGHT_ADDRESS, PORT))) as server:
        sender = left.call(lambda: socket.create_connection((link.RIGHT_ADDRESS, PORT)))
        receiver, _ = server.accept()
    with closing(receiver):
        thread = threading.Thread(target=send, args=(sender,))
        thread.start()
        receive(receiver, WARM_SECONDS)
        before = cpu_seconds()
        began = time.perf_counter()
        received = receive(receiver, SECONDS)
        elapsed = time.perf_counter() - began
        cpu = cpu_seconds() - before
    thread.join()
    return received * 8 / elapsed / 1e6, cpu / (received / (1 << 30))


def send(sender: socket.socket) -> None:
    """Send until the other side leaves."""
    block = bytes(BLOCK_BYTES)
    with sender:
        try:
            while True:
                sender.sendall(block)
        except OSError:
            return


def receive(receiver: socket.socket, seconds: float) -> int:
    """Read for a while; return how much came."""
    buffer, received = bytearray(BLOCK_BYTES), 0
    deadline = time.perf_counter() + seconds
    while time.perf_counter() < deadline:
        received += receiver.recv_into(buffer)
    return received


def cpu_seconds() -> float:
    """What the impairers of this process have used; the first number of a thread's schedstat is nanoseconds."""
    tasks = [path.parent for path in Path("/proc/self/task").glob("*/comm") if path.read_text().strip() == THREAD]
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9
