"""Packets over an impaired line between two namespaces."""

import hashlib
import random
import socket
import threading
import time

import pytest

from warren import _engine
from warren.netlab import link, namespace

missing = namespace.missing()
pytestmark = pytest.mark.skipif(bool(missing), reason=missing)
PORT = 5001


def _send_all(line: link.ImpairedLink, data: bytes) -> bytes:
    """Send data over TCP from left to right; return what came."""
    server = line.right.call(lambda: socket.create_server((line.right_address, PORT)))
    with server:
        client = line.left.call(lambda: socket.create_connection((line.right_address, PORT), timeout=20))
        server.settimeout(20)
        accepted, _ = server.accept()
    accepted.settimeout(20)
    received = bytearray()

    def receive() -> None:
        with accepted:
            while more := accepted.recv(1 << 18):
                received.extend(more)

    reader = threading.Thread(target=receive)
    reader.start()
    with client:
        client.sendall(data)
    reader.join()
    return bytes(received)


def _echo_seconds(line: link.ImpairedLink) -> float:
    """Send a datagram there and back, and say how long it took."""
    server = line.right.call(lambda: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM))
    client = line.left.call(lambda: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM))
    with server, client:
        server.bind((line.right_address6, PORT))
        for sock in (server, client):
            sock.settimeout(10)
        client.connect((line.right_address6, PORT))
        began = time.monotonic()
        client.send(b"there")
        _, source = server.recvfrom(100)
        server.sendto(b"and back", source)
        assert client.recv(100) == b"and back"
        return time.monotonic() - began


def test_a_line_delays_both_ways() -> None:
    with link.impaired_link(delay_seconds=0.05) as line:
        assert _echo_seconds(line) >= 0.1


@pytest.mark.parametrize(
    "impairment",
    [
        link.Impairment(),
        link.Impairment(delay_seconds=0.002, loss=0.01),
        link.Impairment(reorder=0.02, duplicate=0.02),
        link.Impairment(rate_bits_per_second=200e6, delay_seconds=0.001),
    ],
    ids=["clean", "lossy", "shuffled", "narrow"],
)
def test_tcp_arrives_whole_over(impairment: link.Impairment) -> None:
    data = random.Random(1).randbytes(8 << 20)
    with link.impaired_link(
        seed=5,
        delay_seconds=impairment.delay_seconds,
        loss=impairment.loss,
        reorder=impairment.reorder,
        duplicate=impairment.duplicate,
        rate_bits_per_second=impairment.rate_bits_per_second,
    ) as line:
        assert hashlib.sha256(_send_all(line, data)).digest() == hashlib.sha256(data).digest()
        right, left = line.impairer.stats()
    assert right.packets > len(data) / 1500
    assert right.delivered + right.lost + right.overflowed + right.refused == right.packets + right.duplicated
    assert (right.lost > 0) == (impairment.loss > 0)
    assert (right.reordered > 0) == (impairment.reorder > 0)
    assert left.packets > 0


def test_super_segments_cross_whole() -> None:
    """Fewer packets arrive at the device than cross the wire, so they were moved together."""
    with link.impaired_link() as line:
        _send_all(line, bytes(8 << 20))
        wire = line.impairer.stats()[0].packets
        counters = line.right.run("cat", "/proc/net/dev")
    arrived = next(text for text in counters.splitlines() if "wan:" in text).split()
    # The first counters of a line are bytes and packets received.
    assert int(arrived[2]) * 4 < wire


def test_udp_segments_are_lost_one_by_one() -> None:
    segment, count = 1000, 50
    with link.impaired_link(loss=0.2, seed=3) as line:
        server = line.right.call(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        client = line.left.call(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        with server, client:
            server.bind((line.right_address, PORT))
            server.settimeout(0.5)
            client.setsockopt(socket.SOL_UDP, 103, segment)  # UDP_SEGMENT
            client.sendto(b"".join(bytes([number]) * segment for number in range(count)), (line.right_address, PORT))
            received: list[bytes] = []
            try:
                while True:
                    received.append(server.recv(4096))
            except TimeoutError:
                pass
        right = line.impairer.stats()[0]
    # The kernel may have sent a packet or two of its own, for IPv6.
    assert count <= right.packets <= count + 4
    assert 0 < count - len(received) <= right.lost
    assert all(datagram == datagram[:1] * segment for datagram in received)


def test_a_line_can_be_cut_one_way_and_restored() -> None:
    with link.impaired_link() as line:
        line.impairer.set(direction="left", loss=1.0)
        with pytest.raises(TimeoutError):
            server = line.right.call(lambda: socket.create_server((line.right_address, PORT)))
            with server:
                line.left.call(lambda: socket.create_connection((line.right_address, PORT), timeout=0.3))
        right, left = line.impairer.stats()
        assert right.lost == 0 < left.lost
        line.impairer.set(direction="left", loss=0.0)
        assert _echo_seconds(line) < 10


@pytest.mark.parametrize("loss", [1.5, -0.1, float("nan")])
def test_a_share_that_is_none_is_refused(loss: float) -> None:
    with link.impaired_link() as line, pytest.raises(_engine.InvalidConfig, match="a share is from 0 to 1"):
        line.impairer.set(loss=loss)


def test_a_device_that_goes_down_and_up_goes_on() -> None:
    with link.impaired_link() as line:
        line.right.ip("link set wan down")
        with pytest.raises(OSError):
            line.left.call(lambda: socket.create_connection((line.right_address, PORT), timeout=0.2))
        line.right.ip("link set wan up", f"route replace {line.left_address6}/128 dev wan")
        assert _send_all(line, b"x" * 100_000) == b"x" * 100_000
