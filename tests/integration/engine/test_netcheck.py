"""What a node finds out about its network, and the sentences in which it says so."""

import json
import socket
from pathlib import Path

import pytest

from tests.integration.engine.harness import REGION, Node, RelayServer, StunServer, derp_map
from tests.integration.engine.relaying import CLIENT, connected_to, home_is, regions_map
from tests.integration.engine.test_getting_through import middlebox
from tests.integration.engine.test_paths import in_namespace
from warren import _engine


def netcheck(node: Node) -> _engine.NetInfo:
    """Measure now and return the report."""
    token = node.engine.netcheck()

    def mine(event: _engine.Event) -> _engine.NetInfo | None:
        return event if isinstance(event, _engine.NetInfo) and event.token == token else None

    return node.wait(mine)


def with_stun(relay_port: int, *places: tuple[str, int]) -> bytes:
    """Write a map of one relay and of several STUN servers."""
    derp = json.loads(derp_map(relay_port))
    for number, (host, port) in enumerate(places, start=1000):
        node = {"Name": f"{number}stun0", "HostName": host, "STUNPort": port, "STUNOnly": True}
        derp["Regions"][str(number)] = {"RegionID": number, "RegionCode": "s", "RegionName": "S", "Nodes": [node]}
    return json.dumps(derp).encode()


def closed_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def test_every_server_is_reported_with_what_it_said() -> None:
    with (
        RelayServer() as relay,
        StunServer(says=("203.0.113.5", 4000)) as one,
        StunServer(says=("203.0.113.5", 4000), host="127.0.0.2") as two,
        Node(CLIENT) as client,
    ):
        places = [
            ("127.0.0.1", one.port),
            ("127.0.0.2", two.port),
            ("127.0.0.1", closed_port()),
            ("nowhere.invalid", 1),
        ]
        client.engine.set_derp_map(with_stun(relay.port, *places))
        info = netcheck(client)
        servers = {server.name: server for server in info.stun_servers}
        assert servers["1000stun0"].mapped == "203.0.113.5:4000"
        assert servers["1001stun0"].address == f"127.0.0.2:{two.port}"
        latency = servers["1001stun0"].latency_seconds
        assert latency is not None
        assert 0 <= latency < 10
        assert (servers["1002stun0"].mapped, servers["1002stun0"].error) == ("", "no answer")
        assert "nowhere.invalid cannot be resolved" in servers["1003stun0"].error
        assert info.mapping_varies_by_destination is False
        assert info.captive_portal is False
        assert len(info.warnings) == 2, info.warnings  # the two servers that said nothing
        assert all("STUN server" in warning for warning in info.warnings)


def test_no_stun_server_is_said() -> None:
    with RelayServer() as relay, Node(CLIENT) as client:
        client.engine.set_derp_map(derp_map(relay.port))
        (warning,) = netcheck(client).warnings
        assert "names no STUN server" in warning


def test_blocked_udp_is_told_from_a_relay_that_works() -> None:
    with RelayServer() as relay, Node(CLIENT) as client:
        client.engine.set_derp_map(with_stun(relay.port, ("127.0.0.1", closed_port()), ("127.0.0.1", closed_port())))
        info = netcheck(client)
        assert not info.udp
        assert f"{REGION}-v4" in info.region_latency_seconds
        assert any("nothing came back from the 2 STUN servers" in warning for warning in info.warnings)


def test_a_packet_to_our_own_public_address_that_comes_back_is_noticed() -> None:
    with RelayServer() as relay, StunServer() as stun, Node(CLIENT) as client:
        client.engine.set_derp_map(with_stun(relay.port, ("127.0.0.1", stun.port)))
        assert netcheck(client).hairpinning is True
    with RelayServer() as relay, StunServer(says=("127.0.0.1", closed_port())) as stun, Node(CLIENT) as client:
        client.engine.set_derp_map(with_stun(relay.port, ("127.0.0.1", stun.port)))
        assert netcheck(client).hairpinning is False


def test_the_first_answer_is_told_before_the_last_server_was_given_up() -> None:
    with RelayServer() as relay, StunServer(says=("203.0.113.5", 4000)) as stun, Node(CLIENT) as client:
        client.engine.set_derp_map(with_stun(relay.port, ("127.0.0.1", stun.port), *[("127.0.0.1", closed_port())] * 1))

        def early(event: _engine.Event) -> _engine.NetInfo | None:
            known = isinstance(event, _engine.NetInfo) and "203.0.113.5:4000" in event.endpoints
            return event if isinstance(event, _engine.NetInfo) and known else None

        assert client.wait(early).stun_servers == []  # the report itself is not there yet


def test_a_home_is_chosen_without_waiting_for_a_region_that_is_silent() -> None:
    with RelayServer() as relay, socket.create_server(("127.0.0.1", 0)) as silent, Node(CLIENT) as client:
        client.engine.set_derp_map(regions_map({1: silent.getsockname()[1], 2: relay.port}))
        info = client.wait(home_is(2))
        assert info.region_latency_seconds == {}, "the report was waited for"


def test_a_captive_portal_is_recognised() -> None:
    portal = b"HTTP/1.1 302 Found\r\nLocation: http://portal.example/\r\n\r\n"
    with socket.create_server(("127.0.0.1", 0)) as nowhere, Node(CLIENT) as client:
        client.engine.set_derp_map(derp_map(nowhere.getsockname()[1]))
        assert netcheck(client).captive_portal is None
    with RelayServer() as relay, middlebox(relay.port, portal) as box, Node(CLIENT) as client:
        box.everything = True
        client.engine.set_derp_map(derp_map(box.port))
        client.wait(connected_to(REGION, connected=False))
        info = netcheck(client)
        assert info.captive_portal is True
        assert any("sign in to this network" in warning for warning in info.warnings)
        assert "302" in info.region_errors[REGION]


def test_a_relay_that_cannot_be_used_is_named_with_the_reason() -> None:
    with RelayServer() as relay, Node(CLIENT) as client:
        client.engine.set_derp_map(regions_map({1: relay.port, 2: 1}))
        client.wait(home_is(1))
        info = netcheck(client)
        assert "refused" in info.region_errors[2].lower()
        assert info.standby_region in (0, 2)


def test_a_fixed_port_that_is_taken_is_said() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken, RelayServer() as relay:
        taken.bind(("0.0.0.0", 0))
        port = int(taken.getsockname()[1])
        with Node(CLIENT, listen_port=port) as client:
            assert client.engine.local_port != port
            client.engine.set_derp_map(derp_map(relay.port))
            assert any(f"UDP port {port} was taken" in warning for warning in netcheck(client).warnings)


@pytest.mark.parametrize(("family", "told"), [(4, "127.0.0.1:"), (6, "[::1]:")])
def test_machines_with_one_address_family_only(family: int, told: str) -> None:
    """No IPv6 at all, or nothing but IPv6: the report does not wait for the family that is missing."""
    root = str(Path(__file__).parents[3])
    prepare = "echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6" if family == 4 else "ip addr del 127.0.0.1/8 dev lo"
    script = f"""
import subprocess, sys, time
sys.path.insert(0, {root!r})
subprocess.run(["sh", "-c", {prepare!r}], check=True)
from tests.integration.engine.test_netcheck import *
with Node(CLIENT) as client:
    derp = json.loads(derp_map(1))
    for number, host in ((1000, "127.0.0.1"), (1001, "::1")):
        node = {{"Name": f"{{number}}", "HostName": host, "STUNPort": 9, "STUNOnly": True}}
        derp["Regions"][str(number)] = {{"RegionID": number, "Nodes": [node]}}
    client.engine.set_derp_map(json.dumps(derp).encode())
    info = netcheck(client)
    errors = {{server.name: server.error for server in info.stun_servers}}
    print(json.dumps([info.endpoints, errors]))
"""
    endpoints, errors = json.loads(in_namespace("-c", script))
    assert [endpoint.startswith(told) for endpoint in endpoints] == [True]
    missing = "1001" if family == 4 else "1000"
    assert errors[missing] in ("this machine has no IPv6", "no packet can be sent there from here"), errors
