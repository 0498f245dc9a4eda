"""Two engines on loopback, with a real relay between them: TCP and UDP through the tunnel."""

import contextlib
import hashlib
import os
import random
import select
import socket
import struct
import threading
import time
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from tests.integration.engine.harness import Node, RelayServer, derp_map, need_kernel_stack
from tests.ports import free_port
from warren import _engine

CLIENT, AGENT = "fd7a:115c:a1e0::c", "fd7a:115c:a1e0::a"
PORT = 7


class Pair(NamedTuple):
    relay: RelayServer
    client: Node
    agent: Node

    def connect(self, port: int = PORT) -> tuple[socket.socket, socket.socket]:
        """Connect the client to a listener of the agent; returns both ends."""
        near = self.client.dial(AGENT, port)
        return near, self.agent.accept()


@pytest.fixture(params=["direct", "relayed"])
def way(request: pytest.FixtureRequest) -> str:
    """Which kind of path the pair has."""
    return request.param


@pytest.fixture(params=["kernel", "portable", "kernel to portable", "portable to kernel"])
def stacks(request: pytest.FixtureRequest) -> tuple[str, str]:
    """Which TCP the client and the agent use."""
    if "kernel" in request.param:
        need_kernel_stack()
    client, _, agent = request.param.partition(" to ")
    return client, agent or client


@pytest.fixture
def pair(way: str, stacks: tuple[str, str]) -> Iterator[Pair]:
    """A client and an agent that know each other, on a path of either kind and with each stack."""
    relayed = way == "relayed"
    with (
        RelayServer() as relay,
        Node(CLIENT, block_direct=relayed, stack=stacks[0]) as client,
        Node(AGENT, forward_to_loopback=True, stack=stacks[1]) as agent,
    ):
        for node in (client, agent):
            node.engine.set_derp_map(derp_map(relay.port))
        client.know(agent)
        agent.know(client)
        agent.engine.listen(PORT)
        if not relayed:
            client.engine.ping(agent.engine.public_key, kind="tunnel")
            client.until_direct()
        yield Pair(relay, client, agent)


def read_all(connection: socket.socket) -> bytes:
    connection.settimeout(10)
    received = bytearray()
    while data := connection.recv(1 << 16):
        received += data
    return bytes(received)


def read_until_closed(connection: socket.socket) -> bytes:
    """Read what comes before the connection was reset: the kernel's TCP says so, a socket pair just ends."""
    with contextlib.suppress(ConnectionResetError):
        return read_all(connection)
    return b""


def test_bytes_go_both_ways_and_each_direction_ends_by_itself(pair: Pair) -> None:
    near, far = pair.connect()
    with near, far:
        near.sendall(b"question")
        near.shutdown(socket.SHUT_WR)
        assert read_all(far) == b"question"
        far.sendall(b"answer")
        far.close()
        assert read_all(near) == b"answer"


def test_the_side_that_was_dialled_may_finish_first(pair: Pair) -> None:
    near, far = pair.connect()
    with near, far:
        far.sendall(b"banner")
        far.shutdown(socket.SHUT_WR)
        assert read_all(near) == b"banner"
        near.sendall(b"after the end")
        near.close()
        assert read_all(far) == b"after the end"


def test_a_large_transfer_arrives_whole_in_both_directions_at_once(pair: Pair) -> None:
    near, far = pair.connect()
    size = 48 << 20
    payload = random.Random(1).randbytes(1 << 20)
    digests: dict[str, str] = {}

    def send(connection: socket.socket) -> None:
        for _ in range(size // len(payload)):
            connection.sendall(payload)
        connection.shutdown(socket.SHUT_WR)

    def receive(name: str, connection: socket.socket) -> None:
        connection.settimeout(15)
        digest = hashlib.sha256()
        while data := connection.recv(1 << 18):
            digest.update(data)
        digests[name] = digest.hexdigest()

    threads = [threading.Thread(target=send, args=(connection,)) for connection in (near, far)]
    threads += [threading.Thread(target=receive, args=args) for args in (("near", near), ("far", far))]
    with near, far:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(19)
    expected = hashlib.sha256(payload * (size // len(payload))).hexdigest()
    assert digests == {"near": expected, "far": expected}


def test_a_reader_that_stops_holds_the_sender_back_and_loses_nothing(pair: Pair) -> None:
    near, far = pair.connect()
    with near, far:
        near.settimeout(0.5)
        sent, chunk = 0, bytes(range(256)) * 256
        with pytest.raises(TimeoutError):
            while True:
                sent += near.send(chunk)
        assert 100_000 < sent < 40 << 20
        near.settimeout(10)
        closing = threading.Thread(target=near.shutdown, args=(socket.SHUT_WR,))
        closing.start()
        assert len(read_all(far)) == sent
        closing.join()


def test_a_hundred_connections_at_once(pair: Pair) -> None:
    tokens = [pair.client.engine.dial(AGENT, PORT) for _ in range(100)]
    near: dict[int, socket.socket] = {}
    for _ in tokens:
        dialed = pair.client.wait(lambda event: event if isinstance(event, _engine.Dialed) else None)
        near[dialed.token] = socket.socket(fileno=dialed.fd)
    far = [pair.agent.accept() for _ in tokens]
    for token, connection in near.items():
        connection.sendall(f"{token:06}".encode() * 1000)
        connection.shutdown(socket.SHUT_WR)
    received = sorted(read_all(connection)[:6] for connection in far)
    assert received == sorted(f"{token:06}".encode() for token in near)
    for connection in [*near.values(), *far]:
        connection.close()


def test_a_port_without_a_listener_goes_to_loopback(pair: Pair) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        near = pair.client.dial(AGENT, server.getsockname()[1])
        far, _ = server.accept()
        with near, far:
            near.sendall(b"ping")
            assert far.recv(10) == b"ping"
            far.sendall(b"pong")
            far.shutdown(socket.SHUT_WR)
            assert read_all(near) == b"pong"


def test_loopback_over_ipv6_is_tried_second(pair: Pair) -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as server:
        near = pair.client.dial(AGENT, server.getsockname()[1])
        far, _ = server.accept()
        with near, far:
            far.sendall(b"six")
            assert near.recv(10) == b"six"


def test_a_closed_port_is_refused_not_accepted_and_closed(pair: Pair) -> None:
    with pytest.raises(ConnectionError) as refused:
        pair.client.dial(AGENT, free_port())
    assert refused.value.args[0] == "refused"


def test_a_client_refuses_ports_without_a_listener(pair: Pair) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        with pytest.raises(ConnectionError) as refused:
            pair.agent.dial(CLIENT, server.getsockname()[1])
        assert refused.value.args[0] == "refused"


def test_an_unknown_address_is_unreachable(pair: Pair) -> None:
    with pytest.raises(ConnectionError) as failed:
        pair.client.dial("fd7a:115c:a1e0::dead", PORT)
    assert failed.value.args[0] == "unreachable"


def test_a_reset_at_the_far_end_closes_the_near_end(pair: Pair) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        near = pair.client.dial(AGENT, server.getsockname()[1])
        far, _ = server.accept()
        far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        far.close()
        with near:
            assert read_until_closed(near) == b""


def test_unlisten_lets_accepted_connections_live(pair: Pair) -> None:
    near, far = pair.connect()
    with near, far:
        with pytest.raises(_engine.AddressInUse):
            pair.agent.engine.listen(PORT)
        pair.agent.engine.unlisten(PORT)
        near.sendall(b"still here")
        assert far.recv(20) == b"still here"
    with pytest.raises(ConnectionError):
        pair.client.dial(AGENT, PORT)
    pair.agent.engine.listen(PORT)
    near, far = pair.connect()
    near.close()
    far.close()


def test_removing_a_peer_resets_its_connections(pair: Pair) -> None:
    near, far = pair.connect()
    with near, far:
        token = pair.client.engine.ping(pair.agent.engine.public_key)
        pair.client.engine.remove_peer(pair.agent.engine.public_key)
        assert read_until_closed(near) == b""
        assert read_until_closed(far) == b""
        pair.client.wait(lambda event: event if getattr(event, "token", None) == token else None)
        assert pair.client.engine.peers() == []


def test_udp_flows_to_loopback_and_back(pair: Pair) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as echo:
        echo.bind(("127.0.0.1", 0))
        echo.settimeout(20)
        flow = socket.socket(fileno=pair.client.engine.dial_udp(AGENT, echo.getsockname()[1]))
        with flow:
            flow.settimeout(20)
            for payload in (b"a", b"", os.urandom(1232), os.urandom(1233), os.urandom(1500), os.urandom(9000)):
                flow.send(payload)
                data, source = echo.recvfrom(10_000)
                assert data == payload
                echo.sendto(data[::-1], source)
                assert flow.recv(10_000) == payload[::-1]


def test_udp_to_a_port_that_only_listens_on_ipv6_loopback(pair: Pair) -> None:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as echo:
        echo.bind(("::1", 0))
        echo.settimeout(20)
        with socket.socket(fileno=pair.client.engine.dial_udp(AGENT, echo.getsockname()[1])) as flow:
            flow.send(b"six")
            assert echo.recv(10) == b"six"


def test_a_capture_is_a_pcap_file_of_inner_packets(pair: Pair) -> None:
    reading, writing = os.pipe()
    pair.client.engine.capture(writing)
    os.close(writing)
    near, far = pair.connect()
    near.close()
    far.close()
    pair.client.engine.capture(None)
    with os.fdopen(reading, "rb") as capture:
        magic, major, minor, _, _, _, link = struct.unpack("<IHHiIII", capture.read(24))
        assert (magic, major, minor, link) == (0xA1B2C3D4, 2, 4, 101)
        _, _, length, original = struct.unpack("<IIII", capture.read(16))
        packet = capture.read(length)
        assert length == original
        assert packet[0] >> 4 == 6


def test_splice_joins_a_tunnelled_connection_to_any_socket(pair: Pair) -> None:
    near, far = pair.connect()
    inside, outside = socket.socketpair()
    _engine.splice(far.detach(), inside.detach())
    with near, outside:
        payload = os.urandom(3 << 20)
        sending = threading.Thread(target=lambda: (near.sendall(payload), near.shutdown(socket.SHUT_WR)))
        sending.start()
        assert read_all(outside) == payload
        sending.join()
        outside.sendall(b"done")
        outside.close()
        assert read_all(near) == b"done"


def test_pings_say_which_way_they_went(pair: Pair) -> None:
    for kind in ("disco", "tunnel"):
        token = pair.client.engine.ping(pair.agent.engine.public_key, kind=kind)
        pong = pair.client.wait(lambda event, token=token: event if getattr(event, "token", 0) == token else None)
        assert isinstance(pong, _engine.Pong)
        assert 0 <= pong.latency_seconds < 10
        assert pong.direct == (pair.client.engine.peers()[0].direct)


def test_an_idle_engine_sleeps(pair: Pair) -> None:
    before = time.process_time()
    select.select([], [], [], 2)
    assert time.process_time() - before < 0.1


def test_a_closed_engine_closes_its_connections_and_says_so(pair: Pair) -> None:
    near, far = pair.connect()
    with near, far:
        pair.client.engine.close()
        pair.client.engine.close()
        assert read_until_closed(near) == b""
        assert read_until_closed(far) == b""
        with pytest.raises(_engine.EngineClosed):
            pair.client.engine.listen(9)
