"""Relays behind what stands in the way: proxies, middleboxes that eat upgrades, names that cannot be resolved."""

import json
import socket
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.integration.engine.harness import REGION, Node, RelayServer, derp_map
from tests.integration.engine.proxy_server import ProxyServer
from tests.integration.engine.relaying import AGENT, CLIENT, PORT, connected_to, connection, echo, home_is
from tests.integration.engine.test_paths import certificate
from warren import _engine


def node(address: str, proxies: dict[str, str], *, tls_ca_pem: bytes | None = None) -> Node:
    return Node(address, block_direct=True, proxies=proxies, tls_ca_pem=tls_ca_pem)


def test_a_relay_with_tls_is_reached_through_the_proxy_which_resolves_its_name(tmp_path: Path) -> None:
    context, pem = certificate("relay.invalid", tmp_path)
    with (
        ProxyServer(password="me:p@ss", names={"relay.invalid": "127.0.0.1"}) as proxy,
        RelayServer(tls=context) as relay,
        node(CLIENT, {"https": f"http://me:p%40ss@127.0.0.1:{proxy.port}"}, tls_ca_pem=pem) as client,
        node(AGENT, {"https": f"http://me:p%40ss@127.0.0.1:{proxy.port}"}, tls_ca_pem=pem) as agent,
    ):
        derp = derp_map(relay.port, host="relay.invalid", force_http=False)
        for each, peer in ((client, agent), (agent, client)):
            each.engine.set_derp_map(derp)
            each.know(peer)
        agent.engine.listen(PORT)
        near, far = connection(client, agent)
        with near, far:
            echo(near, far, b"x" * 50_000)
        assert all(request.startswith(f"CONNECT relay.invalid:{relay.port} ") for request in proxy.requests)
        token = client.engine.netcheck()
        info = client.wait(lambda event: event if getattr(event, "token", None) == token else None)
        assert isinstance(info, _engine.NetInfo)
        assert f"{REGION}-v4" in info.region_latency_seconds  # measured through the proxy, too


def test_a_relay_without_tls_is_reached_through_the_other_proxy_unless_excepted() -> None:
    with ProxyServer(names={"relay.invalid": "127.0.0.1"}) as proxy, RelayServer() as relay:
        proxies = {"http": f"127.0.0.1:{proxy.port}", "https": "http://127.0.0.1:1"}
        with node(CLIENT, proxies) as client:
            client.engine.set_derp_map(derp_map(relay.port, host="relay.invalid"))
            client.wait(connected_to(REGION))
            assert proxy.requests
        with node(CLIENT, proxies | {"no": ".invalid"}) as client:
            client.engine.set_derp_map(derp_map(relay.port, host="relay.invalid"))
            assert "relay.invalid cannot be resolved" in client.wait(connected_to(REGION, connected=False)).error
        with node(CLIENT, proxies) as client:
            client.engine.set_derp_map(derp_map(relay.port))
            client.wait(connected_to(REGION))  # this machine is never reached through a proxy
        assert not any("127.0.0.1" in request for request in proxy.requests)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"HTTP/1.1 403 Forbidden\r\n\r\n", "forbids a tunnel"),
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "name or password"),
        (b"garbage\r\n\r\n", "no HTTP proxy"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 20_000, "without end"),
    ],
)
def test_what_the_proxy_says_is_told(answer: bytes, error: str) -> None:
    with (
        ProxyServer(answer=answer) as proxy,
        node(CLIENT, {"https": f"http://127.0.0.1:{proxy.port}"}) as client,
    ):
        client.engine.set_derp_map(derp_map(443, host="relay.invalid", force_http=False))
        assert error in client.wait(connected_to(REGION, connected=False)).error


def test_a_proxy_that_cannot_be_used_is_named_without_its_password() -> None:
    with node(CLIENT, {"https": "socks4://me:secret@proxy.invalid:1080"}) as client:
        client.engine.set_derp_map(derp_map(443, host="relay.invalid", force_http=False))
        said = client.wait(connected_to(REGION, connected=False)).error
        assert "socks4://…@proxy.invalid:1080" in said
        assert "secret" not in said


class Middlebox:
    """Stands before a relay and answers plain upgrades in its own way; WebSocket passes."""

    def __init__(self, relay_port: int, answer: bytes) -> None:
        self._relay_port, self._answer = relay_port, answer
        self.eaten = 0
        self.everything = False
        """Whether every request is answered so, as a portal does that lets nothing through."""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._connection, args=(connection,), daemon=True).start()

    def _connection(self, connection: socket.socket) -> None:
        with connection:
            try:
                self._pass_on(connection)
            except OSError:
                return  # either side left, the relay perhaps before the client noticed

    def _pass_on(self, connection: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            more = connection.recv(4096)
            if not more:
                return
            head += more
        if self.everything or b"Upgrade: DERP" in head:
            self.eaten += 1
            connection.sendall(self._answer)
            return
        with socket.create_connection(("127.0.0.1", self._relay_port)) as far:
            far.sendall(head)
            back = threading.Thread(target=copy, args=(far, connection), daemon=True)
            back.start()
            copy(connection, far)
            back.join()


def copy(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(1 << 16):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        return  # the other direction sees it too


@contextmanager
def middlebox(relay_port: int, answer: bytes) -> Generator[Middlebox]:
    box = Middlebox(relay_port, answer)
    try:
        yield box
    finally:
        box.close()


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<h1>Sign in</h1>", "answered 200 instead of upgrading"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://portal/\r\n\r\n", "answered 302"),
        (b"", "closed the connection"),
        (b"HTTP/1.1 426 Upgrade Required\r\n\r\nDERP requires connection upgrade", "status code 426"),
    ],
)
def test_websocket_is_found_out_when_something_eats_the_upgrade(answer: bytes, reason: str) -> None:
    with RelayServer() as relay, middlebox(relay.port, answer) as box, Node(CLIENT) as client:
        client.engine.set_derp_map(derp_map(box.port))
        assert reason in client.wait(connected_to(REGION)).websocket_reason
        token = client.engine.netcheck()
        info = client.wait(lambda event: event if getattr(event, "token", None) == token else None)
        assert isinstance(info, _engine.NetInfo)
        assert reason in info.forced_websocket[REGION]
        # It is remembered when the relay restarts.
        relay.relay.close()
        relay.relay = _engine.Relay(_engine.generate_key())
        client.wait(connected_to(REGION, connected=False))
        client.wait(connected_to(REGION))
        assert box.eaten == 1


def test_a_server_in_trouble_is_not_taken_for_a_middlebox() -> None:
    with (
        RelayServer() as relay,
        middlebox(relay.port, b"HTTP/1.1 502 Bad Gateway\r\n\r\n") as box,
        Node(CLIENT) as client,
    ):
        client.engine.set_derp_map(derp_map(box.port))
        assert "502" in client.wait(connected_to(REGION, connected=False)).error
        assert not any("websocket" in request for request in relay.requests)


def test_a_name_that_cannot_be_resolved_is_said_and_another_region_serves() -> None:
    with RelayServer() as relay, Node(CLIENT) as client:
        derp = json.loads(derp_map(relay.port, region=2))
        derp["Regions"] |= json.loads(derp_map(443, host="relay.invalid", region=1))["Regions"]
        client.engine.set_derp_map(json.dumps(derp).encode())
        client.wait(home_is(2))
        client.wait(connected_to(2))
        assert "relay.invalid cannot be resolved" in client.wait(connected_to(1, connected=False)).error
