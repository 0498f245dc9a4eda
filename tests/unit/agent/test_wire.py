"""The agent's own protocols, fed in any split."""

from __future__ import annotations

import itertools
import json
import struct
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warren.agent import control_messages
from warren.agent.connections import ConnectionReport, ConnectionType
from warren.agent.http_server import Request, Response, Route, Router
from warren.agent.lifecycle import LifecycleChange, LifecycleState
from warren.agent.manifest import AppHealth
from warren.agent.ssh.sftp_wire import MAX_PACKET_BYTES, Decoder
from warren.agent.stats import StatsCounter
from warren.agent.terminal_wire import MessageDecoder, TerminalMessage, read_init
from warren.errors import NotFound, RemoteProtocolError
from warren.rpc._pb import agent_pb2 as pb

AT = datetime(2026, 1, 1, 12, 0, 0, 5000, tzinfo=UTC)


def _pieces(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    edges = [0, *sorted({cut % (len(data) + 1) for cut in cuts}), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]


messages = st.builds(
    TerminalMessage, data=st.text(max_size=20), height=st.integers(0, 65535), width=st.integers(0, 65535)
)


@given(st.lists(messages, max_size=5), st.lists(st.integers(0, 500), max_size=8), st.booleans())
def test_terminal_messages_in_any_split(sent: list[TerminalMessage], cuts: list[int], ascii_only: bool) -> None:
    texts = [
        json.dumps({"data": each.data, "height": each.height, "width": each.width}, ensure_ascii=ascii_only)
        for each in sent
    ]
    decoder = MessageDecoder()
    data = " ".join(texts).encode(errors="surrogatepass")
    found = [message for piece in _pieces(data, cuts) for message in decoder.feed(piece)]
    assert found == sent


@pytest.mark.parametrize("data", [b"}", b'{"data": 5}', b"{]}", b'{"data":"' + b"x" * (1024 * 1024 + 10)])
def test_malformed_terminal_messages(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        list(MessageDecoder().feed(data))


def test_the_case_of_the_terminal_request_does_not_matter() -> None:
    body = {"id": str(UUID(int=7)), "HEIGHT": 24, "Width": 80, "command": "ls", "backendType": "buffered", "new": 1}
    init = read_init(json.dumps(body).encode())
    assert (init.terminal_id, init.height, init.width, init.command) == (UUID(int=7), 24, 80, "ls")
    assert init.backend_type == "buffered"
    for bad in (b"{", b"{}", b'{"ID":"x"}', b"[]"):
        with pytest.raises(RemoteProtocolError):
            read_init(bad)


@given(st.lists(st.binary(min_size=1, max_size=50), max_size=6), st.lists(st.integers(0, 400), max_size=8))
def test_sftp_packets_in_any_split(packets: list[bytes], cuts: list[int]) -> None:
    data = b"".join(struct.pack(">I", len(packet)) + packet for packet in packets)
    decoder = Decoder()
    found: list[bytes] = []
    for piece in _pieces(data, cuts):
        decoder.feed([piece])
        found += [bytes(packet) for packet in decoder.packets()]
    assert found == packets


def test_an_abandoned_batch_of_sftp_packets_goes_on() -> None:
    decoder = Decoder()
    decoder.feed([b"\0\0\0\1a\0\0\0\1b\0\0\0\1c"])
    packets = decoder.packets()
    assert bytes(next(packets)) == b"a"
    packets.close()
    assert [bytes(packet) for packet in decoder.packets()] == [b"b", b"c"]


@pytest.mark.parametrize("size", [0, MAX_PACKET_BYTES + 1])
def test_impossible_sftp_packets(size: int) -> None:
    decoder = Decoder()
    decoder.feed([struct.pack(">I", size)])
    with pytest.raises(RemoteProtocolError):
        list(decoder.packets())


def _manifest() -> pb.Manifest:
    message = pb.Manifest(agent_id=UUID(int=1).bytes, workspace_id=UUID(int=2).bytes, owner_username="alice")
    script = message.scripts.add(
        id=UUID(int=3).bytes, log_source_id=UUID(int=4).bytes, script="true", run_on_start=True
    )
    script.timeout.FromTimedelta(timedelta(seconds=30))
    description = message.metadata.add(key="cpu", script="uptime")
    description.interval.FromNanoseconds(10)
    app = message.apps.add(id=UUID(int=5).bytes, slug="web", health=pb.WorkspaceApp.INITIALIZING)
    app.healthcheck.url = "http://localhost:1"
    app.healthcheck.interval.FromTimedelta(timedelta(seconds=5))
    app.healthcheck.threshold = 3
    message.secrets.add(env_name="TOKEN", value=b"x")
    return message


def test_a_manifest() -> None:
    manifest = control_messages.manifest_from_message(_manifest())
    assert manifest.agent_id == UUID(int=1)
    assert manifest.scripts[0].timeout == timedelta(seconds=30)
    assert manifest.metadata[0].interval == timedelta(seconds=10), "these seconds travel as nanoseconds"
    assert manifest.apps[0].health is AppHealth.INITIALIZING
    assert manifest.apps[0].checked
    assert manifest.secrets[0].variable == "TOKEN"
    assert manifest.parent_id is None


def test_a_manifest_that_cannot_be_used() -> None:
    nobody, unhealthy = _manifest(), _manifest()
    nobody.agent_id = UUID(int=0).bytes
    unhealthy.apps[0].health = pb.WorkspaceApp.HEALTH_UNSPECIFIED
    for message in (nobody, unhealthy, pb.Manifest(agent_id=b"short")):
        with pytest.raises(RemoteProtocolError):
            control_messages.manifest_from_message(message)


def test_reports() -> None:
    change = control_messages.lifecycle_to_message(LifecycleChange(LifecycleState.START_TIMEOUT, AT))
    assert change.lifecycle.state == pb.Lifecycle.START_TIMEOUT
    assert change.lifecycle.changed_at.ToDatetime(UTC) == AT
    report = ConnectionReport(UUID(int=9), ConnectionType.VSCODE, AT, "1.2.3.4", True, 7, "done")
    connection = control_messages.connection_to_message(report).connection
    assert (connection.action, connection.type) == (pb.Connection.DISCONNECT, pb.Connection.VSCODE)
    assert (connection.status_code, connection.reason) == (7, "done")


class _Counters:
    def __init__(self, total: int) -> None:
        self.rx_bytes = self.tx_bytes = self.rx_packets = self.tx_packets = total
        self.flows_by_protocol = {"tcp": 2, "udp": 1}


def test_statistics_are_what_was_added() -> None:
    counter = StatsCounter()
    sessions = dict.fromkeys(ConnectionType, 0)
    assert counter.report(_Counters(100), [], sessions).rx_bytes == 100
    report = counter.report(_Counters(150), [0.001, 0.003], sessions)
    assert (report.rx_bytes, report.tx_packets, report.connections) == (50, 50, 3)
    assert report.median_latency_ms == pytest.approx(2.0)
    message = control_messages.stats_to_message(counter.report(_Counters(150), [], sessions))
    assert message.stats.connection_median_latency_ms == -0.001


@pytest.mark.anyio
async def test_routes() -> None:
    async def show(request: Request) -> Response:
        return Response.json(dict(request.arguments))

    async def fail(request: Request) -> Response:
        raise NotFound("no such thing")

    async def broken(request: Request) -> Response:
        raise RuntimeError

    router = Router([Route("GET", "/a/{x}", show), Route("*", "/f", fail), Route("GET", "/b", broken)])

    async def status(method: str, path: str) -> int:
        return (await router.answer(Request(method, path, {}, b""))).status

    assert (await router.answer(Request("GET", "/a/1.b/", {}, b""))).body == b'{"x":"1.b"}\n'
    assert await status("POST", "/a/1") == 405
    assert await status("GET", "/a/1/2") == 404
    assert await status("PUT", "/f") == 404
    assert await status("GET", "/b") == 500
