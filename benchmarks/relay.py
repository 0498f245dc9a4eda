"""How fast does the relay alone move packets, at what cost, and what does an idle client cost it?"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import anyio
import psutil
from tests.integration.relay.client import DERPClient

from benchmarks.figures import UPSTREAM, Figure
from warren.net import derp

NAMES = ("relay_throughput", "relay_cpu", "relay_client")
PEERS = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "warren" / "peers"
PACKET_BYTES = 1312  # a full packet of a tunnel
BATCH_BYTES = 64 << 10
TOTAL_BYTES = 1 << 30
DERPER_BYTES = 256 << 20  # it is slower
IDLE_CLIENTS = 2000
ROUNDS = 3


def run() -> Iterator[Figure]:
    """Measure ours and, where it was built, Tailscale's in turns."""
    ours: list[tuple[float, float]] = []
    theirs: list[tuple[float, float]] = []
    for _ in range(ROUNDS):
        with our_relay() as (port, pid):
            ours.append(transfer(port, pid, TOTAL_BYTES))
        if (PEERS / "derper").exists():
            with derper() as (port, pid):
                theirs.append(transfer(port, pid, DERPER_BYTES))
    speed, cpu = (median([each[index] for each in ours]) for index in (0, 1))
    if theirs:
        name = "derper 1.102.5, in turns in this run"
        yield Figure("relay_throughput", speed, "Mbit/s", round(median([each[0] for each in theirs])), name)
        yield Figure("relay_cpu", cpu, "s/GiB", round(median([each[1] for each in theirs]), 2), name)
    else:
        yield Figure("relay_throughput", speed, "Mbit/s")
        yield Figure("relay_cpu", cpu, "s/GiB", 7.5, UPSTREAM)
    with our_relay() as (port, pid):
        yield Figure("relay_client", client_cost(port, pid), "KiB")


def median(values: list[float]) -> float:
    """Give the middle one."""
    return sorted(values)[len(values) // 2]


@contextmanager
def our_relay(certificates: Path | None = None) -> Generator[tuple[int, int]]:
    """Run our relay in a process of its own, behind the HTTP server as always; give port and process id.

    With a folder that holds `localhost.crt` and `localhost.key` it speaks TLS.
    """
    command = [sys.executable, "-m", "benchmarks.relay", "serve", *([str(certificates)] if certificates else [])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            yield json.loads(process.stdout.readline()), process.pid
        finally:
            process.terminate()


@contextmanager
def derper(certificates: Path | None = None) -> Generator[tuple[int, int]]:
    """Run Tailscale's relay, under TLS with certificates as `our_relay` takes them; give port and process id."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    arguments = ["-a", f"127.0.0.1:{port}", "-http-port", "-1", "-stun=false", "-c", "derper.json"]
    if certificates:
        arguments += ["-hostname", "localhost", "-certmode", "manual", "-certdir", str(certificates)]
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen([PEERS / "derper", *arguments], cwd=folder, stderr=subprocess.DEVNULL) as process,
    ):
        try:
            for _ in range(100):
                try:
                    socket.create_connection(("127.0.0.1", port)).close()
                    break
                except ConnectionRefusedError:
                    time.sleep(0.1)
            yield port, process.pid
        finally:
            process.terminate()


def connect(port: int, certificates: Path | None = None) -> DERPClient:
    """Connect and log in, under TLS when the relay's certificate is given."""
    sock = socket.create_connection(("127.0.0.1", port))
    if certificates:
        context = ssl.create_default_context(cafile=str(certificates / "localhost.crt"))
        sock = context.wrap_socket(sock, server_hostname="localhost")
    sock.sendall(b"GET /derp HTTP/1.1\r\nHost: relay\r\nUpgrade: DERP\r\nConnection: Upgrade\r\n\r\n")
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += sock.recv(1)
    return DERPClient(sock).login()


def transfer(port: int, pid: int, total_bytes: int, certificates: Path | None = None) -> tuple[float, float]:
    """Send from one client to another; give Mbit/s that arrived, and the relay's CPU-seconds a GiB."""
    tls = [str(certificates)] if certificates else []
    command = [sys.executable, "-m", "benchmarks.relay", "receive", str(port), *tls]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as receiver,
        connect(port, certificates) as sender,
    ):
        assert receiver.stdout
        key = bytes.fromhex(receiver.stdout.readline())
        batch = derp.encode(derp.SendPacket(key, bytes(PACKET_BYTES))) * (BATCH_BYTES // PACKET_BYTES)
        used = sum(psutil.Process(pid).cpu_times()[:2])
        for _ in range(total_bytes // len(batch)):
            sender.sock.sendall(batch)
        received_bytes, seconds = json.loads(receiver.stdout.readline())
        used = sum(psutil.Process(pid).cpu_times()[:2]) - used
    return received_bytes * 8 / seconds / 1e6, used / (received_bytes / (1 << 30))


def receive(port: int, certificates: Path | None) -> None:
    """Count what arrives until nothing does for a second."""
    with connect(port, certificates) as client:
        sys.stdout.write(client.key.hex() + "\n")
        sys.stdout.flush()
        buffer = bytearray(1 << 20)
        count = client.sock.recv_into(buffer)
        first = last = time.perf_counter()
        client.sock.settimeout(1)
        try:
            while more := client.sock.recv_into(buffer):
                count += more
                last = time.perf_counter()
        except TimeoutError:
            pass
    sys.stdout.write(json.dumps([count, last - first]) + "\n")


def client_cost(port: int, pid: int, certificates: Path | None = None) -> float:
    """KiB that the relay's process grows by for each client that is connected and has talked once."""
    allow_descriptors(IDLE_CLIENTS + 1000)
    with ExitStack() as stack:
        first = stack.enter_context(connect(port, certificates))
        before = psutil.Process(pid).memory_info().rss
        for _ in range(IDLE_CLIENTS):
            client = stack.enter_context(connect(port, certificates))
            client.send(derp.SendPacket(first.key, bytes(PACKET_BYTES)))
            first.expect(derp.RecvPacket)
        time.sleep(2.5)  # the relay gives back memory once a second
        return (psutil.Process(pid).memory_info().rss - before) / 1024 / IDLE_CLIENTS


def allow_descriptors(count: int) -> None:
    """Let this process have so many descriptors; what it starts later may have more."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, max(count, hard)))


async def nothing(scope: object, receive: object, send: object) -> None:
    """Stand behind the relay; no benchmark asks for anything else."""


def serve(certificates: Path | None) -> None:
    """Run our relay behind uvicorn, as a server does; print the port."""
    import uvloop

    allow_descriptors(2 * IDLE_CLIENTS + 1000)
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(_serve(certificates))


async def _serve(certificates: Path | None) -> None:
    from warren._engine import Relay, generate_key
    from warren.relay.server import relay_protocol
    from warren.server.certificates import TLSSettings, engine_config
    from warren.server.listeners import serving

    tls = None
    if certificates:
        tls = engine_config(TLSSettings([str(certificates / "localhost.crt")], [str(certificates / "localhost.key")]))
    with socket.create_server(("127.0.0.1", 0), backlog=2048) as listener:
        sys.stdout.write(f"{listener.getsockname()[1]}\n")
        sys.stdout.flush()
        async with serving(nothing, listener, protocol=relay_protocol(Relay(generate_key())), tls=tls):
            await anyio.sleep_forever()


if __name__ == "__main__":
    files = [Path(each) for each in sys.argv[2:] if not each.isdecimal()]
    if sys.argv[1] == "serve":
        serve(files[0] if files else None)
    else:
        receive(int(sys.argv[2]), files[0] if files else None)
