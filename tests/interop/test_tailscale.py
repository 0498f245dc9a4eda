"""Our engine and Tailscale's own node, face to face: relayed and direct, pings both ways, TCP both ways.

The relay between them is ours: the engine's alone, and that of a running server.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import msgspec
import pytest
from benchmarks.lab import lab

from tests.integration.engine.harness import REGION, Node, RelayServer, derp_map
from tests.integration.engine.test_paths import certificate
from tests.integration.relay.test_server import make_certificate
from tests.interop.peers import built
from tests.ports import free_port
from warren import _engine

pytestmark = pytest.mark.slow

OURS = "fd7a:115c:a1e0::77"


class About(msgspec.Struct, frozen=True):
    """What their node says of itself first."""

    key: str
    disco: str
    addresses: list[str]
    endpoints: list[str]
    region: int


@dataclass
class Tailscale:
    """A running node of Tailscale's, and what it says."""

    process: subprocess.Popen[str]
    output: IO[str]
    input: IO[str]

    def line(self) -> str:
        line = self.output.readline()
        assert line, "the node ended"
        return line

    def ask(self, **fields: object) -> dict[str, object]:
        self.input.write(json.dumps(fields) + "\n")
        self.input.flush()
        return json.loads(self.line())


@dataclass
class Both:
    """Our node and theirs, introduced."""

    ours: Node
    theirs: Tailscale
    address: str
    key: bytes


@contextmanager
def relay(kind: str, folder: Path) -> Generator[int]:
    """Run a relay of ours over TLS: that of a whole server, or only the engine's."""
    context, _ = certificate("127.0.0.1", folder)
    if kind != "server":
        with RelayServer(tls=context) as server:
            yield server.port
        return
    chain, key = make_certificate(folder)
    port = free_port(socket.SOCK_STREAM)
    with lab() as place:
        place.start(
            *("--tls-enable", "--tls-address", f"127.0.0.1:{port}"),
            *("--tls-cert-file", str(chain), "--tls-key-file", str(key)),
        )
        yield port


@pytest.fixture(params=["direct", "relayed", "server"])
def both(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Both]:
    program = built("tailnode")
    relayed = request.param != "direct"
    (tmp_path / "state").mkdir()
    with relay(request.param, tmp_path) as relay_port, Node(OURS, block_direct=relayed) as ours:
        derp = json.loads(derp_map(relay_port, force_http=False))
        derp["Regions"][str(REGION)]["Nodes"][0]["InsecureForTests"] = True
        ours.engine.set_derp_map(json.dumps(derp).encode())
        ours.engine.listen(7)
        process = subprocess.Popen(
            [program, "-dir", tmp_path / "state", "-relay", str(relay_port)],
            # Or it uploads its logs, and asks Tailscale's relays where to.
            env={**os.environ, "TS_NO_LOGS_NO_SUPPORT": "true"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        watchdog = threading.Timer(19, process.kill)
        watchdog.start()
        assert process.stdin is not None
        assert process.stdout is not None
        theirs = Tailscale(process, process.stdout, process.stdin)
        try:
            about = msgspec.json.decode(theirs.line(), type=About)
            key = bytes.fromhex(about.key)
            (address,) = (text for text in about.addresses if ":" in text)
            ours.engine.set_peer(
                key,
                disco_key=bytes.fromhex(about.disco),
                allowed_ips=[address],
                home_region=REGION,
                endpoints=about.endpoints,
                keepalive=False,
            )
            port = ours.engine.local_port
            ready = theirs.ask(
                key=ours.engine.public_key.hex(),
                disco=ours.engine.disco_public_key.hex(),
                address=OURS,
                endpoints=[] if relayed else [f"127.0.0.1:{port}"],
                region=REGION,
            )
            assert ready == {"ready": True}
            yield Both(ours, theirs, address, key)
        finally:
            watchdog.cancel()
            process.kill()
            process.wait()
            theirs.input.close()
            theirs.output.close()


def test_a_tailscale_node_and_ours_speak_every_protocol(both: Both) -> None:
    # TCP from us to them: their echo gives back what we send, to the end of the stream. No more is sent than both
    # windows hold: with both directions full, Linux's TCP and theirs can wait for each other for ever
    # (docs/protocols/network.md, "What peers do").
    with both.ours.dial(both.address, 7, within=15) as near:
        near.settimeout(15)
        for _ in range(32):
            payload = os.urandom(128 << 10)
            near.sendall(payload)
            received = bytearray()
            while len(received) < len(payload):
                data = near.recv(1 << 18)
                assert data, "the stream ended early"
                received += data
            assert bytes(received) == payload
        near.shutdown(socket.SHUT_WR)
        assert near.recv(1) == b""

    # TCP from them to us.
    answers: list[str] = []

    def answer() -> None:
        with both.ours.accept(within=15) as far:
            answers.append(far.recv(100).decode())
            far.sendall(b"answer\n")

    accepting = threading.Thread(target=answer)
    accepting.start()
    assert both.theirs.ask(dial=7)["answer"] == "answer\n"
    accepting.join()
    assert answers == ["question\n"]

    # Pings: ours to them, and theirs to us, by disco and through the tunnel.
    for kind in ("disco", "tunnel"):
        token = both.ours.engine.ping(both.key, kind=kind)
        pong = both.ours.wait(lambda event, token=token: event if getattr(event, "token", 0) == token else None)
        assert isinstance(pong, _engine.Pong), pong
    for kind in ("disco", "TSMP"):
        assert "seconds" in both.theirs.ask(ping=kind)

    (stats,) = both.ours.engine.peers()
    relayed = both.ours.engine.peers()[0].region == REGION
    assert stats.direct is not relayed
    pinged = both.theirs.ask(ping="disco")
    assert bool(pinged["endpoint"]) is not relayed, pinged


@pytest.mark.parametrize("both", ["direct", "relayed"], indirect=True)
def test_a_tailscale_node_may_begin_the_handshake(both: Both) -> None:
    assert both.ours.engine.peers()[0].last_handshake_age_seconds is None
    assert "seconds" in both.theirs.ask(ping="TSMP")
    assert both.ours.engine.peers()[0].last_handshake_age_seconds is not None
    # What we send now goes under the keys that they asked for.
    token = both.ours.engine.ping(both.key, kind="tunnel")
    pong = both.ours.wait(lambda event: event if getattr(event, "token", 0) == token else None)
    assert isinstance(pong, _engine.Pong), pong
