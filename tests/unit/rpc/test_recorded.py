"""Sessions that were recorded from another implementation, decoded in any split of their bytes."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import pytest
from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st

from warren.rpc import methods, yamux
from warren.rpc.frames import Decoder, Kind, Packet

RECORDED = Path(__file__).parents[2] / "vectors/recorded"
SESSIONS = ("agent-rpc", "coordinate-ssh", "coordinate-ping")
METHODS = {
    method.path: method
    for group in (methods.AgentAPI, methods.TailnetAPI)
    for name, method in vars(group).items()
    if not name.startswith("_")
}


def bytes_from(session: str, side: str) -> bytes:
    lines = [json.loads(line) for line in (RECORDED / f"{session}.jsonl").read_text().splitlines()]
    return b"".join(bytes.fromhex(line["data"]) for line in lines if line["from"] == side and line["kind"] == "binary")


def packets_from(session: str, side: str, cuts: list[int]) -> dict[int, list[Packet]]:
    """Decode one side's bytes, as its peer would that lets every stream be open."""
    rest = bytes_from(session, side)
    receiver = yamux.Session(client=side == "server")
    if side == "server":
        for _ in range(200):
            receiver.open()  # the streams that the server answers on were opened by its peer
    decoders: dict[int, Decoder] = defaultdict(Decoder)
    packets: dict[int, list[Packet]] = defaultdict(list)
    for cut in [*cuts, len(rest)]:
        part, rest = rest[:cut], rest[cut:]
        for event in receiver.receive_data(part):
            if isinstance(event, yamux.DataReceived):
                packets[event.stream_id] += decoders[event.stream_id].feed(event.data)
                receiver.consumed(event.stream_id, len(event.data))
    return dict(packets)


def messages_of(session: str) -> dict[str, list[Message]]:
    """All messages by method path, requests and responses."""
    found: dict[str, list[Message]] = defaultdict(list)
    requests, responses = packets_from(session, "client", []), packets_from(session, "server", [])
    for stream_id, sent in requests.items():
        assert sent[0].kind == Kind.INVOKE
        method = METHODS[sent[0].data.decode()]
        for kind, packets in ((method.request, sent), (method.response, responses.get(stream_id, []))):
            for packet in packets:
                if packet.kind == Kind.MESSAGE:
                    message = kind()
                    message.ParseFromString(packet.data)
                    found[method.path].append(message)
    return dict(found)


@pytest.mark.parametrize("session", SESSIONS)
@pytest.mark.parametrize("side", ["client", "server"])
def test_a_recorded_session_decodes_into_packets(session: str, side: str) -> None:
    packets = packets_from(session, side, [])

    assert packets
    assert all(packet.kind in set(Kind) for found in packets.values() for packet in found)


@pytest.mark.parametrize("session", SESSIONS)
@pytest.mark.parametrize("side", ["client", "server"])
@settings(max_examples=15, deadline=None)
@given(cuts=st.lists(st.integers(1, 200), max_size=60))
def test_the_split_of_a_recorded_session_does_not_matter(session: str, side: str, cuts: list[int]) -> None:
    assert packets_from(session, side, cuts) == packets_from(session, side, [])


def test_the_recorded_agent_session_has_a_manifest_that_we_know_all_of() -> None:
    found = messages_of("agent-rpc")

    manifest = found["/coder.agent.v2.Agent/GetManifest"][1]
    assert type(manifest).__name__ == "Manifest"
    assert getattr(manifest, "agent_name", "")
    assert "/coder.agent.v2.Agent/UpdateStartup" in found


@pytest.mark.parametrize("session", SESSIONS)
def test_recorded_messages_have_no_field_that_we_do_not_know(session: str) -> None:
    for path, messages in messages_of(session).items():
        for message in messages:
            before = message.ByteSize()
            message.DiscardUnknownFields()
            assert message.ByteSize() == before, path
