"""Who floods a node, replays what it overheard, or reflects, gains nothing: no memory, no amplification, no path."""

from __future__ import annotations

import hashlib
import os
import select
import socket
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest

from tests.integration.engine.harness import Node, RelayServer, derp_map
from tests.integration.engine.test_paths import AGENT, CLIENT, PORT, exchange, introduce
from tests.integration.relay.client import DERPClient
from warren.net import derp

LOOPBACK = "127.0.0.1"
DISCO = b"TS\xf0\x9f\x92\xac"
GROWTH_BYTES = 24 << 20
"""What the allocator may keep of a flood that is several times as large."""


def resident_bytes() -> int:
    """Tell how much memory this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def until_quiet(node: Node) -> None:
    """Wait until the engine has looked at all that lies in its socket: it counts what it receives."""
    wire = node.engine
    deadline = time.monotonic() + 60
    while receive_queue(wire.local_port):
        assert time.monotonic() < deadline, "the engine does not read its socket"
        time.sleep(0.01)
    wire.stats()


def receive_queue(port: int) -> int:
    """Read how many bytes wait in the sockets that are bound to a UDP port."""
    waiting = 0
    for name in ("udp", "udp6"):
        for line in Path("/proc/net", name).read_text().splitlines()[1:]:
            fields = line.split()
            if int(fields[1].rpartition(":")[2], 16) == port:
                waiting += int(fields[4].partition(":")[2], 16)
    return waiting


def drain(sock: socket.socket, *, seconds: float) -> list[bytes]:
    """Read datagrams until none has come for a while."""
    received: list[bytes] = []
    while select.select([sock], [], [], seconds)[0]:
        received.append(sock.recv(65536))
    return received


class Tap:
    """Stands between a node and its peer's UDP port, and writes down what it passes on."""

    def __init__(self, towards: int) -> None:
        self._front = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._back = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._wake, self._woken = socket.socketpair()
        for sock in (self._front, self._back):
            sock.bind((LOOPBACK, 0))
        self.port: int = self._front.getsockname()[1]
        self._towards = (LOOPBACK, towards)
        self.forth: list[bytes] = []
        self.back: list[bytes] = []
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def close(self) -> None:
        self._wake.close()
        self._thread.join()
        for sock in (self._front, self._back, self._woken):
            sock.close()

    def _run(self) -> None:
        sender = ("", 0)
        while True:
            readable, _, _ = select.select([self._front, self._back, self._woken], [], [])
            if self._woken in readable:
                return
            if self._front in readable:
                data, sender = self._front.recvfrom(65536)
                self.forth.append(data)
                self._back.sendto(data, self._towards)
            if self._back in readable:
                data = self._back.recv(65536)
                self.back.append(data)
                if sender[1]:
                    self._front.sendto(data, sender)


@contextmanager
def tapped(client: Node, agent: Node) -> Generator[Tap]:
    """Let a client know an agent by the tap only."""
    tap = Tap(agent.engine.local_port)
    try:
        client.know(agent, endpoints=[f"{LOOPBACK}:{tap.port}"])
        agent.know(client, endpoints=[])
        agent.engine.listen(PORT)
        exchange(client, agent)
        client.until_direct(within=20)
        exchange(client, agent)
        yield tap
    finally:
        tap.close()


def kinds(datagrams: list[bytes]) -> set[str]:
    """Name what was overheard."""
    return {"disco" if each.startswith(DISCO) else f"wireguard {each[0]}" for each in datagrams}


def test_what_was_overheard_is_of_no_use(subtests: pytest.Subtests) -> None:
    with Node(CLIENT) as client, Node(AGENT) as agent, tapped(client, agent) as tap:
        overheard = {agent: list(tap.forth), client: list(tap.back)}
        assert {"disco", "wireguard 1", "wireguard 4"} <= kinds(overheard[agent])
        paths = [(node, node.engine.peers()[0].endpoint) for node in (client, agent)]
        for node, datagrams in overheard.items():
            with subtests.test(node.address), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
                stranger.bind((LOOPBACK, 0))
                sent = 0
                for _ in range(20):
                    for datagram in datagrams[:100]:
                        sent += stranger.sendto(datagram, (LOOPBACK, node.engine.local_port))
                    until_quiet(node)
                received = sum(map(len, drain(stranger, seconds=1)))
                assert received <= sent, "more was answered than asked"
        exchange(client, agent)
        assert [(node, node.engine.peers()[0].endpoint) for node, _ in paths] == paths, "a replay moved the path"


def initiation(public_key: bytes, chance: Random) -> bytes:
    """Make a handshake that costs the receiver the most: all of it is noise but for the first check (mac1)."""
    body = b"\x01\0\0\0" + chance.randbytes(112)
    key = hashlib.blake2s(b"mac1----" + public_key).digest()
    return body + hashlib.blake2s(body, key=key, digest_size=16).digest() + bytes(16)


def test_a_flood_of_handshakes_meets_cookies_and_nobody_else_notices() -> None:
    chance = Random(11)
    with RelayServer() as relay, Node(CLIENT) as client, Node(AGENT) as agent:
        introduce(client, agent, derp_map(relay.port))
        exchange(client, agent)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
            stranger.bind((LOOPBACK, 0))
            sent, answers = 0, list[bytes]()
            for _ in range(20):
                for _ in range(200):
                    sent += stranger.sendto(
                        initiation(agent.engine.public_key, chance), (LOOPBACK, agent.engine.local_port)
                    )
                until_quiet(agent)
                exchange(client, agent)
                answers += drain(stranger, seconds=0.1)
        assert answers, "nobody was asked for a cookie"
        assert {(answer[:4], len(answer)) for answer in answers} == {(b"\x03\0\0\0", 64)}
        assert sum(map(len, answers)) <= sent
        with Node("fd7a:115c:a1e0::d") as late:
            late.engine.set_derp_map(derp_map(relay.port))
            late.know(agent)
            agent.know(late)
            exchange(late, agent)


def garbage(chance: Random) -> bytes:
    """Make a datagram that begins like something the node knows."""
    wireguard = [bytes([kind, 0, 0, 0]) for kind in (1, 2, 3, 4)]
    beginning = chance.choice((b"", DISCO + chance.randbytes(32), b"\x01\x01\x00\x0c\x21\x12\xa4\x42", *wireguard))
    return beginning + chance.randbytes(chance.choice((0, 28, 60, 88, 144, 1300, 8000)))


def test_a_flood_of_garbage_takes_no_memory_and_gets_no_answer() -> None:
    chance = Random(5)
    with RelayServer() as relay, Node(CLIENT) as client, Node(AGENT) as agent:
        introduce(client, agent, derp_map(relay.port))
        exchange(client, agent)
        datagrams = [garbage(chance) for _ in range(500)]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.bind((LOOPBACK, 0))

            def flood(rounds: int) -> None:
                for _ in range(rounds):
                    for datagram in datagrams:
                        stranger.sendto(datagram, (LOOPBACK, agent.engine.local_port))
                    until_quiet(agent)

            flood(4)
            before = resident_bytes()
            flood(80)  # 50 MB
            assert resident_bytes() - before < GROWTH_BYTES
            assert drain(stranger, seconds=0.5) == []
        exchange(client, agent)


def test_strangers_on_the_relay_are_not_heard() -> None:
    chance = Random(3)
    with RelayServer() as relay, Node(CLIENT) as client, Node(AGENT) as agent:
        introduce(client, agent, derp_map(relay.port))
        exchange(client, agent)
        connection = socket.create_connection((LOOPBACK, relay.port))
        connection.sendall(b"GET /derp HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: DERP\r\n\r\n")
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += connection.recv(1)
        with DERPClient(connection).login() as stranger:
            for _ in range(2000):
                stranger.send(derp.SendPacket(agent.engine.public_key, garbage(chance)[:1400]))
            stranger.send(derp.Ping(b"the last"))
            # The relay passes packets on in order: what an engine would have answered comes before or soon after.
            assert stranger.receive() == derp.Pong(b"the last")
            exchange(client, agent)
            stranger.sock.settimeout(0.5)
            with pytest.raises(TimeoutError):
                stranger.receive()


@contextmanager
def hostile_relay(attack: Callable[[socket.socket], None]) -> Generator[int]:
    """Be a relay that greets whoever asks for an upgrade, and then attacks the first; gives its port."""
    greeting = derp.encode(derp.ServerKey(bytes(range(32))))
    victims = threading.Semaphore(1)

    def serve(listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(20)
                try:
                    if b"latency-check" in connection.recv(4096) or not victims.acquire(blocking=False):
                        continue
                    connection.sendall(b"HTTP/1.1 101 Switching Protocols\r\n\r\n" + greeting)
                    attack(connection)
                except OSError:
                    continue

    with socket.create_server((LOOPBACK, 0)) as listener:
        serving = threading.Thread(target=serve, args=(listener,))
        serving.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        serving.join()


@pytest.mark.parametrize("what", ["pings", "packets-of-strangers"])
def test_a_relay_cannot_fill_the_memory_of_a_node(what: str) -> None:
    done = threading.Event()
    size = 96 << 20
    held: list[int] = []

    def attack(connection: socket.socket) -> None:
        """Send, and never read."""
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        chance = Random(1)
        sent = 0
        try:
            while sent < size:
                if what == "pings":
                    block = derp.encode(derp.Ping(bytes(8))) * 5000
                else:
                    block = b"".join(derp.encode(derp.RecvPacket(chance.randbytes(32), b"")) for _ in range(5000))
                connection.sendall(block)
                sent += len(block)
                held.append(resident_bytes())
        finally:
            done.set()

    with Node(CLIENT) as client, hostile_relay(attack) as port:
        before = resident_bytes()
        client.engine.set_derp_map(derp_map(port))
        assert done.wait(90)
        client.engine.stats()
        assert max(*held, resident_bytes()) - before < GROWTH_BYTES, f"{len(held)} blocks were sent"
