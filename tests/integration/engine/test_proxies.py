"""Relays behind proxies of every kind: TLS to the proxy itself, SOCKS5, and what is said when they refuse."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import threading
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.integration.engine.harness import REGION, Node, RelayServer, derp_map
from tests.integration.engine.proxy_server import ProxyServer, SocksServer
from tests.integration.engine.relaying import AGENT, CLIENT, PORT, connected_to, connection, echo
from tests.integration.engine.test_paths import certificate
from warren import _engine

NAMES = {"relay.invalid": "127.0.0.1"}


def node(address: str, proxies: dict[str, str], *, tls_ca_pem: bytes | None = None) -> Node:
    return Node(address, block_direct=True, proxies=proxies, tls_ca_pem=tls_ca_pem)


def carries_a_stream(relay_port: int, proxies: dict[str, str], *, force_http: bool, pem: bytes | None) -> None:
    """Have two nodes behind a proxy exchange some megabytes over a relay, and measure the relay through the proxy."""
    with node(CLIENT, proxies, tls_ca_pem=pem) as client, node(AGENT, proxies, tls_ca_pem=pem) as agent:
        derp = derp_map(relay_port, host="relay.invalid", force_http=force_http)
        for each, peer in ((client, agent), (agent, client)):
            each.engine.set_derp_map(derp)
            each.know(peer)
        agent.engine.listen(PORT)
        near, far = connection(client, agent)
        with near, far:
            echo(near, far)
            carry(near, far)
            carry(far, near)
        token = client.engine.netcheck()
        info = client.wait(lambda event: event if getattr(event, "token", None) == token else None)
        assert isinstance(info, _engine.NetInfo)
        assert f"{REGION}-v4" in info.region_latency_seconds, info


def carry(source: socket.socket, target: socket.socket) -> None:
    """Send more than all buffers on the way hold."""
    block = bytes(range(256)) * 16384
    sender = threading.Thread(target=source.sendall, args=(block,), daemon=True)
    sender.start()
    received = bytearray()
    while len(received) < len(block):
        received += target.recv(1 << 18)
    sender.join()
    assert received == block


def refusal(proxies: dict[str, str], *, pem: bytes | None = None, port: int = 443) -> str:
    """Say why a node does not reach its relay."""
    with node(CLIENT, proxies, tls_ca_pem=pem) as client:
        client.engine.set_derp_map(derp_map(port, host="relay.invalid", force_http=False))
        return client.wait(connected_to(REGION, connected=False), within=30).error


@pytest.mark.parametrize("secure_relay", [True, False], ids=["TLS-in-TLS", "TLS-to-the-proxy-only"])
def test_a_proxy_is_reached_by_tls(tmp_path: Path, *, secure_relay: bool) -> None:
    proxy_context, proxy_pem = certificate("127.0.0.1", tmp_path)
    relay_context, relay_pem = certificate("relay.invalid", tmp_path)
    with (
        ProxyServer(password="me:p@ss", names=NAMES, tls=proxy_context) as proxy,
        RelayServer(tls=relay_context if secure_relay else None) as relay,
    ):
        url = f"https://me:p%40ss@127.0.0.1:{proxy.port}"
        proxies = {"https" if secure_relay else "http": url}
        carries_a_stream(relay.port, proxies, force_http=not secure_relay, pem=proxy_pem + relay_pem)
        assert proxy.requests
        assert all(request.startswith(f"CONNECT relay.invalid:{relay.port} ") for request in proxy.requests)


@pytest.mark.parametrize(("scheme", "password"), [("socks5", ""), ("socks5h", "me:p@ss")])
def test_a_socks_proxy_resolves_the_name_of_the_relay(tmp_path: Path, scheme: str, password: str) -> None:
    context, pem = certificate("relay.invalid", tmp_path)
    login = "me:p%40ss@" if password else ""
    with SocksServer(password=password, names=NAMES) as proxy, RelayServer(tls=context) as relay:
        proxies = {"https": f"{scheme}://{login}127.0.0.1:{proxy.port}"}
        carries_a_stream(relay.port, proxies, force_http=False, pem=pem)
        assert set(proxy.requests) == {f"relay.invalid:{relay.port} name"}


def test_a_relay_without_tls_is_reached_through_socks() -> None:
    with SocksServer(names=NAMES) as proxy, RelayServer() as relay:
        carries_a_stream(relay.port, {"http": f"socks5://127.0.0.1:{proxy.port}"}, force_http=True, pem=None)
        assert proxy.requests


def test_a_socks_proxy_that_refuses_is_quoted() -> None:
    with SocksServer(password="me:right") as proxy:
        where = f"127.0.0.1:{proxy.port}"
        assert "wants a name and a password" in refusal({"https": f"socks5://{where}"})
        assert "refuses the name or the password" in refusal({"https": f"socks5://me:wrong@{where}"})
    with SocksServer(names=NAMES) as proxy:
        unused = _port_without_listener()
        said = refusal({"https": f"socks5://127.0.0.1:{proxy.port}"}, port=unused)
        assert said == (
            f"the proxy socks5://127.0.0.1:{proxy.port} did not open a tunnel to the relay "
            "(SOCKS reply 5: connection refused)"
        )


@pytest.mark.parametrize(
    ("server", "scheme", "said"),
    [
        (SocksServer(answer=b"HTTP/1.1 400 Bad Request\r\n\r\n"), "socks5", "write http:// before its name"),
        (SocksServer(answer=b"\0\x5b"), "socks5", "is no SOCKS5 proxy"),
        (ProxyServer(), "https", "does not speak TLS: if it is an HTTP proxy, write http://"),
    ],
)
def test_a_proxy_of_another_kind_is_recognised(
    server: AbstractContextManager[SocksServer | ProxyServer], scheme: str, said: str
) -> None:
    with server as proxy:
        assert said in refusal({"https": f"{scheme}://127.0.0.1:{proxy.port}"})


def test_a_proxy_that_wants_tls_is_recognised(tmp_path: Path) -> None:
    context, _ = certificate("127.0.0.1", tmp_path)
    with ProxyServer(tls=context) as proxy:
        said = refusal({"https": f"http://127.0.0.1:{proxy.port}"})
        assert f"the proxy 127.0.0.1:{proxy.port} closed the connection" in said or "write https://" in said


def test_a_proxy_whose_certificate_is_not_trusted_is_named(tmp_path: Path) -> None:
    context, _ = certificate("127.0.0.1", tmp_path)
    _, other = certificate("relay.invalid", tmp_path)
    with ProxyServer(tls=context, names=NAMES) as proxy:
        said = refusal({"https": f"https://127.0.0.1:{proxy.port}"}, pem=other)
        assert f"the proxy https://127.0.0.1:{proxy.port} cannot be used: the certificate of 127.0.0.1" in said
        assert not proxy.requests


def test_a_proxy_that_is_not_there_is_named() -> None:
    port = _port_without_listener()
    assert f"the proxy socks5://127.0.0.1:{port} cannot be reached" in refusal({"https": f"socks5://127.0.0.1:{port}"})
    said = refusal({"https": "https://proxy.invalid"})
    assert said.startswith("the name of the proxy proxy.invalid cannot be resolved")


def test_a_proxy_that_says_nothing_has_a_limit() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        said = refusal({"https": f"socks5://127.0.0.1:{port}"})
        assert said == f"the proxy socks5://127.0.0.1:{port} did not open a tunnel to the relay within 10 s"


@pytest.mark.parametrize("program", ["tinyproxy", "stunnel", "microsocks", "ssh"])
def test_proxies_that_others_wrote(program: str) -> None:
    needed = {program, "tinyproxy"} if program == "stunnel" else {program}
    if missing := [each for each in needed if shutil.which(each) is None]:
        pytest.skip(f"{' and '.join(missing)} is not installed")
    own = [
        "unshare",
        "--user",
        "--map-root-user",
        "--net",
        "--mount",
        "sh",
        "-c",
        'ip link set lo up && exec "$@"',
        "sh",
    ]
    if subprocess.run([*own, "true"], check=False, capture_output=True).returncode:
        pytest.skip("this machine does not allow namespaces, or has no `ip`")
    words = [*own, sys.executable, "-m", "tests.integration.engine.stock_proxies", program]
    done = subprocess.run(words, check=False, capture_output=True, text=True, cwd=Path(__file__).parents[3])
    assert (done.returncode, done.stdout.splitlines()[-1:]) == (0, ["carried"]), done.stderr


def _port_without_listener() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
