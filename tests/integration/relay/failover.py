"""A direct path that dies without a word, between network namespaces; run as root of a user and network namespace.

`client` and `agent` reach each other through `router`, and `relay` through links of their own. When the router stops
forwarding, packets vanish: no interface goes down and no error comes back. Prints one line of JSON.
"""

from __future__ import annotations

import json
import select
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any

import uvicorn

from tests.integration.engine.harness import REGION, Node, derp_map
from warren import _engine
from warren.relay.server import relay_protocol

CLIENT, AGENT = "fd7a:115c:a1e0::c", "fd7a:115c:a1e0::a"
PORT = 7
RELAY_PORT = 3340
INTERVAL_SECONDS = 0.005
SETTLED_ARRIVALS = 50  # so many numbers by one path show that it carries them
NAMES = ("client", "agent", "router", "relay")
# Each link is two ends: whose, and with which address.
LINKS = (
    (("client", "10.1.1.2"), ("router", "10.1.1.1")),
    (("agent", "10.1.2.2"), ("router", "10.1.2.1")),
    (("client", "10.2.1.2"), ("relay", "10.2.1.1")),
    (("agent", "10.2.2.2"), ("relay", "10.2.2.1")),
)
ROUTES = (("client", "10.1.2.0/24", "10.1.1.1"), ("agent", "10.1.1.0/24", "10.1.2.1"))
# What travels between these processes is JSON of our own making.
Line = dict[str, Any]


class Namespace:
    """A network namespace, kept by a process that does nothing."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._keeper = stack.enter_context(subprocess.Popen(["unshare", "--net", "cat"], stdin=subprocess.PIPE))
        stack.callback(self._keeper.terminate)
        own = Path("/proc/self/ns/net").readlink()
        while Path(f"/proc/{self._keeper.pid}/ns/net").readlink() == own:
            time.sleep(0.01)  # until it has entered; `unshare` tells nobody
        self.run("ip", "link", "set", "lo", "up")

    @property
    def pid(self) -> int:
        return self._keeper.pid

    def inside(self, *command: str) -> list[str]:
        return ["nsenter", "-t", str(self.pid), "--net", *command]

    def run(self, *command: str) -> None:
        subprocess.run(self.inside(*command), check=True)

    def forward(self, *, on: bool) -> None:
        self.run("sh", "-c", f"echo {int(on)} > /proc/sys/net/ipv4/ip_forward")

    def start(self, role: str) -> Process:
        command = self.inside(sys.executable, "-m", "tests.integration.relay.failover", role)
        return Process(self._stack, command)


class Process:
    """One role in a process of its own, spoken to in lines of JSON."""

    def __init__(self, stack: ExitStack, command: list[str]) -> None:
        popen = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._process = stack.enter_context(popen)
        stack.callback(popen.terminate)

    def say(self, **line: object) -> None:
        assert self._process.stdin
        self._process.stdin.write(json.dumps(line) + "\n")
        self._process.stdin.flush()

    def hear_until(self, **wanted: object) -> None:
        """Wait for a line; others before it are passed over."""
        while self.hear() != wanted:
            pass

    def hear(self) -> Line:
        assert self._process.stdout
        text = self._process.stdout.readline()
        assert text, "a node ended before its time"
        line: Line = json.loads(text)
        return line


def orchestrate() -> Line:
    """Build the network, let the nodes meet, cut the path, see what happens; then heal it."""
    with ExitStack() as stack:
        spaces = {name: Namespace(stack) for name in NAMES}
        for number, ends in enumerate(LINKS):
            names = [f"v{number}{end}" for end in "ab"]
            subprocess.run(["ip", "link", "add", names[0], "type", "veth", "peer", "name", names[1]], check=True)
            for name, (owner, address) in zip(names, ends, strict=True):
                subprocess.run(["ip", "link", "set", name, "netns", str(spaces[owner].pid)], check=True)
                spaces[owner].run("ip", "address", "add", f"{address}/24", "dev", name)
                spaces[owner].run("ip", "link", "set", name, "up")
        for owner, destination, gateway in ROUTES:
            spaces[owner].run("ip", "route", "add", destination, "via", gateway)
        spaces["router"].forward(on=True)

        relay = spaces["relay"].start("relay")
        assert relay.hear() == {"ready": True}
        client, agent = (spaces[role].start(role) for role in ("client", "agent"))
        introductions = client.hear(), agent.hear()
        client.say(**introductions[1])
        agent.say(**introductions[0])
        client.hear_until(settled=True)
        cut_at = time.monotonic()
        spaces["router"].forward(on=False)
        client.hear_until(settled=False)
        spaces["router"].forward(on=True)
        healed_at = time.monotonic()
        client.hear_until(settled=True)
        client.say(stop=True)
        while "arrivals" not in (seen := client.hear()):
            pass
    arrivals: list[float] = seen["arrivals"]
    changes: list[tuple[float, bool]] = seen["changes"]
    after_cut = [at for at in arrivals if cut_at - 0.1 < at < healed_at]
    return {
        "switch_seconds": min(at for at, direct in changes if at > cut_at and not direct) - cut_at,
        "stall_seconds": max(later - earlier for earlier, later in pairwise(after_cut)),
        "heal_seconds": min((at for at, direct in changes if at > healed_at and direct), default=1e9) - healed_at,
        "lost": seen["lost"],
    }


def serve_relay() -> None:
    """Be the relay, as the server has it, until terminated."""
    with socket.create_server(("", RELAY_PORT)) as listener:
        tell(ready=True)
        protocol = relay_protocol(_engine.Relay(_engine.generate_key()))
        uvicorn.Server(uvicorn.Config(nothing, http=protocol, lifespan="off", log_config=None)).run([listener])


async def nothing(scope: object, receive: object, send: object) -> None:
    """Stand behind the relay; nobody asks for anything else."""


def run_client() -> None:
    """Read a stream of numbers; note when each came and how the path changed, and tell when it has not for a while."""
    arrivals: list[float] = []
    changes: list[tuple[float, bool]] = []
    pending = b""
    expected = lost = 0
    with Node(CLIENT) as node:
        peer = meet(node, AGENT, "10.2.1.1")
        with node.dial(AGENT, PORT) as stream:
            node.until_direct(within=20)
            stream.setblocking(False)
            direct, since_change = True, 0
            while True:
                readable, _, _ = select.select([stream, node.engine.fileno(), sys.stdin], [], [])
                now = time.monotonic()
                moved = [event for event in node.engine.events() if isinstance(event, _engine.PathChanged)]
                for event in moved:
                    if event.key == peer:
                        changes.append((now, event.direct))
                        direct, since_change = event.direct, 0
                if stream in readable:
                    pending += stream.recv(1 << 16)
                    while len(pending) >= 8:
                        number, pending = int.from_bytes(pending[:8]), pending[8:]
                        lost += number != expected
                        expected = number + 1
                        arrivals.append(now)
                        since_change += 1
                        if since_change == SETTLED_ARRIVALS:
                            tell(settled=direct)
                if sys.stdin in readable:
                    tell(arrivals=arrivals, changes=changes, lost=lost)
                    return


def run_agent() -> None:
    """Send a number every few milliseconds to whoever connects."""
    with Node(AGENT) as node:
        node.engine.listen(PORT)
        meet(node, CLIENT, "10.2.2.1")
        with node.accept() as stream:
            number = 0
            while not select.select([sys.stdin], [], [], INTERVAL_SECONDS)[0]:
                stream.sendall(number.to_bytes(8))
                number += 1


def meet(node: Node, address: str, relay_host: str) -> bytes:
    """Tell of ourselves and learn of the peer, as a coordinator would arrange it; return the peer's key."""
    node.engine.set_derp_map(derp_map(RELAY_PORT, host=relay_host))
    info = node.wait(lambda event: event if isinstance(event, _engine.NetInfo) and event.endpoints else None)
    tell(
        key=node.engine.public_key.hex(),
        disco_key=node.engine.disco_public_key.hex(),
        endpoints=info.endpoints,
    )
    peer: Line = json.loads(sys.stdin.readline())
    key = bytes.fromhex(peer["key"])
    node.engine.set_peer(
        key,
        disco_key=bytes.fromhex(peer["disco_key"]),
        allowed_ips=[f"{address}/128"],
        home_region=REGION,
        endpoints=peer["endpoints"],
        keepalive=False,
    )
    return key


def tell(**line: object) -> None:
    """Write a line of JSON for the process that started us."""
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    match sys.argv[1]:
        case "relay":
            serve_relay()
        case "client":
            run_client()
        case "agent":
            run_agent()
        case _:
            tell(**orchestrate())
