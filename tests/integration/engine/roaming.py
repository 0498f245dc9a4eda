"""Run in a network namespace of its own, as root of it: a client whose network changes under it while it talks.

The client lives in a second namespace, joined to this one by a veth pair; the agent and the relay stay here. `address`:
the client's address is replaced by another. `flapping`: its interface goes down and up every few seconds, for a while.
`stopped`: the whole process is stopped and goes on seconds later. With `relayed` as the last word direct paths are
forbidden, and there are two more: `bridge`, where the machine gets an address that matters to nobody, and `forgotten`,
where besides that the client's connections to the relay go dead without a word. Prints what was seen as one line of
JSON.
"""

import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

from tests.integration.engine.harness import Node, RelayServer, derp_map
from warren import _engine

CLIENT, AGENT = "fd7a:115c:a1e0::c", "fd7a:115c:a1e0::a"
HERE, THERE, THERE_LATER = "10.99.0.1", "10.99.0.2", "10.99.0.3"
PORT = 7
CLONE_NEWNET = 0x40000000


def run(*command: str, inside: int | None = None) -> None:
    """Run a command, in the namespace of a process if one is given."""
    enter = [] if inside is None else ["nsenter", "--net", "--target", str(inside)]
    subprocess.run([*enter, *command], check=True)


@contextmanager
def second_namespace() -> Generator[int]:
    """Make a namespace joined to this one; gives the process that holds it."""
    with subprocess.Popen(["unshare", "--net", "sleep", "300"]) as holder:
        try:
            ours = Path("/proc/self/ns/net").readlink()
            while Path(f"/proc/{holder.pid}/ns/net").readlink() == ours:
                time.sleep(0.01)
            run("ip", "link", "add", "here", "type", "veth", "peer", "name", "there", "netns", str(holder.pid))
            run("ip", "address", "add", f"{HERE}/24", "dev", "here")
            run("ip", "link", "set", "here", "up")
            run("ip", "link", "set", "lo", "up", inside=holder.pid)
            move_in(holder.pid, THERE)
            yield holder.pid
        finally:
            holder.kill()


def move_in(inside: int, address: str) -> None:
    """Give the client's interface an address, and bring it up."""
    run("ip", "address", "add", f"{address}/24", "dev", "there", inside=inside)
    run("ip", "link", "set", "there", "up", inside=inside)


def node_inside(inside: int, *, block_direct: bool) -> Node:
    """Start a client whose thread, and so whose sockets, belong to another namespace."""
    made: list[Node] = []

    def make() -> None:
        with Path(f"/proc/{inside}/ns/net").open() as namespace:
            if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
        made.append(Node(CLIENT, block_direct=block_direct))

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    return made[0]


class Talk:
    """One connection, over which bytes go to the agent and back, counted and timed."""

    def __init__(self, near: socket.socket, far: socket.socket) -> None:
        self.near = near
        self.echoed = 0
        self.gaps: list[float] = []
        threading.Thread(target=self._echo, args=(far,), daemon=True).start()

    def _echo(self, far: socket.socket) -> None:
        try:
            while data := far.recv(1 << 16):
                far.sendall(data)
        except OSError:
            return

    def until(self, done: Callable[[], bool], *, within: float) -> float:
        """Talk until something holds; give the longest gap between two answers, in seconds."""
        longest, last = 0.0, time.monotonic()
        deadline = last + within
        while time.monotonic() < deadline:
            self.near.sendall(b".")
            if self.near.recv(1) != b".":
                raise RuntimeError("the connection ended")
            self.echoed += 1
            longest, last = max(longest, time.monotonic() - last), time.monotonic()
            if done():
                break
            time.sleep(0.01)
        return longest

    def seconds(self, count: float) -> float:
        """Talk for a time."""
        end = time.monotonic() + count
        return self.until(lambda: time.monotonic() >= end, within=count + 60)


def direct_both(client: Node, agent: Node) -> bool:
    """Say whether both go direct."""
    return all(peer.direct for node in (client, agent) for peer in node.engine.peers())


def reasons(node: Node) -> list[str]:
    """Say how the path changed."""
    node.seen.extend(node.engine.events())
    return [event.reason for event in node.seen if isinstance(event, _engine.PathChanged)]


def relay_changes(node: Node) -> list[tuple[bool, str]]:
    """Say when the relay was connected, and why it was lost."""
    node.seen.extend(node.engine.events())
    return [(event.connected, event.error) for event in node.seen if isinstance(event, _engine.RelayChanged)]


def main() -> None:
    run("ip", "link", "set", "lo", "up")
    relayed = sys.argv[-1] == "relayed"
    with (
        second_namespace() as inside,
        RelayServer(host=HERE) as relay,
        node_inside(inside, block_direct=relayed) as client,
        Node(AGENT, block_direct=relayed) as agent,
    ):
        for node in (client, agent):
            node.engine.set_derp_map(derp_map(relay.port, host=HERE))
        client.know(agent, endpoints=[f"{HERE}:{agent.engine.local_port}"])
        agent.know(client, endpoints=[f"{THERE}:{client.engine.local_port}"])
        agent.engine.listen(PORT)
        near = client.dial(AGENT, PORT, within=20)
        far = agent.accept(within=20)
        near.settimeout(60)
        far.settimeout(60)
        with near, far:
            talk = Talk(near, far)

            def settled() -> bool:
                return relayed or direct_both(client, agent)

            talk.until(settled, within=20)
            change = {
                "address": change_address,
                "bridge": add_bridge,
                "flapping": flap,
                "forgotten": forget,
                "stopped": stop,
            }[sys.argv[1]]
            gap = change(inside, talk)
            back = talk.until(settled, within=30)
            found = {
                "gap": gap,
                "back": back,
                "direct": direct_both(client, agent),
                "echoed": talk.echoed,
                "reasons": reasons(client),
                "agent_reasons": reasons(agent),
                "relay": relay_changes(client),
            }
            print(json.dumps(found))


def change_address(inside: int, talk: Talk) -> float:
    """Replace the client's address; give the longest gap."""
    run("ip", "address", "delete", f"{THERE}/24", "dev", "there", inside=inside)
    run("ip", "address", "add", f"{THERE_LATER}/24", "dev", "there", inside=inside)
    return talk.seconds(3)


def add_bridge(inside: int, talk: Talk) -> float:
    """Give the client's machine another address, as a container engine does; give the longest gap."""
    run("ip", "link", "add", "bridge", "type", "bridge", inside=inside)
    run("ip", "address", "add", "172.17.0.1/16", "dev", "bridge", inside=inside)
    run("ip", "link", "set", "bridge", "up", inside=inside)
    return talk.seconds(3)


def forget(inside: int, talk: Talk) -> float:
    """Let the client's connections to the relay go dead, as a NAT that restarts does; give the longest gap."""
    shown = subprocess.run(
        ["nsenter", "--net", "--target", str(inside), "ss", "-Htn"], check=True, capture_output=True, text=True
    )
    ports = {end.rpartition(":")[2] for end in shown.stdout.split() if end.startswith(f"{THERE}:")}
    dead = f"tcp sport {{ {', '.join(sorted(ports))} }} drop"
    rules = f"table inet dead {{\n chain out {{\n type filter hook output priority 0;\n {dead}\n }}\n}}\n"
    run("nft", rules, inside=inside)
    return add_bridge(inside, talk)


def flap(inside: int, talk: Talk) -> float:
    """Take the client's interface down and up, several times; give the longest gap beyond the time it was down."""
    down_seconds, longest = 2.0, 0.0
    for _ in range(int(sys.argv[2])):
        run("ip", "link", "set", "there", "down", inside=inside)
        up = threading.Timer(down_seconds, move_in_again, args=(inside,))
        up.start()
        longest = max(longest, talk.seconds(down_seconds * 2.5))
        up.join()
    return longest - down_seconds


def stop(inside: int, talk: Talk) -> float:
    """Stop this process with both nodes, and forget it on the way; give the longest gap beyond the time it stood."""
    del inside
    seconds = float(sys.argv[2])
    waker = ["sh", "-c", f"sleep {seconds}; kill -CONT {os.getpid()}"]
    with subprocess.Popen(waker):
        os.kill(os.getpid(), signal.SIGSTOP)
        return talk.seconds(2) - seconds


def move_in_again(inside: int) -> None:
    """Bring the client's interface up."""
    run("ip", "link", "set", "there", "up", inside=inside)


if __name__ == "__main__":
    main()
