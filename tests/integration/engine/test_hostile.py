"""What strangers and broken relays send must not harm a node."""

import random
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.engine.harness import REGION, Node, RelayServer, derp_map
from tests.integration.engine.test_paths import exchange, introduce
from warren import _engine

CLIENT, AGENT = "fd7a:115c:a1e0::c", "fd7a:115c:a1e0::a"
DISCO_MAGIC = b"TS\xf0\x9f\x92\xac"
STUN_ANSWER = bytes.fromhex("0101000c2112a442")


def datagrams(engine: _engine.Engine) -> Iterator[bytes]:
    """Make garbage that begins like each protocol the socket carries."""
    chance = random.Random(7)
    beginnings = [
        b"",
        DISCO_MAGIC,
        DISCO_MAGIC + engine.disco_public_key,
        STUN_ANSWER,
        *(bytes([kind, 0, 0, 0]) for kind in range(1, 5)),
    ]
    lengths = [0, 1, 3, 20, 32, 61, 62, 64, 92, 148, 200, 1310, 1400]
    for _ in range(4000):
        beginning = chance.choice(beginnings)
        yield beginning + chance.randbytes(max(0, chance.choice(lengths) - len(beginning)))


def test_garbage_by_udp_changes_nothing() -> None:
    with RelayServer() as relay, Node(CLIENT) as client, Node(AGENT) as agent:
        introduce(client, agent, derp_map(relay.port))
        exchange(client, agent)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            for node, other in ((client, agent), (agent, client)):
                for datagram in datagrams(other.engine):
                    stranger.sendto(datagram, ("127.0.0.1", node.engine.local_port))
        exchange(client, agent)
        assert client.engine.peers()[0].direct


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"", id="closes"),
        pytest.param(b"SSH-2.0-OpenSSH_9.2\r\n\r\n\r\n", id="another-protocol"),
        pytest.param(b"HTTP/1.1 101 Switching Protocols\r\n\r\n" + bytes(60), id="no-greeting"),
        pytest.param(b"HTTP/1.1 101 Switching Protocols\r\n\r\n\x01\xff\xff\xff\xff", id="endless-frame"),
        pytest.param(
            b"HTTP/1.1 101 Switching Protocols\r\n\r\n"
            b"\x01\0\0\0\x28DERP\xf0\x9f\x94\x91" + bytes(32) + b"\x03\0\0\0\x05wrong",
            id="login-that-does-not-open",
        ),
        pytest.param(b"HTTP/1.1 " + b"x" * 40_000, id="endless-answer"),
        pytest.param(b"HTTP/1.1 503 Service Unavailable\r\n\r\nno", id="unavailable"),
    ],
)
def test_a_broken_relay_is_reported_and_tried_again(answer: bytes) -> None:
    attempts = threading.Semaphore(0)

    def serve(listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(20)
                if b"latency-check" not in connection.recv(4096):
                    attempts.release()
                try:
                    connection.sendall(answer)
                    connection.shutdown(socket.SHUT_WR)
                    while connection.recv(4096):
                        pass
                except OSError:
                    continue

    with socket.create_server(("127.0.0.1", 0)) as listener, Node(CLIENT) as client:
        serving = threading.Thread(target=serve, args=(listener,))
        serving.start()
        client.engine.set_derp_map(derp_map(listener.getsockname()[1]))
        failed = client.wait(
            lambda event: event if isinstance(event, _engine.RelayChanged) and not event.connected else None
        )
        assert failed.error
        assert attempts.acquire(timeout=10)
        assert attempts.acquire(timeout=10), "it is not tried again"
        client.engine.stats()
        listener.shutdown(socket.SHUT_RDWR)
        serving.join()


# In a process of its own: what runs the tests needs descriptors too.
WITHOUT_DESCRIPTORS = """
import contextlib, resource, socket
from tests.integration.engine.harness import REGION, Node, RelayServer, derp_map
from tests.integration.engine.test_paths import AGENT, CLIENT, PORT, exchange, introduce

with RelayServer() as relay, Node(CLIENT) as client, Node(AGENT) as agent:
    introduce(client, agent, derp_map(relay.port))
    exchange(client, agent)
    for node in (client, agent):  # else a latency probe ends meanwhile, and its descriptor is free
        token = node.engine.netcheck()
        node.wait(lambda event: event if getattr(event, "token", None) == token else None)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 256), hard))
    held, code = [], "none"
    for _ in range(10):  # the engines may have let go of some while all others were taken
        with contextlib.suppress(OSError):
            while True:
                held.append(socket.socket())
        try:
            held.append(client.dial(AGENT, PORT))
        except ConnectionError as error:
            code = error.args[0]
            break
        held.append(agent.accept())
    for each in held:
        each.close()
    exchange(client, agent)
    print(code)
"""


def test_a_process_without_descriptors_fails_a_dial_and_goes_on() -> None:
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_DESCRIPTORS], check=False, capture_output=True, text=True, cwd=root, timeout=19
    )
    assert (done.returncode, done.stdout) == (0, "closed\n"), done.stderr


def test_two_clients_with_one_key_harm_nobody_else() -> None:
    key = _engine.generate_key()
    with (
        RelayServer() as relay,
        Node(CLIENT, private_key=key) as client,
        Node(AGENT) as agent,
        Node("fd7a:115c:a1e0::d") as bystander,
    ):
        introduce(client, agent, derp_map(relay.port))
        exchange(client, agent)
        agent.know(bystander)
        bystander.engine.set_derp_map(derp_map(relay.port))
        bystander.know(agent)
        with Node(CLIENT, private_key=key) as double:
            double.engine.set_derp_map(derp_map(relay.port))
            double.know(agent)
            double.engine.ping(agent.engine.public_key, kind="tunnel")
            for _ in range(5):
                exchange(bystander, agent)
        exchange(client, agent)


def test_a_peer_with_a_stale_disco_key_is_not_heard_until_it_is_told_anew() -> None:
    with RelayServer() as relay, Node(CLIENT) as client, Node(AGENT) as agent:
        introduce(client, agent, derp_map(relay.port))
        stale = _engine.public_key(_engine.generate_key())
        agent.engine.set_peer(
            client.engine.public_key,
            disco_key=stale,
            allowed_ips=[CLIENT + "/128"],
            home_region=REGION,
            endpoints=[],
            keepalive=False,
        )
        exchange(client, agent)  # by relay, which needs no disco
        assert not client.engine.peers()[0].direct
        # A new disco key means that the peer restarted: its session is dropped on both sides.
        client.engine.remove_peer(agent.engine.public_key)
        client.know(agent)
        agent.know(client)
        exchange(client, agent)
        client.until_direct()
