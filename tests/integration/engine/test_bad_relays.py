"""Relays that fall silent, never answer, flood, or cannot be connected for want of descriptors."""

import json
import socket
import struct
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.integration.engine.harness import REGION, Node, RelayServer, derp_map
from tests.integration.engine.relaying import (
    CLIENT,
    connected_to,
    connection,
    echo,
    home_is,
    regions_map,
)
from tests.integration.engine.test_paths import in_namespace
from tests.integration.engine.test_standby import FIRST, NEAR_FIRST, SECOND, pair

PING = b"\x12\0\0\0\x08"
"""Header of a DERP frame: a ping of eight bytes."""


class Wire:
    """A TCP connection to a relay that can be cut without a word, or spoken into."""

    def __init__(self, relay_port: int) -> None:
        self._relay_port = relay_port
        self.cut = threading.Event()
        self.carried: list[socket.socket] = []
        """The clients' ends."""
        self._relays: list[socket.socket] = []
        self._copying: list[threading.Thread] = []
        self.read = 0
        """How much clients have sent."""
        self.reading = threading.Event()
        self.reading.set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()
        self.reading.set()
        for end in (*self.carried, *self._relays):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)  # closing alone does not wake who reads
        for copying in self._copying:
            copying.join()
        for end in (*self.carried, *self._relays):
            end.close()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.carried.append(client)
            try:
                relay = socket.create_connection(("127.0.0.1", self._relay_port))
            except OSError:
                return  # the relay has gone, and the test with it
            self._relays.append(relay)
            for ends in ((client, relay, True), (relay, client, False)):
                copying = threading.Thread(target=self._copy, args=ends, daemon=True)
                self._copying.append(copying)
                copying.start()

    def _copy(self, source: socket.socket, target: socket.socket, from_client: bool) -> None:
        try:
            while data := source.recv(1 << 16):
                if from_client:
                    self.read += len(data)
                    self.reading.wait()
                if self.cut.is_set():
                    continue  # swallowed: neither side learns of it
                target.sendall(data)
            if not self.cut.is_set():
                target.shutdown(socket.SHUT_WR)
        except OSError:
            return


@contextmanager
def wire(relay_port: int) -> Generator[Wire]:
    carrier = Wire(relay_port)
    try:
        yield carrier
    finally:
        carrier.close()


def test_a_relay_that_falls_silent_is_noticed_and_replaced() -> None:
    with RelayServer() as one, RelayServer() as two, wire(one.port) as cable:
        derp = regions_map({FIRST: cable.port, SECOND: two.port}, scores=NEAR_FIRST)
        with pair(derp) as (client, agent):
            client.wait(connected_to(SECOND))
            agent.wait(connected_to(SECOND))
            near, far = connection(client, agent)
            with near, far:
                echo(near, far)
                cable.cut.set()
                echo(near, far, b"x" * 10_000)
                assert "does not answer" in client.wait(connected_to(FIRST, connected=False)).error
                client.wait(home_is(SECOND))


def test_a_home_that_never_answers_is_not_waited_for() -> None:
    with (
        RelayServer() as two,
        socket.create_server(("127.0.0.1", 0)) as silent,
        Node(CLIENT) as client,
    ):
        # Its STUN answers, so that it is the nearest; its relay takes connections and says nothing.
        derp = json.loads(regions_map({FIRST: silent.getsockname()[1], SECOND: two.port}, scores=NEAR_FIRST))
        with stun_at(derp, FIRST):
            client.engine.set_derp_map(json.dumps(derp).encode())
            client.wait(home_is(FIRST))
            client.wait(home_is(SECOND))
            assert client.wait(connected_to(SECOND)).region == SECOND


@contextmanager
def stun_at(derp: dict[str, dict[str, dict[str, object]]], region: int) -> Generator[None]:
    from tests.integration.engine.harness import StunServer

    with StunServer() as stun:
        nodes = derp["Regions"][str(region)]["Nodes"]
        assert isinstance(nodes, list)
        nodes[0]["STUNPort"] = stun.port
        yield


def test_a_relay_that_floods_pings_and_reads_nothing_is_not_answered_for_ever() -> None:
    pings = (PING + bytes(8)) * 5000
    with RelayServer() as relay, wire(relay.port) as cable, Node(CLIENT) as client:
        client.engine.set_derp_map(derp_map(cable.port))
        client.wait(connected_to(REGION))
        cable.reading.clear()
        victim = next(carried for carried in cable.carried if alive(carried))
        for _ in range(800):  # 52 MB, to which as much would be answered
            victim.sendall(pings)
        cable.read = 0
        cable.reading.set()
        token = client.engine.netcheck()
        client.wait(lambda event: event if getattr(event, "token", None) == token else None)
        assert cable.read < 25 << 20, "what waits for a relay is bounded, and so are the kernel's buffers"


def alive(connection: socket.socket) -> bool:
    """Say whether a connection is one that still stands: latency probes are over by then."""
    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)
    established = 1
    return bool(struct.unpack("B", info)[0] == established)


def test_a_process_without_free_descriptors_says_so_and_connects_when_it_has_some() -> None:
    root = str(Path(__file__).parents[3])
    script = textwrap.dedent(f"""
        import os, resource, sys
        sys.path.insert(0, {root!r})
        from tests.integration.engine.harness import *
        from tests.integration.engine.relaying import *
        with RelayServer() as relay, Node(CLIENT) as client:
            highest = os.open(os.devnull, os.O_RDONLY)
            os.close(highest)
            limits = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (highest, limits[1]))
            client.engine.set_derp_map(derp_map(relay.port))
            lost = client.wait(connected_to(999, connected=False))
            assert "Too many open files" in lost.error, lost
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            client.wait(connected_to(999))
    """)
    done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_peers_that_relays_say_are_gone_do_not_pile_up() -> None:
    with RelayServer() as relay, wire(relay.port) as cable, Node(CLIENT) as client, Node("fd7a:115c:a1e0::a") as agent:
        for node, peer in ((client, agent), (agent, client)):
            node.engine.set_derp_map(derp_map(cable.port))
            node.know(peer)
        agent.engine.listen(7)
        near, far = connection(client, agent)
        with near, far:
            echo(near, far)
            gone = b"".join(b"\x08\0\0\0\x21" + number.to_bytes(32, "big") + b"\x01" for number in range(20_000))
            for carried in [each for each in cable.carried if alive(each)]:
                carried.sendall(gone)
            echo(near, far)


def test_the_engine_closes_at_once_while_everything_hangs() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        client = Node(CLIENT)
        client.engine.set_derp_map(derp_map(silent.getsockname()[1], force_http=False))
        client.engine.set_derp_map(derp_map(443, host="relay.invalid"))
        client.engine.close()
        client.engine.close()
        assert isinstance(client.engine.events(), list)


LEADS_NOWHERE = f"""
import subprocess, sys, time
sys.path.insert(0, {str(Path(__file__).parents[3])!r})
from tests.integration.engine.harness import *
from tests.integration.engine.relaying import *
subprocess.run(["sh", "-ec", "ip link add v0 type veth peer name v1; ip link set v0 up; ip link set v1 up; "
                "ip -6 addr add 2001:db8::1/64 dev v0 nodad; ip -6 neigh add 2001:db8::2 dev v0 "
                "lladdr 02:00:00:00:00:01"], check=True)

def two_addresses(port, *, mute_first):
    derp = json.loads(derp_map(port))
    node = derp["Regions"]["999"]["Nodes"][0]
    mute = dict(node, Name="999m", HostName="2001:db8::2", IPv6="2001:db8::2", IPv4="none")
    derp["Regions"]["999"]["Nodes"] = [mute, node] if mute_first else [node, mute]
    return json.dumps(derp).encode()

"""
"""A namespace where an address of a relay leads nowhere, as IPv6 that an interface has and its router does not."""


def test_addresses_that_lead_nowhere_are_passed_over_and_come_last_from_then_on() -> None:
    in_namespace(
        "-c",
        LEADS_NOWHERE
        + textwrap.dedent("""
            with RelayServer() as relay, Node(CLIENT) as client:
                client.engine.set_derp_map(two_addresses(relay.port, mute_first=True))
                client.wait(connected_to(999))
        """),
    )


def test_a_relay_that_restarts_is_not_waited_for_where_it_never_was() -> None:
    """Its first address refuses for a while; the second leads nowhere, which must not take until the login's limit."""
    in_namespace(
        "-c",
        LEADS_NOWHERE
        + textwrap.dedent("""
            relay = RelayServer()
            with Node(CLIENT) as client:
                client.engine.set_derp_map(two_addresses(relay.port, mute_first=False))
                client.wait(connected_to(999))
                relay.close()
                assert client.wait(connected_to(999, connected=False)).error == "the relay closed the connection"
                assert "address does not answer" in client.wait(connected_to(999, connected=False)).error
                assert "refused" in client.wait(connected_to(999, connected=False)).error  # and nothing else is tried
                with RelayServer(port=relay.port):
                    client.wait(connected_to(999))
        """),
    )


def test_a_relay_that_takes_connections_and_drops_them_is_not_hammered() -> None:
    """A refused connection may be tried again at once, but a relay in trouble gets time."""
    with socket.create_server(("127.0.0.1", 0)) as troubled, Node(CLIENT) as client:
        client.engine.set_derp_map(derp_map(troubled.getsockname()[1]))
        deadline, attempts = time.monotonic() + 4, 0
        while (left := deadline - time.monotonic()) > 0:
            troubled.settimeout(left)
            with suppress(TimeoutError), troubled.accept()[0] as connection:
                connection.settimeout(left)
                attempts += connection.recv(4096).startswith(b"GET /derp HTTP")  # else it measures
        assert 0 < attempts <= 10, attempts  # the plain upgrade and WebSocket, five times with the shortest pauses
