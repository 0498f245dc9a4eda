"""DERP and STUN against Tailscale's own: its prober at our relay, our clients and engine at its relay."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from tests.integration.engine.harness import Node, derp_map
from tests.integration.relay.client import DERPClient
from tests.integration.relay.test_server import HTTPClient, UpgradedClient, make_certificate, serve
from tests.integration.relay.test_tls import serve as serve_tls
from tests.interop.peers import Derper, built, run_derper
from warren._engine import Relay, generate_key
from warren.net import derp, stun
from warren.relay.stun import StunServer
from warren.server.certificates import TLSSettings

pytestmark = pytest.mark.slow


@pytest.fixture
def derper(tmp_path: Path) -> Generator[Derper]:
    with run_derper(tmp_path) as running:
        yield running


@asynccontextmanager
async def under_tls(relay: Relay, folder: Path, by: str) -> AsyncGenerator[int]:
    """Serve our relay under TLS that the engine ends, or OpenSSL in Python."""
    certificate, key = make_certificate(folder)
    if by == "OpenSSL":
        async with serve(relay, ssl_certfile=certificate, ssl_keyfile=key) as port:
            yield port
    else:
        async with serve_tls(relay, TLSSettings([certificate], [key])) as (port, _):
            yield port


@pytest.mark.anyio
@pytest.mark.parametrize("by", ["the engine", "OpenSSL"])
async def test_tailscales_prober_finds_our_relay_good(tmp_path: Path, by: str) -> None:
    prober = built("derpprobe")
    relay = Relay(generate_key())
    async with (
        under_tls(relay, tmp_path, by) as port,
        StunServer.open(port=0) as stun_server,
    ):
        node = {"RegionID": 999, "HostName": "localhost", "IPv4": "127.0.0.1", "IPv6": "::1", "InsecureForTests": True}
        nodes = [{**node, "Name": name, "DERPPort": port, "STUNPort": stun_server.port} for name in ("a", "b")]
        region = {"RegionID": 999, "RegionCode": "own", "RegionName": "Own", "Nodes": nodes}
        (tmp_path / "map.json").write_text(json.dumps({"Regions": {"999": region}}))
        command = [
            str(prober),
            *("-derp-map", f"file://{tmp_path}/map.json", "-once", "-spread=false"),
            *("-tls-interval", "0", "-bw-interval", "1s", "-bw-probe-size-bytes", "4000000"),
        ]
        with anyio.fail_after(60):
            probe = await anyio.run_process(command, check=False, stderr=subprocess.STDOUT)
    stats = relay.stats()
    relay.close()

    report = probe.stdout.decode()
    assert probe.returncode == 0, report
    assert "bad:" not in report
    # Each node to each: packets one by one, and many at once; STUN over both families for both nodes.
    for kind, count in (("/mesh:", 4), ("/bw:", 4), ("/udp:", 2), ("/udp6:", 2)):
        assert sum("good:" in line and kind in line for line in report.splitlines()) == count, report
    assert stats.packets_dropped == 0
    assert stats.clients == 0


def upgrade(derper: Derper) -> UpgradedClient:
    http = HTTPClient(derper.port)
    http.ask("Upgrade: DERP", "Connection: Upgrade")
    assert http.answer()[0] == "101 Switching Protocols"
    return UpgradedClient(http).login()


def test_our_frames_are_understood_by_tailscales_relay(derper: Derper) -> None:
    left, right = upgrade(derper), upgrade(derper)
    disco = bytes.fromhex("5453f09f92ac") + bytes(56)
    with left, right:
        assert left.server_info["version"] == derp.PROTOCOL_VERSION
        left.send(derp.NotePreferred(home=True), derp.Ping(b"12345678"))
        assert left.receive() == derp.Pong(b"12345678")
        left.send(derp.SendPacket(right.key, bytes(derp.MAX_PACKET_LENGTH)))
        assert right.receive() == derp.RecvPacket(left.key, bytes(derp.MAX_PACKET_LENGTH))
        left.send(derp.SendPacket(bytes(32), disco))
        assert left.receive() == derp.PeerGone(bytes(32), derp.GoneReason.NOT_HERE)
        left.sock.close()
        assert right.receive() == derp.PeerGone(left.key, derp.GoneReason.DISCONNECTED)


def test_our_relay_and_tailscales_close_for_the_same_reasons(derper: Derper) -> None:
    relay = Relay(generate_key())
    faults = [
        derp.encode(derp.WatchConns()),
        derp.encode(derp.ClosePeer(bytes(32))),
        bytes([4, 0, 0, 0, 31]) + bytes(31),
        bytes([7, 0, 0, 0, 2, 1, 1]),
        bytes([4, 0, 1, 0, 33]) + bytes(65569),
    ]

    def ours() -> DERPClient:
        near, far = socket.socketpair()
        relay.add(far.detach())
        return DERPClient(near).login()

    for fault in faults:
        for connect in (ours, lambda: upgrade(derper)):
            with connect() as client:
                client.write(fault)
                assert client.receive() is None, fault[:5].hex()
    relay.close()


def test_our_stun_request_is_answered_by_tailscales_server(derper: Derper) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(20)
        sock.connect(("127.0.0.1", derper.stun_port))
        sock.send(stun.request(b"transaction1"))
        answer = stun.parse_answer(sock.recv(1500))

        assert (answer.host, answer.port) == sock.getsockname()


@pytest.mark.parametrize("block_direct", [True, False], ids=["relayed", "direct"])
def test_our_engines_meet_through_tailscales_relay(derper: Derper, block_direct: bool) -> None:
    with (
        Node("fd7a:115c:a1e0::c", block_direct=block_direct) as client,
        Node("fd7a:115c:a1e0::a", block_direct=block_direct) as agent,
    ):
        for node, peer in ((client, agent), (agent, client)):
            node.engine.set_derp_map(derp_map(derper.port, stun_port=derper.stun_port))
            # They know no endpoint of each other: only the relay can introduce them.
            node.know(peer, endpoints=[])
        agent.engine.listen(7)
        near = client.dial(agent.address, 7)
        far = agent.accept()
        with near, far:
            near.settimeout(10)
            far.settimeout(10)
            if not block_direct:
                client.until_direct()
            near.sendall(b"word")
            assert far.recv(10) == b"word"
            far.sendall(b"reply")
            assert near.recv(10) == b"reply"
            (stats,) = client.engine.peers()
        assert stats.direct is not block_direct
