"""What tests of several relays share: maps of many regions, and what nodes say of them."""

import json
import select
import socket
import time
from collections.abc import Callable, Mapping

from tests.integration.engine.harness import Node, derp_map
from warren import _engine

CLIENT, AGENT = "fd7a:115c:a1e0::c", "fd7a:115c:a1e0::a"
PORT = 7


def regions_map(ports: Mapping[int, int], *, scores: Mapping[int, float] | None = None) -> bytes:
    """Write a map of regions whose relays are on loopback; a score makes a region seem as much farther."""
    regions: dict[str, object] = {}
    for region, port in ports.items():
        regions |= json.loads(derp_map(port, region=region))["Regions"]
    score = {str(region): factor for region, factor in (scores or {}).items()}
    return json.dumps({"Regions": regions, "HomeParams": {"RegionScore": score}}).encode()


def home_is(region: int) -> Callable[[_engine.Event], _engine.NetInfo | None]:
    """Match the news that a node's home is `region`."""
    return lambda event: event if isinstance(event, _engine.NetInfo) and event.preferred_region == region else None


def connected_to(region: int, *, connected: bool = True) -> Callable[[_engine.Event], _engine.RelayChanged | None]:
    """Match the news that a relay was connected, or lost."""

    def wanted(event: _engine.Event) -> _engine.RelayChanged | None:
        match event:
            case _engine.RelayChanged(of, now) if (of, now) == (region, connected):
                return event
            case _:
                return None

    return wanted


def connection(client: Node, agent: Node) -> tuple[socket.socket, socket.socket]:
    """Open a connection from client to agent; both ends have a deadline."""
    near = client.dial(agent.address, PORT)
    far = agent.accept()
    for end in (near, far):
        end.settimeout(15)
    return near, far


def echo(near: socket.socket, far: socket.socket, word: bytes = b"word") -> None:
    """Send a word there and back."""
    near.sendall(word)
    received = b""
    while len(received) < len(word):
        more = far.recv(1 << 16)
        assert more, "the connection was closed"
        received += more
    assert received == word
    far.sendall(b"ok")
    assert near.recv(10) == b"ok"


def until(done: Callable[[], bool], *, within: float = 10) -> None:
    """Wait for what has no event."""
    deadline = time.monotonic() + within
    while not done():
        assert time.monotonic() < deadline, f"not so within {within} s"
        time.sleep(0.01)


def settle(node: Node, seconds: float) -> None:
    """Take in events for a while."""
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        if select.select([node.engine.fileno()], [], [], left)[0]:
            node.seen.extend(node.engine.events())
