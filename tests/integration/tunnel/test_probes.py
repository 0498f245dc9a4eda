"""The probes against real sockets: each way in which a server can fail has its step and its text."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.integration.engine.harness import RelayServer, StunServer
from tests.integration.engine.proxy_server import ProxyServer, SocksServer
from tests.integration.engine.test_paths import certificate, in_namespace
from warren.clock import SystemClock
from warren.net.derp_map import DERPMap, DERPNode, DERPRegion
from warren.net.network_report import Failure, RelayCheck, STUNFailure
from warren.tunnel import probes, stun_probe

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)


def closed_port(kind: socket.SocketKind) -> int:
    """Find a port where nothing listens."""
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


async def check(
    port: int, *, host: str = "127.0.0.1", tls: bool = False, context: ssl.SSLContext | None = None
) -> RelayCheck:
    node = DERPNode("1a", 1, host, derp_port=port, force_http=not tls, stun_port=-1)
    region = DERPRegion(1, "one", "One", nodes=(node,))
    (found,) = await probes.check_relays(
        DERPMap({1: region}), tls=context or ssl.create_default_context(), headers={"X-Way": "in"}
    )
    return found


@contextmanager
def answering(answer: Callable[[socket.socket], None]) -> Generator[int]:
    """Listen on loopback and have each connection answered by a thread; yields the port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def one(connection: socket.socket) -> None:
        with connection, suppress(OSError):  # the probe may leave first
            connection.settimeout(10)
            answer(connection)

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=one, args=(connection,), daemon=True).start()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def head(connection: socket.socket) -> str:
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(4096)
        if not more:
            raise OSError("the client left")
        data += more
    return data.decode()


async def test_a_relay_by_both_ways() -> None:
    with RelayServer() as relay:
        found = await check(relay.port)
        assert all("X-Way: in" in request for request in relay.requests)
    assert found.reachable
    assert (found.upgrade_error, found.websocket_error, found.failure) == ("", "", Failure.NONE)
    assert found.latency_seconds is not None
    assert found.addresses == ("127.0.0.1",)
    assert found.url == f"http://127.0.0.1:{relay.port}/derp"


async def test_a_relay_that_refuses_the_upgrade() -> None:
    with RelayServer(refuse_upgrade=True) as relay:
        found = await check(relay.port)
    assert found.reachable
    assert found.upgrade_error == 'status 400: Invalid "Upgrade" header: DERP'
    assert found.websocket_error == ""


async def test_a_port_without_a_relay() -> None:
    found = await check(closed_port(socket.SOCK_STREAM))
    assert found.failure is Failure.CONNECT
    assert "refused" in found.error
    assert not found.reachable


async def test_a_name_without_an_address() -> None:
    assert (await check(80, host="relay.invalid")).failure is Failure.DNS


async def test_a_web_server_that_is_no_relay() -> None:
    def not_found(connection: socket.socket) -> None:
        head(connection)
        connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\nConnection: close\r\n\r\nnope")

    with answering(not_found) as port:
        found = await check(port)
    assert not found.reachable
    assert found.upgrade_error == "status 404: nope"
    assert found.websocket_error == "status 404: nope"


@pytest.mark.parametrize("said", [b"", b"SSH-2.0-x\r\n"], ids=["closes", "garbage"])
async def test_something_that_does_not_speak_http(said: bytes) -> None:
    def strange(connection: socket.socket) -> None:
        head(connection)
        connection.sendall(said)

    with answering(strange) as port:
        found = await check(port)
    assert not found.reachable
    assert found.upgrade_error


async def test_a_certificate_of_an_unknown_authority_names_its_issuer(tmp_path: Path) -> None:
    context, pem = certificate("127.0.0.1", tmp_path)
    with RelayServer(tls=context) as relay:
        stranger = await check(relay.port, tls=True)
        trusting = ssl.create_default_context(cadata=pem.decode())
        known = await check(relay.port, tls=True, context=trusting)
    assert (stranger.failure, stranger.issuer) == (Failure.TLS, "CN=127.0.0.1")
    assert "self-signed" in stranger.error.replace("self signed", "self-signed")
    assert known.reachable


async def test_a_certificate_for_another_name(tmp_path: Path) -> None:
    context, pem = certificate("relay.example", tmp_path)
    with RelayServer(tls=context) as relay:
        found = await check(relay.port, tls=True, context=ssl.create_default_context(cadata=pem.decode()))
    assert found.failure is Failure.TLS
    assert "127.0.0.1" in found.error


async def test_no_tls_where_tls_was_expected() -> None:
    with RelayServer() as relay:
        found = await check(relay.port, tls=True)
    assert found.failure is Failure.NO_TLS
    assert "no TLS there" in found.error


def proxy(status: bytes, relay_port: int) -> Callable[[socket.socket], None]:
    """Answer CONNECT with this status; 200 goes on to the relay."""

    def serve(connection: socket.socket) -> None:
        request = head(connection)
        assert request.startswith(f"CONNECT relay.internal:{relay_port} HTTP/1.1\r\n")
        assert "Proxy-Authorization: Basic bWU6c2VjcmV0" in request
        connection.sendall(b"HTTP/1.1 " + status + b"\r\n\r\n")
        if not status.startswith(b"200"):
            return
        with socket.create_connection(("127.0.0.1", relay_port), timeout=10) as onward:
            onward.sendall(head(connection).encode())
            while data := onward.recv(4096):
                connection.sendall(data)

    return serve


async def test_a_relay_through_a_proxy_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    with RelayServer() as relay, answering(proxy(b"200 OK", relay.port)) as port:
        monkeypatch.setenv("http_proxy", f"http://me:secret@127.0.0.1:{port}")
        found = await check(relay.port, host="relay.internal")
    assert found.reachable, found
    assert found.proxy == f"127.0.0.1:{port}"


async def test_a_proxy_that_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(proxy(b"403 Forbidden", 81)) as port:
        monkeypatch.setenv("http_proxy", f"http://me:secret@127.0.0.1:{port}")
        found = await check(81, host="relay.internal")
    assert found.failure is Failure.PROXY
    assert found.error == f"the proxy 127.0.0.1:{port} did not open a tunnel (403 Forbidden)"


async def test_a_proxy_that_is_away_and_one_that_is_not_for_this_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"127.0.0.1:{closed_port(socket.SOCK_STREAM)}")
    found = await check(81, host="relay.internal")
    assert found.failure is Failure.PROXY
    assert "cannot be reached" in found.error
    with RelayServer() as relay:  # this machine is never reached by a proxy
        assert (await check(relay.port)).proxy == ""
    monkeypatch.setenv("no_proxy", "relay.invalid")
    found = await check(81, host="relay.invalid")
    assert (found.failure, found.proxy) == (Failure.DNS, "")


async def test_a_relay_through_socks_and_what_it_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    with RelayServer() as relay, SocksServer(password="me:secret", names={"relay.internal": "127.0.0.1"}) as proxy:
        monkeypatch.setenv("http_proxy", f"socks5://me:secret@127.0.0.1:{proxy.port}")
        found = await check(relay.port, host="relay.internal")
        assert found.reachable, found
        assert found.proxy == f"socks5://127.0.0.1:{proxy.port}"
        monkeypatch.setenv("http_proxy", f"socks5://me:wrong@127.0.0.1:{proxy.port}")
        found = await check(relay.port, host="relay.internal")
    assert found.failure is Failure.PROXY
    assert found.error == f"the proxy socks5://127.0.0.1:{proxy.port} refuses the name or the password in its URL"


async def test_a_relay_by_tls_inside_of_tls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    shown, proxy_pem = certificate("127.0.0.1", tmp_path)
    server, relay_pem = certificate("relay.internal", tmp_path)
    trusted = ssl.create_default_context(cadata=(proxy_pem + relay_pem).decode())
    with (
        RelayServer(tls=server) as relay,
        ProxyServer(tls=shown, names={"relay.internal": "127.0.0.1"}) as proxy,
        ProxyServer() as plain,
    ):
        monkeypatch.setenv("https_proxy", f"https://127.0.0.1:{proxy.port}")
        found = await check(relay.port, host="relay.internal", tls=True, context=trusted)
        assert found.reachable, found
        relay_only = ssl.create_default_context(cadata=relay_pem.decode())
        found = await check(relay.port, host="relay.internal", tls=True, context=relay_only)
        assert (found.failure, found.issuer) == (Failure.TLS, "CN=127.0.0.1")
        assert found.error.startswith(f"the proxy https://127.0.0.1:{proxy.port}: ")
        monkeypatch.setenv("https_proxy", f"https://127.0.0.1:{plain.port}")
        found = await check(relay.port, host="relay.internal", tls=True, context=trusted)
    assert found.failure is Failure.PROXY
    assert "write http:// before its name" in found.error


async def test_a_proxy_that_cannot_be_used_is_a_finding_and_no_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "socks4://me:secret@127.0.0.1:1")
    found = await check(81, host="relay.internal")
    assert found.failure is Failure.PROXY
    assert "socks4://…@127.0.0.1:1" in found.error
    reached = await probes.check_server(
        "http://warren.invalid", tls=None, headers={}, clock=SystemClock(), own_version="0.1.0"
    )
    assert reached.failure is Failure.PROXY
    assert "cannot be used" in await probes.check_websocket("http://warren.invalid", tls=None)


async def server(url: str) -> tuple[Failure, str, float | None]:
    found = await probes.check_server(url, tls=None, headers={}, clock=SystemClock(), own_version="0.1.0")
    return found.failure, found.version, found.skew_seconds


async def test_the_control_plane_and_its_clock() -> None:
    date = (SystemClock().now() - timedelta(minutes=10)).strftime("%a, %d %b %Y %H:%M:%S GMT")

    def build_info(connection: socket.socket) -> None:
        assert head(connection).startswith("GET /base/api/v2/buildinfo HTTP/1.1\r\n")
        body = b'{"version":"v2.36.0+warren-0.1.0"}'
        connection.sendall(f"HTTP/1.1 200 OK\r\nDate: {date}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)

    with answering(build_info) as port:
        failure, version, skew_seconds = await server(f"http://127.0.0.1:{port}/base/")
    assert (failure, version) == (Failure.NONE, "v2.36.0+warren-0.1.0")
    assert skew_seconds == pytest.approx(600, abs=30)


async def test_a_captive_portal_in_the_servers_place() -> None:
    def portal(connection: socket.socket) -> None:
        head(connection)
        connection.sendall(b"HTTP/1.1 302 Found\r\nLocation: http://portal/\r\nContent-Length: 0\r\n\r\n")

    with answering(portal) as port:
        assert (await server(f"http://127.0.0.1:{port}"))[0] is Failure.HTTP


def test_skew_is_none_without_a_date() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert probes.skew("", now, 0.1) is None
    assert probes.skew("yesterday", now, 0.1) is None
    assert probes.skew("Thu, 01 Jan 2026 00:00:10 GMT", now, 1.0) == pytest.approx(-11.0)


async def stun(port: int, host: str = "127.0.0.1") -> STUNFailure:
    return (await stun_probe.check_server(DERPNode("1s", 1, host, stun_port=port))).failure


async def test_stun_servers() -> None:
    with StunServer() as answers, StunServer(says=("192.0.2.7", 1234)) as translated:
        one = DERPNode("1s", 1, "127.0.0.1", stun_port=answers.port, stun_only=True)
        two = DERPNode("1t", 1, "127.0.0.1", stun_port=translated.port, stun_only=True)
        none = DERPNode("1r", 1, "127.0.0.1", stun_port=-1)
        found = await stun_probe.check_stun(DERPMap({1: DERPRegion(1, "one", "One", nodes=(one, two, none))}))
    assert [each.node for each in found] == ["1s", "1t"]
    assert found[0].mapped.startswith("127.0.0.1:")
    assert found[1].mapped == "192.0.2.7:1234"
    assert found[0].sent >= 1
    assert found[0].failure is STUNFailure.NONE


async def test_stun_servers_that_do_not_answer() -> None:
    assert await stun(closed_port(socket.SOCK_DGRAM)) is STUNFailure.REFUSED
    assert await stun(3478, "stun.invalid") is STUNFailure.NO_ADDRESS
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mute:
        mute.bind(("127.0.0.1", 0))
        assert await stun(mute.getsockname()[1]) is STUNFailure.SILENCE


@pytest.mark.parametrize(
    ("hook", "failure"), [("output", STUNFailure.BLOCKED_HERE), ("input", STUNFailure.SILENCE)], ids=["here", "beyond"]
)
def test_udp_that_a_firewall_drops(hook: str, failure: STUNFailure) -> None:
    script = f"""
import subprocess, anyio, shutil
from tests.integration.engine.harness import StunServer
from tests.integration.engine.proxy_server import ProxyServer, SocksServer
from warren.net.derp_map import DERPNode
from warren.tunnel import stun_probe
if shutil.which("nft") is None:
    print("no nft")
    raise SystemExit
with StunServer() as server:
    hook = "type filter hook {hook} priority 0;"
    lines = ("table inet t {{", "chain c {{", hook, f"udp dport {{server.port}} drop", "}}", "}}")
    rule = "\\n".join(lines) + "\\n"
    subprocess.run(["nft", "-f", "-"], input=rule, text=True, check=True)
    found = anyio.run(stun_probe.check_server, DERPNode("1s", 1, "127.0.0.1", stun_port=server.port))
    subprocess.run(["nft", "delete", "table", "inet", "t"], check=True)
    print(found.failure.name)
"""
    said = in_namespace("-c", script).strip()
    if said == "no nft":
        pytest.skip("nftables is not installed")
    assert said == failure.name
