from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warren.errors import LocalProtocolError, RemoteProtocolError
from warren.rpc.yamux import (
    ACCEPT_BACKLOG,
    WINDOW_BYTES,
    DataReceived,
    Event,
    GoneAway,
    PongReceived,
    Session,
    StreamEnded,
    StreamOffered,
    StreamReset,
    WindowOpened,
)

SYN = bytes.fromhex("000100010000000100000000")
ACK = bytes.fromhex("000100020000000100000000")
FIN = bytes.fromhex("000100040000000100000000")
RST = bytes.fromhex("000100080000000100000000")
PING = bytes.fromhex("000200010000000000000007")
PONG = bytes.fromhex("000200020000000000000007")


def data(stream_id: int, payload: bytes) -> bytes:
    return b"\0\0\0\0" + stream_id.to_bytes(4, "big") + len(payload).to_bytes(4, "big") + payload


def server_with_stream() -> Session:
    server = Session(client=False)
    server.receive_data(SYN)
    server.accept(1)
    server.data_to_send()
    return server


def test_a_stream_is_opened_used_and_ended() -> None:
    client, server = Session(client=True), Session(client=False)

    assert client.open() == 1
    assert client.send(1, b"hello") == 5
    client.finish(1)
    sent = client.data_to_send()
    assert sent == SYN + data(1, b"hello") + FIN

    assert server.receive_data(sent) == [StreamOffered(1), DataReceived(1, b"hello"), StreamEnded(1)]
    server.accept(1)
    server.finish(1)
    assert server.data_to_send() == ACK + FIN
    assert not server.is_open(1)

    assert client.receive_data(ACK + FIN) == [StreamEnded(1)]
    assert not client.is_open(1)


def test_a_ping_is_answered_with_its_value() -> None:
    server = Session(client=False)

    assert server.receive_data(PING) == []
    assert server.data_to_send() == PONG
    assert server.receive_data(PONG) == [PongReceived(7)]


def test_sending_stops_at_the_window_and_goes_on_when_it_opens() -> None:
    client = Session(client=True)
    client.open()

    assert client.send(1, bytes(WINDOW_BYTES + 10)) == WINDOW_BYTES
    assert client.send(1, b"x") == 0
    assert client.receive_data(bytes.fromhex("00010000000000010000000a")) == [WindowOpened(1)]
    assert client.send(1, bytes(100)) == 10


def test_the_window_is_refilled_when_half_of_it_was_read() -> None:
    server = server_with_stream()
    server.receive_data(data(1, bytes(WINDOW_BYTES)))

    server.consumed(1, WINDOW_BYTES // 2 - 1)
    assert server.data_to_send() == b""
    server.consumed(1, 1)
    assert server.data_to_send() == bytes.fromhex("000100000000000100020000")


@pytest.mark.parametrize(
    ("prelude", "frame"),
    [
        pytest.param(b"", SYN + SYN, id="opened-twice"),
        pytest.param(SYN, FIN + FIN, id="ended-twice"),
        pytest.param(b"", bytes.fromhex("000100010000000200000000"), id="an-id-of-ours"),
        pytest.param(b"", bytes.fromhex("000100010000000000000000"), id="stream-zero"),
        pytest.param(SYN, bytes.fromhex("000000000000000100040001"), id="more-than-the-window"),
    ],
)
def test_a_violation_is_answered_with_a_protocol_error(prelude: bytes, frame: bytes) -> None:
    server = Session(client=False)
    server.receive_data(prelude)
    server.data_to_send()

    with pytest.raises(RemoteProtocolError):
        server.receive_data(frame)

    assert server.data_to_send().endswith(bytes.fromhex("000300000000000000000001"))


@pytest.mark.parametrize("header", [b"\x01" + SYN[1:], b"\x00\x04" + SYN[2:]], ids=["version-1", "type-4"])
def test_a_malformed_header_ends_the_session(header: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="malformed"):
        Session(client=False).receive_data(header)


def test_frames_of_an_unknown_stream_are_dropped() -> None:
    assert Session(client=False).receive_data(data(9, b"late") + FIN + PONG) == [PongReceived(7)]


def test_a_stream_beyond_the_backlog_is_reset() -> None:
    server = Session(client=False)
    for number in range(ACCEPT_BACKLOG):
        syn = b"\0\1\0\1" + (2 * number + 1).to_bytes(4, "big") + bytes(4)
        assert server.receive_data(syn) == [StreamOffered(2 * number + 1)]
    one_more = 2 * ACCEPT_BACKLOG + 1

    assert server.receive_data(b"\0\1\0\1" + one_more.to_bytes(4, "big") + bytes(4)) == []
    assert server.data_to_send() == b"\0\1\0\x08" + one_more.to_bytes(4, "big") + bytes(4)


def test_a_reset_ends_both_directions() -> None:
    server = server_with_stream()

    assert server.receive_data(RST) == [StreamReset(1)]
    with pytest.raises(LocalProtocolError):
        server.send(1, b"x")


def test_nothing_is_opened_after_the_peer_went_away() -> None:
    client = Session(client=True)

    assert client.receive_data(bytes.fromhex("000300000000000000000000")) == [GoneAway(0)]
    with pytest.raises(LocalProtocolError):
        client.open()


@given(st.lists(st.integers(1, 40), max_size=60))
def test_any_split_of_the_bytes_gives_the_same_events(cuts: list[int]) -> None:
    stream = SYN + data(1, b"first") + PING + data(1, b"") + data(1, bytes(range(64))) + FIN
    whole = Session(client=False).receive_data(stream)

    server, rest = Session(client=False), stream
    events: list[Event] = []
    for cut in [*cuts, len(stream)]:
        part, rest = rest[:cut], rest[cut:]
        events += server.receive_data(part)

    assert events == whole


@given(st.binary(max_size=200))
def test_garbage_is_refused_or_ignored(garbage: bytes) -> None:
    try:
        server_with_stream().receive_data(garbage)
    except RemoteProtocolError:
        return
