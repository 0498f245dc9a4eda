"""Run in a network namespace of its own: what happens to the UDP of a direct path, and what people notice of it.

`cut`: nothing gets through any more, without a word, while a client and an agent exchange bytes; then it does again.
`narrow`: what is larger than a size is lost without a word, before the path stands or while it is used.
Prints what was seen as one line of JSON.
"""

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager

from tests.integration.engine.harness import Node, RelayServer, derp_map
from warren import _engine

CLIENT, AGENT = "fd7a:115c:a1e0::c", "fd7a:115c:a1e0::a"
PORT = 7
DATAGRAM_SIZES = (1, 1000, 1200, 1232, 1400, 5000, 60_000)


def drop_above(length: int, *nodes: Node) -> None:
    """Lose the UDP packets of these nodes that are longer than this, headers included; without nodes, none any more."""
    rules = "add table inet t; delete table inet t; "
    if nodes:
        ports = ", ".join(str(node.engine.local_port) for node in nodes)
        rules += (
            "table inet t { chain c { type filter hook input priority 0; "
            f"udp dport {{ {ports} }} meta length > {length} drop; }}; }}"
        )
    subprocess.run(["nft", rules], check=True)


@contextmanager
def connected(limit: int | None = None) -> Generator[tuple[Node, Node, socket.socket, socket.socket]]:
    """Run a client and an agent with one connection between them, over a path with this limit from the beginning."""
    with RelayServer() as relay, Node(CLIENT) as client, Node(AGENT, forward_to_loopback=True) as agent:
        if limit is not None:
            drop_above(limit, client, agent)
        for node in (client, agent):
            node.engine.set_derp_map(derp_map(relay.port))
        client.know(agent)
        agent.know(client)
        agent.engine.listen(PORT)
        near = client.dial(AGENT, PORT)
        far = agent.accept()
        with near, far:
            near.settimeout(20)
            far.settimeout(20)
            yield client, agent, near, far


def echo(far: socket.socket) -> None:
    """Send back what comes, until nothing does."""
    try:
        while data := far.recv(1 << 16):
            far.sendall(data)
    except OSError:
        return


def reasons(node: Node) -> list[str]:
    """Say how the path changed."""
    node.seen.extend(node.engine.events())
    return [event.reason for event in node.seen if isinstance(event, _engine.PathChanged)]


def cut() -> dict[str, object]:
    """Cut the direct path, and heal it."""
    with connected() as (client, agent, near, far):
        threading.Thread(target=echo, args=(far,), daemon=True).start()

        def longest_gap(until: float) -> float:
            longest, last = 0.0, time.monotonic()
            while time.monotonic() < until:
                near.sendall(b".")
                near.recv(1)
                longest, last = max(longest, time.monotonic() - last), time.monotonic()
                time.sleep(0.01)
            return longest

        client.until_direct()
        agent.until_direct()
        longest_gap(time.monotonic() + 0.5)
        drop_above(0, client, agent)
        silent = longest_gap(time.monotonic() + 2.5)
        relayed = not client.engine.peers()[0].direct
        drop_above(0)
        healed_at = time.monotonic()
        deadline = healed_at + 10
        while not client.engine.peers()[0].direct and time.monotonic() < deadline:
            longest_gap(time.monotonic() + 0.05)
        back = time.monotonic() - healed_at
        returned = client.engine.peers()[0].direct
        return {"silent": silent, "relayed": relayed, "returned": returned, "back": back, "reasons": reasons(client)}


def narrow(mtu: int, *, late: bool) -> dict[str, object]:
    """Lose what is larger than an outer packet of `mtu` bytes, and send a lot, in both directions."""
    size = 2 << 20
    # Batches pass loopback as one packet, and would be taken for a large one.
    subprocess.run(["ip", "link", "set", "lo", "gso_max_segs", "1"], check=True)
    # With two families the outcome would depend on which is faster by chance.
    subprocess.run(["ip", "address", "delete", "::1/128", "dev", "lo"], check=True)
    with connected(None if late else mtu) as (client, agent, near, far):
        client.until_direct()
        agent.until_direct()
        if late:
            drop_above(mtu, client, agent)
        threading.Thread(target=echo, args=(far,), daemon=True).start()
        payload = bytes(range(256)) * (size // 256)
        threading.Thread(target=near.sendall, args=(payload,), daemon=True).start()
        received = bytearray()
        while len(received) < size:
            received += near.recv(1 << 16)
        deadline = time.monotonic() + 10
        while not client.engine.peers()[0].direct and time.monotonic() < deadline:
            near.sendall(b".")
            near.recv(1)
            time.sleep(0.01)
        datagrams = datagrams_echoed(client)
        (seen,) = client.engine.peers()
        return {
            "right": bytes(received) == payload,
            "datagrams": datagrams,
            "direct": seen.direct,
            "inner_mtu": seen.inner_mtu,
            "candidates": [candidate.endpoint + " " + candidate.reason for candidate in seen.candidates],
            "reasons": [f"{change.age_seconds:.2f} {change.reason}" for change in seen.history],
        }


def datagrams_echoed(client: Node) -> list[int]:
    """Send datagrams of several sizes to a UDP echo beside the agent; give the sizes that came back whole."""
    whole: list[int] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(2)
        with socket.socket(fileno=client.engine.dial_udp(AGENT, server.getsockname()[1])) as flow:
            flow.settimeout(2)
            for size in DATAGRAM_SIZES:
                flow.send(bytes(size))
                data, source = server.recvfrom(1 << 16)
                server.sendto(data, source)
                whole.append(len(flow.recv(1 << 16)))
    return whole


def main() -> None:
    match sys.argv[1:]:
        case ["cut"]:
            found = cut()
        case ["narrow", mtu, when]:
            found = narrow(int(mtu), late=when == "late")
        case _:
            raise SystemExit(__doc__)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
