"""Where network figures are measured: a private network namespace, pairs of ends, relays, and the reference's nodes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Iterable, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, TypeAlias

import psutil

from benchmarks.figures import CannotMeasure
from benchmarks.relay import our_relay

CHECKOUT = Path(__file__).resolve().parents[2]
PEERS = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "warren" / "peers"
HOST = "192.0.2.1"
"""The address of this namespace: upstream's nodes publish no loopback address."""

REGION = 999
TAILSCALE = "Tailscale 1.102.5 in user space, in turns in this run"
CONTROL = "127.0.0.1:3341"
INSIDE = "WARREN_BENCH_INSIDE"
SETTLE_SECONDS = 10.0


def enter_namespace() -> None:
    """Run this program again inside a network namespace of its own, unless it runs there already."""
    if os.environ.get(INSIDE):
        return
    script = (
        "ip link set lo up && ip link add v0 type veth peer name v1 && ip link set v1 up && "
        f'ip addr add {HOST}/24 dev v0 && ip link set v0 up && exec "$@"'
    )
    flags = ["--net"] if os.geteuid() == 0 else ["--user", "--map-root-user", "--net"]
    again = [sys.executable, "-m", "benchmarks.network", *sys.argv[1:]]
    command = ["unshare", *flags, "sh", "-c", script, "sh", *again]
    os.execvpe("unshare", command, os.environ | {INSIDE: "1"})


@dataclass
class Process:
    """A program that answers a line of JSON with a line of JSON."""

    process: subprocess.Popen[str]
    input: IO[str]
    output: IO[str]
    about: dict[str, Any] = field(default_factory=dict[str, Any])

    @property
    def pid(self) -> int:
        return self.process.pid

    def line(self) -> dict[str, Any]:
        """Read what it says next."""
        text = self.output.readline()
        if not text:
            raise CannotMeasure(f"a process ended: {self.process.args}")
        return json.loads(text)

    def ask(self, **fields: object) -> dict[str, Any]:
        """Ask for something and wait for the answer."""
        self.input.write(json.dumps(fields) + "\n")
        self.input.flush()
        answer = self.line()
        if answer.get("error"):
            raise CannotMeasure(str(answer["error"]))
        return answer

    def cpu_seconds(self) -> float:
        """CPU time that it has used."""
        times = psutil.Process(self.pid).cpu_times()
        return times.user + times.system


@contextmanager
def program(command: Sequence[str | Path], environment: dict[str, str] | None = None) -> Generator[Process]:
    """Run a program that talks in lines; it ends with its input, or is ended."""
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=None if os.environ.get("VERBOSE") else subprocess.DEVNULL,
        text=True,
        env=os.environ | (environment or {}),
        cwd=CHECKOUT,
    ) as process:
        assert process.stdin
        assert process.stdout
        running = Process(process, process.stdin, process.stdout)
        try:
            running.about = running.line()
            yield running
        finally:
            process.kill()


Ending: TypeAlias = AbstractContextManager[Process]


def end(prefix: Iterable[str] = (), **config: object) -> Ending:
    """Run one end; `prefix` is a command that runs it elsewhere."""
    return program([*prefix, sys.executable, "-m", "benchmarks.network.end", json.dumps(config)])


def introduce(left: Process, right: Process, *, region: int = 0) -> None:
    """Tell two ends of each other, first the left."""
    for one, other in ((left, right), (right, left)):
        one.ask(do="know", peer=other.about | {"region": region})


def derp_map(port: int) -> dict[str, object]:
    """A map with one relay in this namespace."""
    node = {
        "Name": f"{REGION}a",
        "RegionID": REGION,
        "HostName": "127.0.0.1",
        "DERPPort": port,
        "STUNPort": -1,
        "ForceHTTP": True,
    }
    region = {"RegionID": REGION, "RegionCode": "t", "RegionName": "Test", "EmbeddedRelay": True, "Nodes": [node]}
    return {"Regions": {str(REGION): region}}


@dataclass
class Pair:
    """Two ends that know each other; `relay_pid` is of the relay between them."""

    client: Process
    server: Process
    relay_pid: int = 0

    def until_direct(self, *, direct: bool = True) -> dict[str, Any]:
        """Wait until the path is direct, or is not."""
        deadline = time.monotonic() + SETTLE_SECONDS
        while True:
            path = self.client.ask(do="path")
            if path["direct"] == direct:
                return path
            if time.monotonic() > deadline:
                raise CannotMeasure(f"the path is not {'direct' if direct else 'relayed'}: {path['reason']}")
            time.sleep(0.02)

    def move(self, seconds: float, *, takes: int = 1, gives: int = 0) -> Moved:
        """Move bytes; with what they cost."""
        pids = [self.client.pid, self.server.pid, *([self.relay_pid] if self.relay_pid else [])]
        before = [cpu(pid) for pid in pids]
        moved = self.client.ask(do="move", takes=takes, gives=gives, seconds=seconds)
        spent = [cpu(pid) - used for pid, used in zip(pids, before, strict=True)]
        gib = moved["bytes"] / (1 << 30)
        return Moved(
            mbits=moved["bytes"] * 8 / 1e6 / moved["seconds"],
            ends_cpu=sum(spent[:2]) / gib,
            relay_cpu=sum(spent[2:]) / gib,
        )


@dataclass(frozen=True)
class Moved:
    """What a transfer came to: Mbit/s, CPU-seconds a GiB of both ends, and of the relay."""

    mbits: float
    ends_cpu: float
    relay_cpu: float


def cpu(pid: int) -> float:
    """CPU-seconds that a process has used."""
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


@contextmanager
def fresh_pair(*, stack: str = "auto", relayed: bool = False, relay: bool = False) -> Generator[Pair]:
    """Run two engines in this namespace that have not talked yet: with a relay of ours, by which alone if `relayed`."""
    with ExitStack() as running:
        relay_pid, config = 0, {"host": HOST, "stack": stack, "block_direct": relayed}
        if relayed or relay:
            port, relay_pid = running.enter_context(our_relay())
            config["map"] = derp_map(port)
        server = running.enter_context(end(address="fd7a:115c:a1e0::2", **config))
        client = running.enter_context(end(address="fd7a:115c:a1e0::1", **config))
        introduce(server, client, region=REGION if relay_pid else 0)
        yield Pair(client, server, relay_pid)


@contextmanager
def pair(*, stack: str = "auto", relayed: bool = False, relay: bool = False) -> Generator[Pair]:
    """Run two engines whose path is settled; as `fresh_pair`."""
    with fresh_pair(stack=stack, relayed=relayed, relay=relay) as made:
        made.client.ask(do="echo")
        if not relayed:
            made.until_direct()
        yield made


@contextmanager
def tailscale_pair(*, relayed: bool = False) -> Generator[Pair]:
    """Run two of Tailscale's nodes in this namespace, direct or relayed by their `derper`."""
    for name in ("tailnode", "derper"):
        if not (PEERS / name).exists():
            raise CannotMeasure(f"the reference needs {name}: run tests/interop/peers.sh, which needs Go")
    environment = {"TS_NO_LOGS_NO_SUPPORT": "true", "TS_DEBUG_USE_DERP_HTTP": "1"}
    if relayed:
        environment["TS_DEBUG_ALWAYS_USE_DERP"] = "1"
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        relay = stack.enter_context(run_derper(folder))
        nodes: list[Process] = []
        for name, meeting in (("server", ["-serve", CONTROL, "-meets"]), ("client", ["-join", f"http://{CONTROL}"])):
            options = ["-dir", str(folder / name), "-relay", "3340", "-stun", "3478", "-host", HOST, *meeting]
            nodes.append(stack.enter_context(program([PEERS / "tailnode", *options], environment)))
        for node in nodes:
            node.line()  # it knows the other
        yield Pair(nodes[1], nodes[0], relay.pid)


@contextmanager
def run_derper(folder: Path) -> Generator[subprocess.Popen[bytes]]:
    """Run Tailscale's relay with its STUN server, for this namespace."""
    arguments = ["-dev", "-c", str(folder / "derper.json")]
    with subprocess.Popen([PEERS / "derper", *arguments], stderr=subprocess.DEVNULL, cwd=folder) as process:
        try:
            time.sleep(1)  # it says nothing when it is ready; the nodes retry
            yield process
        finally:
            process.kill()


def take(nodes: Pair, seconds: float) -> Moved:
    """Move bytes between Tailscale's nodes."""
    pids = [nodes.client.pid, nodes.server.pid, nodes.relay_pid]
    before = [cpu(pid) for pid in pids]
    moved = nodes.client.ask(take=seconds)
    spent = [cpu(pid) - used for pid, used in zip(pids, before, strict=True)]
    gib = moved["bytes"] / (1 << 30)
    return Moved(moved["bytes"] * 8 / 1e6 / moved["seconds"], sum(spent[:2]) / gib, spent[2] / gib)


def peak_mb(pid: int) -> float:
    """The most memory that a process has had resident, in MB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024 / 1e6
