"""How nodes find their relay and each other: regions, WebSocket, TLS, STUN, blocked paths, a relay that dies."""

import datetime
import ipaddress
import json
import shutil
import socket
import ssl
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import NameOID

from tests.integration.engine.harness import REGION, Node, RelayServer, StunServer, derp_map
from warren import _engine

CLIENT, AGENT = "fd7a:115c:a1e0::c", "fd7a:115c:a1e0::a"
PORT = 7


def relay_changed(*, connected: bool) -> Callable[[_engine.Event], _engine.RelayChanged | None]:
    def wanted(event: _engine.Event) -> _engine.RelayChanged | None:
        return event if isinstance(event, _engine.RelayChanged) and event.connected == connected else None

    return wanted


def net_info(event: _engine.Event) -> _engine.NetInfo | None:
    return event if isinstance(event, _engine.NetInfo) else None


def exchange(client: Node, agent: Node) -> None:
    """Send a word through a new connection and back."""
    near = client.dial(AGENT, PORT)
    far = agent.accept()
    with near, far:
        near.settimeout(10)
        far.settimeout(10)
        near.sendall(b"word")
        assert far.recv(10) == b"word"
        far.sendall(b"reply")
        assert near.recv(10) == b"reply"


def introduce(client: Node, agent: Node, derp: bytes) -> None:
    for node in (client, agent):
        node.engine.set_derp_map(derp)
    client.know(agent)
    agent.know(client)
    agent.engine.listen(PORT)


@pytest.mark.parametrize("size", [2_000, 200_000])
def test_a_connection_outlives_the_relay_it_runs_over(size: int) -> None:
    with Node(CLIENT, block_direct=True) as client, Node(AGENT) as agent:
        relay = RelayServer()
        introduce(client, agent, derp_map(relay.port))
        near = client.dial(AGENT, PORT)
        far = agent.accept()
        relay.close()
        client.wait(relay_changed(connected=False))
        with near, far, RelayServer(port=relay.port):
            near.settimeout(15)
            far.settimeout(15)
            near.sendall(b"x" * size)
            received = 0
            while received < size:
                received += len(far.recv(1 << 16))
            far.sendall(b"ok")
            assert near.recv(10) == b"ok"


def test_a_direct_path_needs_no_relay_once_it_stands() -> None:
    with Node(CLIENT) as client, Node(AGENT) as agent:
        relay = RelayServer()
        introduce(client, agent, derp_map(relay.port))
        exchange(client, agent)
        client.until_direct()
        relay.close()
        client.wait(relay_changed(connected=False))
        exchange(client, agent)


def test_websocket_is_used_when_asked_for() -> None:
    with RelayServer() as relay, Node(CLIENT, block_direct=True, force_websockets=True) as client, Node(AGENT) as agent:
        introduce(client, agent, derp_map(relay.port))
        exchange(client, agent)
        assert client.wait(relay_changed(connected=True)).websocket_reason == ""
        upgrades = [request for request in relay.requests if "Upgrade: websocket" in request]
        assert upgrades
        assert "Sec-WebSocket-Protocol: derp" in upgrades[0]


def test_websocket_is_used_when_the_upgrade_is_refused() -> None:
    expected = (
        "GET failed with status code 400 (a proxy could be disallowing the use of 'Upgrade: derp'): "
        'Invalid "Upgrade" header: DERP'
    )
    with (
        RelayServer(refuse_upgrade=True) as relay,
        Node(CLIENT, block_direct=True) as client,
        Node(AGENT) as agent,
    ):
        introduce(client, agent, derp_map(relay.port))
        exchange(client, agent)
        assert client.wait(relay_changed(connected=True)).websocket_reason == expected
        token = client.engine.netcheck()
        info = client.wait(lambda event: event if getattr(event, "token", None) == token else None)
        assert isinstance(info, _engine.NetInfo)
        assert info.forced_websocket == {REGION: expected}


def test_relay_headers_go_with_every_request() -> None:
    with RelayServer() as relay, Node(CLIENT, relay_headers={"X-Way": "in"}) as client:
        client.engine.set_derp_map(derp_map(relay.port))
        client.wait(relay_changed(connected=True))
        client.wait(net_info)
        assert len(relay.requests) >= 2
        assert all("X-Way: in" in request for request in relay.requests)


Issuer = tuple[ec.EllipticCurvePrivateKey, x509.Name]


def issuer(name: str) -> Issuer:
    """Make an authority that nobody trusts."""
    return ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def certificate(
    name: str, folder: Path, *, relay_key: bytes | None = None, issuer: Issuer | None = None
) -> tuple[ssl.SSLContext, bytes]:
    """Make a server's TLS context for `name`, and what its clients must trust.

    With `relay_key` the chain also names the relay's key, as relays do that allow the fast start.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    try:
        alternative: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        alternative = x509.DNSName(name)
    signed = (
        x509.CertificateBuilder(
            issuer[1] if issuer else subject, subject, key.public_key(), 1, now, now + datetime.timedelta(days=36500)
        )
        .add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(issuer[0] if issuer else key, hashes.SHA256())
    )
    pem = signed.public_bytes(serialization.Encoding.PEM)
    chain = pem
    if relay_key is not None:
        meta_key = ed25519.Ed25519PrivateKey.generate()
        # The name is longer than X.520 allows, as relays write it.
        with pytest.warns(UserWarning, match="length"):
            common = x509.NameAttribute(NameOID.COMMON_NAME, f"derpkey{relay_key.hex()}", _validate=False)
        meta_name = x509.Name([common])
        meta = x509.CertificateBuilder(
            meta_name, meta_name, meta_key.public_key(), 2, now, now + datetime.timedelta(days=36500)
        ).sign(meta_key, None)
        chain += meta.public_bytes(serialization.Encoding.PEM)
    (folder / "chain.pem").write_bytes(chain)
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "chain.pem", folder / "key.pem")
    return context, pem


def test_a_relay_behind_tls_with_a_certificate_we_trust(tmp_path: Path) -> None:
    context, pem = certificate("127.0.0.1", tmp_path)
    with (
        RelayServer(tls=context) as relay,
        Node(CLIENT, block_direct=True, tls_ca_pem=pem) as client,
        Node(AGENT, tls_ca_pem=pem) as agent,
    ):
        introduce(client, agent, derp_map(relay.port, force_http=False))
        exchange(client, agent)


def test_a_relay_with_another_name_in_its_certificate_is_not_trusted(tmp_path: Path) -> None:
    context, pem = certificate("relay.example", tmp_path)
    with RelayServer(tls=context) as relay, Node(CLIENT, tls_ca_pem=pem) as client:
        client.engine.set_derp_map(derp_map(relay.port, force_http=False))
        said = client.wait(relay_changed(connected=False)).error
        assert "certificate" in said
        assert "CN=relay.example" in said


def test_a_certificate_that_is_not_trusted_is_said_to_be_so_with_its_issuer(tmp_path: Path) -> None:
    """As when a firewall opens TLS with an authority of its own."""
    firewall_key, firewall_name = issuer("Corporate Inspection CA")
    context, _ = certificate("127.0.0.1", tmp_path, issuer=(firewall_key, firewall_name))
    with RelayServer(tls=context) as relay, Node(CLIENT) as client:
        client.engine.set_derp_map(derp_map(relay.port, force_http=False))
        said = client.wait(relay_changed(connected=False)).error
        assert "the certificate of 127.0.0.1 is not trusted" in said
        assert "issued by CN=Corporate Inspection CA" in said
        assert "SSL_CERT_FILE" in said


def test_an_authority_in_ssl_cert_file_is_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context, pem = certificate("127.0.0.1", tmp_path)
    (tmp_path / "authorities.pem").write_bytes(pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authorities.pem"))
    with RelayServer(tls=context) as relay, Node(CLIENT) as client:
        client.engine.set_derp_map(derp_map(relay.port, force_http=False))
        client.wait(relay_changed(connected=True))


def test_what_speaks_no_tls_is_said_to_be_so() -> None:
    with RelayServer() as relay, Node(CLIENT) as client:
        client.engine.set_derp_map(derp_map(relay.port, force_http=False))
        assert "TLS" in client.wait(relay_changed(connected=False), within=15).error


def test_a_region_for_tests_may_have_any_certificate(tmp_path: Path) -> None:
    context, _ = certificate("relay.example", tmp_path)
    with RelayServer(tls=context) as relay, Node(CLIENT) as client:
        derp = json.loads(derp_map(relay.port, force_http=False))
        derp["Regions"][str(REGION)]["Nodes"][0]["InsecureForTests"] = True
        client.engine.set_derp_map(json.dumps(derp).encode())
        client.wait(relay_changed(connected=True))


def test_a_relay_that_tells_its_key_in_tls_gets_the_fast_start(tmp_path: Path) -> None:
    relay = RelayServer()
    relay.close()
    relay.relay = _engine.Relay(_engine.generate_key())
    context, pem = certificate("127.0.0.1", tmp_path, relay_key=relay.relay.public_key)
    with RelayServer(tls=context) as server, Node(CLIENT, tls_ca_pem=pem) as client:
        server.relay = relay.relay
        server.fast_start = True
        client.engine.set_derp_map(derp_map(server.port, force_http=False))
        client.wait(relay_changed(connected=True))
        assert any("Derp-Fast-Start: 1" in request for request in server.requests)


def test_a_relay_that_cannot_be_reached_is_reported_with_the_reason() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with Node(CLIENT) as client:
        client.engine.set_derp_map(derp_map(port))
        assert "refused" in client.wait(relay_changed(connected=False)).error.lower()


def test_stun_tells_our_address_and_whether_the_nat_is_easy() -> None:
    with (
        RelayServer() as relay,
        StunServer(says=("203.0.113.5", 4000)) as one,
        StunServer(says=("203.0.113.5", 4001)) as two,
        Node(CLIENT) as client,
    ):
        derp = json.loads(derp_map(relay.port, stun_port=one.port))
        extra = {"Name": "1000stun0", "HostName": "127.0.0.1", "STUNPort": two.port, "STUNOnly": True}
        derp["Regions"]["1000"] = {"RegionID": 1000, "RegionCode": "s", "RegionName": "S", "Nodes": [extra]}
        client.engine.set_derp_map(json.dumps(derp).encode())
        info = client.wait(lambda event: event if isinstance(event, _engine.NetInfo) and event.udp else None)
        assert info.preferred_region == REGION
        assert info.endpoints[:2] == ["203.0.113.5:4000", "203.0.113.5:4001"]
        assert info.mapping_varies_by_destination is True
        assert info.stun_answers == {f"{REGION}a": "203.0.113.5:4000", "1000stun0": "203.0.113.5:4001"}
        assert f"{REGION}-v4" in info.region_latency_seconds
        assert (info.ipv4, info.ipv4_can_send, info.global_v4) == (True, True, "203.0.113.5:4000")


def test_a_region_without_stun_is_measured_by_http() -> None:
    with RelayServer() as relay, Node(CLIENT) as client:
        client.engine.set_derp_map(derp_map(relay.port))
        token = client.engine.netcheck()
        info = client.wait(lambda event: event if getattr(event, "token", None) == token else None)
        assert isinstance(info, _engine.NetInfo)
        assert 0 < info.region_latency_seconds[f"{REGION}-v4"] < 10
        assert not info.udp


def test_a_node_moves_to_another_region_when_its_home_dies() -> None:
    near, far = RelayServer(), RelayServer()
    with far, Node(CLIENT) as client, Node(AGENT) as agent:
        derp = json.loads(derp_map(near.port))
        derp["Regions"].update(json.loads(derp_map(far.port, region=2))["Regions"])
        derp["HomeParams"] = {"RegionScore": {"2": 1000.0}}
        for node in (client, agent):
            node.engine.set_derp_map(json.dumps(derp).encode())
            node.wait(lambda event: net_info(event) if getattr(event, "preferred_region", 0) == REGION else None)
        near.close()

        # Nobody speaks to them, and yet they move, long before they would measure again.
        for node in (client, agent):
            node.wait(lambda event: net_info(event) if getattr(event, "preferred_region", 0) == 2 else None, within=10)
        client.know(agent, home_region=2)
        agent.know(client, home_region=2)
        agent.engine.listen(PORT)
        exchange(client, agent)


def test_blocked_direct_paths_stay_relayed_and_can_be_allowed_again() -> None:
    with RelayServer() as relay, Node(CLIENT, block_direct=True) as client, Node(AGENT) as agent:
        introduce(client, agent, derp_map(relay.port))
        exchange(client, agent)
        assert client.wait(net_info).endpoints == []
        (stats,) = client.engine.peers()
        assert (stats.direct, stats.region) == (False, REGION)
        client.engine.set_block_direct(False)
        client.know(agent)
        exchange(client, agent)
        client.until_direct()
        client.engine.set_block_direct(True)
        exchange(client, agent)
        assert not client.engine.peers()[0].direct


@pytest.mark.parametrize(("client_blocks", "agent_blocks"), [(True, False), (False, True), (True, True)])
def test_whoever_forbids_direct_paths_both_relay_and_say_why(*, client_blocks: bool, agent_blocks: bool) -> None:
    with (
        RelayServer() as relay,
        Node(CLIENT, block_direct=client_blocks) as client,
        Node(AGENT, block_direct=agent_blocks) as agent,
    ):
        introduce(client, agent, derp_map(relay.port))
        exchange(client, agent)
        for node, blocks in ((client, client_blocks), (agent, agent_blocks)):
            wanted = "direct paths are blocked" if blocks else "forbids direct paths"

            def told(node: Node = node, wanted: str = wanted) -> bool:
                (stats,) = node.engine.peers()
                assert not stats.direct
                return wanted in stats.reason

            deadline = time.monotonic() + 10
            while not told():
                assert time.monotonic() < deadline, node.engine.peers()[0].reason
                exchange(client, agent)


def test_a_peer_that_restarted_is_spoken_to_again() -> None:
    with RelayServer() as relay, Node(CLIENT) as client, Node(AGENT) as agent:
        introduce(client, agent, derp_map(relay.port))
        exchange(client, agent)
        with Node(AGENT) as again:
            client.engine.remove_peer(agent.engine.public_key)
            agent.engine.close()
            introduce(client, again, derp_map(relay.port))
            exchange(client, again)


def test_connections_survive_a_rebind() -> None:
    with RelayServer() as relay, Node(CLIENT) as client, Node(AGENT) as agent:
        introduce(client, agent, derp_map(relay.port))
        near = client.dial(AGENT, PORT)
        far = agent.accept()
        with near, far:
            near.sendall(b"before")
            assert far.recv(10) == b"before"
            client.until_direct()
            client.engine.rebind()
            near.sendall(b"after")
            far.settimeout(10)
            assert far.recv(10) == b"after"


def test_a_dial_that_nobody_answers_times_out_and_a_cancelled_one_says_nothing() -> None:
    with RelayServer() as relay, Node(CLIENT) as client, Node(AGENT) as agent:
        client.engine.set_derp_map(derp_map(relay.port))
        client.know(agent)
        cancelled = client.engine.dial(AGENT, PORT, timeout_seconds=0.5)
        client.engine.cancel_dial(cancelled)
        started = time.monotonic()
        with pytest.raises(ConnectionError) as failed:
            client.dial(AGENT, PORT, within=0.3)
        assert failed.value.args[0] == "timeout"
        token = client.engine.ping(agent.engine.public_key, timeout_seconds=0.2)
        client.wait(lambda event: event if getattr(event, "token", None) == token else None)
        assert time.monotonic() - started < 8, "the deadlines were not heeded"
        assert all(getattr(event, "token", None) != cancelled for event in client.seen)


def in_namespace(*arguments: str) -> str:
    """Run Python in a network namespace with nothing but loopback; returns what it printed."""
    namespace = ["unshare", "--user", "--map-root-user", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
    if subprocess.run([*namespace, "true"], check=False, capture_output=True).returncode:
        pytest.skip("this machine does not allow network namespaces, or has no `ip`")
    filtering = {"tests.integration.engine.dead_path", "tests.integration.engine.silence", "forgotten"}
    if shutil.which("nft") is None and filtering & {*arguments}:
        pytest.skip("this machine has no `nft`")
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [*namespace, sys.executable, *arguments], check=False, capture_output=True, text=True, cwd=root
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_two_nodes_on_a_machine_with_nothing_but_loopback_go_direct() -> None:
    script = textwrap.dedent(f"""
        import sys
        sys.path.insert(0, {str(Path(__file__).parents[3])!r})
        from tests.integration.engine.test_paths import *
        from warren import _engine
        with RelayServer() as relay, Node(CLIENT) as client, Node(AGENT) as agent:
            for node in (client, agent):
                node.engine.set_derp_map(derp_map(relay.port))
            told = client.wait(lambda event: event if isinstance(event, _engine.NetInfo) else None).endpoints
            assert told[0].startswith("127.0.0.1:"), told
            agent.know(client, endpoints=told)
            client.know(agent, endpoints=[])
            agent.engine.listen(PORT)
            exchange(client, agent)
            client.until_direct()
    """)
    in_namespace("-c", script)


def test_a_direct_path_that_dies_silently_is_replaced_by_the_relay_and_comes_back() -> None:
    found = json.loads(in_namespace("-m", "tests.integration.engine.dead_path", "cut"))
    assert found["relayed"]
    assert found["silent"] < 5, found  # half a second, and what a busy machine adds
    assert found["returned"]


@pytest.mark.parametrize("when", ["early", "late"])
@pytest.mark.parametrize(("outer_mtu", "inner_mtu"), [(1280, 1220), (1200, 1140)])
def test_a_vpn_with_a_low_mtu_works_with_no_setting(outer_mtu: int, inner_mtu: int, when: str) -> None:
    found = json.loads(in_namespace("-m", "tests.integration.engine.dead_path", "narrow", str(outer_mtu), when))
    assert found["right"]
    assert found["datagrams"] == [1, 1000, 1200, 1232, 1400, 5000, 60_000]
    assert (found["direct"], found["inner_mtu"]) == (True, inner_mtu), found


def test_a_client_whose_address_changes_under_way_keeps_its_connection_and_its_direct_path() -> None:
    found = json.loads(in_namespace("-m", "tests.integration.engine.roaming", "address"))
    assert found["direct"], found
    assert "the network changed" in found["reasons"], found


def test_a_relayed_client_whose_address_changes_has_a_new_connection_at_once() -> None:
    found = json.loads(in_namespace("-m", "tests.integration.engine.roaming", "address", "relayed"))
    first, lost, *_, again = found["relay"]
    assert (first, again) == ([True, ""], [True, ""]), found
    assert "the address that the connection came from" in lost[1], found


def test_a_relayed_client_that_gets_an_address_more_keeps_its_connection() -> None:
    found = json.loads(in_namespace("-m", "tests.integration.engine.roaming", "bridge", "relayed"))
    assert found["relay"] == [[True, ""]], found


def test_a_relayed_client_whose_connection_is_dead_after_a_change_gets_another_beside_it() -> None:
    found = json.loads(in_namespace("-m", "tests.integration.engine.roaming", "forgotten", "relayed"))
    assert found["relay"] == [[True, ""], [False, found["relay"][1][1]], [True, ""]], found
    assert "another one answered" in found["relay"][1][1], found


def test_a_client_whose_interface_goes_down_and_up_keeps_its_connection() -> None:
    found = json.loads(in_namespace("-m", "tests.integration.engine.roaming", "flapping", "2"))
    assert found["direct"], found
    assert found["gap"] < 5.0, found  # beyond the time without network; what a busy machine adds


def test_nodes_that_were_stopped_for_a_while_prove_their_paths_anew_and_go_on() -> None:
    found = json.loads(in_namespace("-m", "tests.integration.engine.roaming", "stopped", "6"))
    assert found["direct"], found
    assert any("stopped" in reason for reason in found["reasons"]), found
