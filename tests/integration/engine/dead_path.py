"""Run in a network namespace of its own: the direct path dies without a word, and comes back.

Disco's packets are as large as full data packets, so a link that carries neither is made by its MTU alone, while TCP to
the relay adapts. Prints how long the tunnel was silent at most, and how the path changed.
"""

import json
import subprocess
import threading
import time

from tests.integration.engine.harness import Node, RelayServer, derp_map
from warren import _engine

CLIENT, AGENT = "fd7a:115c:a1e0::c", "fd7a:115c:a1e0::a"
PORT = 7
DEADLINE_SECONDS = 20
SETTLED_ROUNDS = 30


def set_mtu(size: int) -> None:
    subprocess.run(["ip", "link", "set", "lo", "mtu", str(size)], check=True)


def main() -> None:
    with RelayServer() as relay, Node(CLIENT) as client, Node(AGENT) as agent:
        for node in (client, agent):
            node.engine.set_derp_map(derp_map(relay.port))
        client.know(agent)
        agent.know(client)
        agent.engine.listen(PORT)
        near = client.dial(AGENT, PORT)
        far = agent.accept()
        near.settimeout(DEADLINE_SECONDS)

        def echo() -> None:
            while data := far.recv(100):
                far.sendall(data)

        threading.Thread(target=echo, daemon=True).start()

        def longest_gap(*, direct: bool) -> float:
            """Send and receive until packets have gone one way for a while, or a deadline has passed."""
            longest, last = 0.0, time.monotonic()
            deadline = last + DEADLINE_SECONDS
            settled = 0
            while settled < SETTLED_ROUNDS and last < deadline:
                settled = settled + 1 if client.engine.peers()[0].direct == direct else 0
                near.sendall(b".")
                near.recv(1)
                longest, last = max(longest, time.monotonic() - last), time.monotonic()
                time.sleep(0.01)
            return longest

        client.until_direct()
        longest_gap(direct=True)
        set_mtu(1200)
        silent = longest_gap(direct=False)
        relayed = not client.engine.peers()[0].direct
        set_mtu(65536)
        longest_gap(direct=True)
        returned = client.engine.peers()[0].direct
        reasons = [event.reason for event in client.seen if isinstance(event, _engine.PathChanged)]
        print(json.dumps({"silent": silent, "relayed": relayed, "returned": returned, "reasons": reasons}))


if __name__ == "__main__":
    main()
