"""What do 2,000 idle peers, each with a session by relay, cost one engine in CPU and memory?"""

from __future__ import annotations

import contextlib
import json
import select
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Generator, Iterator

import psutil
from tests.integration.engine.harness import REGION, Node, RelayServer, derp_map

from benchmarks.figures import BAR, Figure
from warren import _engine

NAMES = ("idle_peers_cpu", "idle_peers_memory")
PEERS = 2000
ROUNDS = 1  # it rests for a minute and more
AT_ONCE = 20  # peers that shake hands at the same time
HUB = "fd7a:115c:a1e0::1"
IDLE_SECONDS = 60.0  # a path is kept warm for 45 s after the last packet, and only then is a peer idle
REST_SECONDS = 20.0
CPU_BAR_PERCENT = 1.0
MEMORY_BAR_KIB = 16.0


def run() -> Iterator[Figure]:
    """Let every peer shake hands and leave; then look at what the engine does about them."""
    rounds = [measure(PEERS) for _ in range(ROUNDS)]
    cpu_percent, memory_kib = (statistics.median(each[index] for each in rounds) for index in (0, 1))
    yield Figure("idle_peers_cpu", cpu_percent, "%", CPU_BAR_PERCENT, BAR)
    yield Figure("idle_peers_memory", memory_kib, "KiB/peer", MEMORY_BAR_KIB, BAR)


def measure(count: int) -> tuple[float, float]:
    """Give the engine's CPU in percent of one core, and its KiB a peer."""
    keys = [_engine.generate_key() for _ in range(count)]
    discos = [_engine.generate_key() for _ in range(count)]
    with RelayServer() as relay, hub() as process:
        assert process.stdin
        assert process.stdout
        peers = [
            {"key": _engine.public_key(key).hex(), "disco": _engine.public_key(disco).hex(), "address": address(number)}
            for number, (key, disco) in enumerate(zip(keys, discos, strict=True))
        ]
        about = psutil.Process(process.pid)
        before = about.memory_info().rss
        process.stdin.write(json.dumps({"relay": relay.port, "peers": peers}) + "\n")
        process.stdin.flush()
        identity = json.loads(process.stdout.readline())
        for first in range(0, count, AT_ONCE):
            numbers = range(first, min(first + AT_ONCE, count))
            shake_hands(relay.port, identity, [(keys[n], discos[n], address(n)) for n in numbers])
        time.sleep(IDLE_SECONDS)
        memory_kib = (about.memory_info().rss - before) / 1024 / count
        used, started = sum(about.cpu_times()[:2]), time.monotonic()
        time.sleep(REST_SECONDS)
        percent = (sum(about.cpu_times()[:2]) - used) / (time.monotonic() - started) * 100
        process.stdin.write("how many?\n")
        process.stdin.flush()
        with_session = int(process.stdout.readline())
        if with_session != count:
            raise RuntimeError(f"{with_session} of {count} peers have a session")
    return percent, memory_kib


def address(number: int) -> str:
    """Give the inner address of a peer."""
    return f"fd7a:115c:a1e0::{1 + number // 0x10000:x}:{number % 0x10000:x}"


@contextlib.contextmanager
def hub() -> Generator[subprocess.Popen[str]]:
    """Run the engine that is measured in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.network.idle_peers"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        process.stdout.readline()
        try:
            yield process
        finally:
            process.terminate()


def serve() -> None:
    """Be that process."""
    with Node(HUB) as node:
        print("ready", flush=True)
        asked = json.loads(sys.stdin.readline())
        node.engine.set_derp_map(derp_map(asked["relay"]))
        for peer in asked["peers"]:
            node.engine.set_peer(
                bytes.fromhex(peer["key"]),
                disco_key=bytes.fromhex(peer["disco"]),
                allowed_ips=[peer["address"] + "/128"],
                home_region=REGION,
                endpoints=[],
                keepalive=False,
            )
        del asked
        keys = {"key": node.engine.public_key.hex(), "disco": node.engine.disco_public_key.hex()}
        print(json.dumps(keys), flush=True)
        while not select.select([sys.stdin], [], [], 0)[0]:
            select.select([node.engine.fileno(), sys.stdin], [], [])
            node.engine.events()
        sys.stdin.readline()
        print(sum(peer.last_handshake_age_seconds is not None for peer in node.engine.peers()), flush=True)
        sys.stdin.readline()


def shake_hands(relay_port: int, hub_keys: dict[str, str], peers: list[tuple[bytes, bytes, str]]) -> None:
    """Let some peers come, ping the hub through the tunnel, and go."""
    with contextlib.ExitStack() as stack:
        nodes: list[Node] = []
        for key, disco, inner in peers:
            engine = _engine.Engine(key, disco, [inner], block_direct=True)
            stack.callback(engine.close)
            node = Node.__new__(Node)
            node.address, node.engine, node.seen = inner, engine, []
            engine.set_derp_map(derp_map(relay_port))
            engine.set_peer(
                bytes.fromhex(hub_keys["key"]),
                disco_key=bytes.fromhex(hub_keys["disco"]),
                allowed_ips=[HUB + "/128"],
                home_region=REGION,
                endpoints=[],
                keepalive=False,
            )
            nodes.append(node)
        for node in nodes:
            token = node.engine.ping(bytes.fromhex(hub_keys["key"]), kind="tunnel", timeout_seconds=20)
            node.wait(
                lambda event, token=token: event if isinstance(event, _engine.Pong) and event.token == token else None,
                within=25,
            )


if __name__ == "__main__":
    socket.setdefaulttimeout(60)
    serve()
