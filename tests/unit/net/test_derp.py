from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.public import Box, PrivateKey, PublicKey

from tests.unit.net import vectors
from tests.unit.net.vectors import Row
from warren.errors import LocalProtocolError, RemoteProtocolError
from warren.net import derp

keys = st.binary(min_size=32, max_size=32)
packets = st.binary(max_size=2000)
FRAMES: st.SearchStrategy[derp.Frame] = st.one_of(
    st.builds(derp.ServerKey, keys),
    st.builds(derp.ClientInfo, keys, st.binary(min_size=24, max_size=300)),
    st.builds(derp.ServerInfo, st.binary(min_size=40, max_size=300)),
    st.builds(derp.SendPacket, keys, packets),
    st.builds(derp.RecvPacket, keys, packets),
    st.just(derp.KeepAlive()),
    st.builds(derp.NotePreferred, st.booleans()),
    st.builds(derp.PeerGone, keys, st.sampled_from(derp.GoneReason)),
    st.builds(derp.PeerPresent, keys),
    st.builds(derp.ForwardPacket, keys, keys, packets),
    st.just(derp.WatchConns()),
    st.builds(derp.ClosePeer, keys),
    st.builds(derp.Ping, st.binary(min_size=8, max_size=8)),
    st.builds(derp.Pong, st.binary(min_size=8, max_size=8)),
    st.builds(derp.Health, st.text()),
    st.builds(derp.Restarting, st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1)),
)


def frame_of(row: Row) -> derp.Frame:
    fields = {name: bytes.fromhex(row[name]) for name in ("key", "sealed", "packet", "payload") if name in row}
    key, sealed, packet, payload = (fields.get(name, b"") for name in ("key", "sealed", "packet", "payload"))
    made: dict[str, derp.Frame] = {
        "server_key": derp.ServerKey(key),
        "client_info": derp.ClientInfo(key, sealed),
        "server_info": derp.ServerInfo(sealed),
        "send_packet": derp.SendPacket(key, packet),
        "recv_packet": derp.RecvPacket(key, packet),
        "keep_alive": derp.KeepAlive(),
        "note_preferred": derp.NotePreferred(row.get("home", False)),
        "peer_gone": derp.PeerGone(key, derp.GoneReason(row.get("reason", 0))),
        "watch_conns": derp.WatchConns(),
        "ping": derp.Ping(payload),
        "pong": derp.Pong(payload),
        "restarting": derp.Restarting(row.get("reconnect_in_ms", 0), row.get("try_for_ms", 0)),
        "unknown": derp.Unknown(row.get("number", 0)),
    }
    return made[row["kind"]]


@pytest.mark.parametrize("row", vectors.rows("derp", "frames", "lenient"), ids=vectors.row_id)
def test_reads_vectors(row: Row) -> None:
    assert list(derp.Decoder().feed(bytes.fromhex(row["bytes"]))) == [frame_of(row)]


@pytest.mark.parametrize("row", vectors.rows("derp", "frames"), ids=vectors.row_id)
def test_writes_vectors(row: Row) -> None:
    assert derp.encode(frame_of(row)).hex() == row["bytes"]


@pytest.mark.parametrize("row", vectors.rows("derp", "malformed"), ids=vectors.row_id)
def test_refuses_malformed_frames(row: Row) -> None:
    with pytest.raises(RemoteProtocolError):
        list(derp.Decoder().feed(bytes.fromhex(row["bytes"])))


@pytest.mark.parametrize("name", ["login", "login_answer"])
def test_boxes_are_those_of_nacl(name: str) -> None:
    row, pairs = vectors.load("derp")[name], vectors.load("keys")["pairs"]
    own, other = pairs[row["from"]], pairs[row["to"]]

    box = Box(PrivateKey(bytes.fromhex(own["private"])), PublicKey(bytes.fromhex(other["public"])))

    assert box.encrypt(row["json"].encode(), bytes.fromhex(row["nonce"])).hex() == row["sealed"]
    assert box.shared_key().hex() == vectors.load("keys")["shared_key"]


@given(frames=st.lists(FRAMES, max_size=5), data=st.data())
def test_reads_back_what_it_writes_in_any_split(frames: list[derp.Frame], data: st.DataObject) -> None:
    stream = b"".join(derp.encode(frame) for frame in frames)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=10)))
    decoder = derp.Decoder()

    read = [
        frame
        for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)
        for frame in decoder.feed(stream[start:end])
    ]

    assert read == frames
    assert decoder.pending == 0


@pytest.mark.parametrize("side", ["client", "server"])
@pytest.mark.parametrize("name", ["derp-agent", "derp-ping", "derp-ssh"])
def test_decodes_recorded_sessions_byte_by_byte(name: str, side: str) -> None:
    stream = vectors.recorded(f"{name}.jsonl", side)
    whole = list(derp.Decoder().feed(stream))
    decoder = derp.Decoder()

    assert [frame for byte in stream for frame in decoder.feed(bytes([byte]))] == whole
    assert isinstance(whole[0], derp.ServerKey if side == "server" else derp.ClientInfo)
    assert b"".join(derp.encode(frame) for frame in whole) == stream


@given(noise=st.binary(max_size=300))
def test_noise_is_read_or_refused(noise: bytes) -> None:
    decoder = derp.Decoder()
    try:
        frames = list(decoder.feed(noise))
    except RemoteProtocolError:
        return
    assert len(frames) * 5 + decoder.pending <= len(noise)


def test_writes_nothing_that_others_would_refuse() -> None:
    with pytest.raises(LocalProtocolError):
        derp.encode(derp.SendPacket(bytes(32), bytes(derp.MAX_PACKET_LENGTH + 1)))
    with pytest.raises(LocalProtocolError):
        derp.encode(derp.Unknown(0x77))
