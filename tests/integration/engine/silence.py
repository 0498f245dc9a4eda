"""Run in a network namespace of its own: two nodes that do not hear each other for a while, with bytes on their way.

Nothing but the nodes' UDP carries their packets. Waits until the kernel has repeated what was lost so often that its
pauses would be long by themselves, lets packets pass again, and prints what was seen as one line of JSON.
"""

import json
import os
import time
from pathlib import Path

from tests.integration.engine.dead_path import drop_above
from tests.integration.engine.harness import Node

CLIENT, AGENT = "fd7a:115c:a1e0::c", "fd7a:115c:a1e0::a"
PORT = 7
# By itself a kernel is at a pause of a minute then.
ATTEMPTS = 9
LIMIT_SECONDS = 90


def timers(port: int) -> list[tuple[float, int]]:
    """Say for the sockets with this local port in how many seconds they repeat something, and how often they have."""
    found = list[tuple[float, int]]()
    for children in Path(f"/proc/{os.getpid()}/task").glob("*/children"):
        for helper in children.read_text().split():
            rows = [line.split() for line in Path(f"/proc/{helper}/net/tcp6").read_text().splitlines()[1:]]
            mine = [row for row in rows if int(row[1].rpartition(":")[2], 16) == port and row[5].startswith("01:")]
            found.extend((int(row[5][3:], 16) / os.sysconf("SC_CLK_TCK"), int(row[6], 16)) for row in mine)
    return found


def watch(port: int) -> tuple[float, int]:
    """Follow the attempts; returns the longest pause that was seen, and how many there were."""
    longest, attempts = 0.0, 0
    deadline = time.monotonic() + LIMIT_SECONDS
    while attempts < ATTEMPTS and time.monotonic() < deadline:
        for left, count in timers(port):
            longest, attempts = max(longest, left), max(attempts, count)
        time.sleep(0.1)
    return longest, attempts


def main() -> None:
    with Node(CLIENT, stack="kernel") as client, Node(AGENT, stack="kernel") as agent:
        client.know(agent, home_region=0)
        agent.know(client, home_region=0)
        agent.engine.listen(PORT)
        near, far = client.dial(AGENT, PORT), agent.accept()
        with near, far:
            near.sendall(b"before")
            assert far.recv(10) == b"before"
            drop_above(0, client, agent)
            near.sendall(b"after")
            longest, attempts = watch(near.getsockname()[1])
            drop_above(0)
            back = time.monotonic()
            far.settimeout(120)
            arrived = far.recv(10)
            seen = {
                "longest": longest,
                "attempts": attempts,
                "arrived": arrived.decode(),
                "resumed": time.monotonic() - back,
            }
    print(json.dumps(seen))


if __name__ == "__main__":
    main()
