from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warren.errors import RemoteProtocolError
from warren.rpc.frames import MAX_PACKET_BYTES, SPLIT_BYTES, Decoder, Kind, Packet, decode_error, encode, encode_error

GET_MANIFEST = b"/coder.agent.v2.Agent/GetManifest"


def decode(data: bytes) -> list[Packet]:
    return list(Decoder().feed(data))


def test_a_unary_call_has_these_bytes() -> None:
    packets = [Packet(Kind.INVOKE, 1, 1, GET_MANIFEST), Packet(Kind.MESSAGE, 1, 2), Packet(Kind.CLOSE_SEND, 1, 3)]
    data = b"".join(encode(packet) for packet in packets)

    assert data == bytes.fromhex("03010121") + GET_MANIFEST + bytes.fromhex("05010200 0d010300")
    assert decode(data) == packets


def test_an_error_carries_code_and_text() -> None:
    data = encode(Packet(Kind.ERROR, 1, 1, encode_error("Unimplemented", 12)))

    assert data == bytes.fromhex("07010115 000000000000000c") + b"Unimplemented"
    assert decode_error(decode(data)[0].data) == ("Unimplemented", 12)


def test_a_short_error_body_is_tolerated() -> None:
    assert decode_error(b"abc") == ("", 0)


def test_a_long_packet_is_split_and_joined() -> None:
    packet = Packet(Kind.MESSAGE, 1, 1, bytes(SPLIT_BYTES) + b"end")
    data = encode(packet)

    assert data[:1] == b"\x04"
    assert decode(data) == [packet]


def test_an_unfinished_packet_is_dropped_for_a_newer_one() -> None:
    unfinished = bytes.fromhex("04 01 01 02") + b"ab"

    assert decode(unfinished + encode(Packet(Kind.MESSAGE, 1, 2, b"new"))) == [Packet(Kind.MESSAGE, 1, 2, b"new")]


@pytest.mark.parametrize(
    "data",
    [
        pytest.param("05010200 05010100", id="ids-go-back"),
        pytest.param("05010100 05010100", id="ids-repeat"),
        pytest.param("05000100", id="stream-zero"),
        pytest.param("05010000", id="message-zero"),
        pytest.param("04010101aa 07010101bb", id="kind-changes"),
        pytest.param("05 ffffffffffffffffffff 01 00", id="endless-varint"),
        pytest.param("05 01 01 81808002", id="frame-too-long"),
    ],
)
def test_a_violation_is_refused(data: str) -> None:
    with pytest.raises(RemoteProtocolError):
        decode(bytes.fromhex(data))


def test_a_packet_over_the_limit_is_refused() -> None:
    part = b"\x04\x01\x01\x80\x80\x40" + bytes(1 << 20)
    decoder = Decoder()
    for _ in range(MAX_PACKET_BYTES >> 20):
        assert list(decoder.feed(part)) == []

    with pytest.raises(RemoteProtocolError, match="limit"):
        list(decoder.feed(part))


packets = st.builds(
    Packet,
    kind=st.sampled_from(Kind),
    stream_id=st.just(1),
    message_id=st.just(0),
    data=st.binary(max_size=300),
    control=st.booleans(),
)


@given(st.lists(packets, max_size=8), st.lists(st.integers(1, 50), max_size=40))
def test_any_split_of_the_bytes_gives_the_same_packets(story: list[Packet], cuts: list[int]) -> None:
    wanted = [
        Packet(packet.kind, 1, number, packet.data, packet.control) for number, packet in enumerate(story, start=1)
    ]
    rest = b"".join(encode(packet) for packet in wanted)

    decoder = Decoder()
    got: list[Packet] = []
    for cut in [*cuts, len(rest)]:
        part, rest = rest[:cut], rest[cut:]
        got += decoder.feed(part)

    assert got == wanted


@given(st.binary(max_size=300))
def test_garbage_is_refused_or_ignored(garbage: bytes) -> None:
    try:
        decode(garbage)
    except RemoteProtocolError:
        return
