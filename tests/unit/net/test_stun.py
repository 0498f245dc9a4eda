from __future__ import annotations

from ipaddress import IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.net import vectors
from tests.unit.net.vectors import Row
from warren.errors import RemoteProtocolError
from warren.net import stun

txids = st.binary(min_size=12, max_size=12)


@pytest.mark.parametrize("row", vectors.rows("stun", "requests"), ids=vectors.row_id)
def test_reads_requests(row: Row) -> None:
    packet = bytes.fromhex(row["bytes"])

    assert stun.is_stun(packet)
    assert stun.parse_request(packet).hex() == row["txid"]
    if row["ours"]:
        assert stun.request(bytes.fromhex(row["txid"])) == packet


@pytest.mark.parametrize("row", vectors.rows("stun", "answers"), ids=vectors.row_id)
def test_reads_answers(row: Row) -> None:
    packet, txid = bytes.fromhex(row["bytes"]), bytes.fromhex(row["txid"])

    assert stun.parse_answer(packet) == stun.Answer(txid, row["address"], row["port"])
    if row["ours"]:
        assert stun.answer(txid, row["address"], row["port"]) == packet
    with pytest.raises(RemoteProtocolError):
        stun.parse_request(packet)


@pytest.mark.parametrize("row", vectors.rows("stun", "malformed"), ids=vectors.row_id)
def test_refuses_malformed_answers(row: Row) -> None:
    with pytest.raises(RemoteProtocolError):
        stun.parse_answer(bytes.fromhex(row["bytes"]))


@given(txid=txids, address=st.ip_addresses(), port=st.integers(1, 65535))
def test_reads_back_what_it_writes(txid: bytes, address: object, port: int) -> None:
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None

    assert stun.parse_answer(stun.answer(txid, str(address), port)) == stun.Answer(txid, str(mapped or address), port)
    assert stun.parse_request(stun.request(txid)) == txid


@given(noise=st.binary(max_size=100), txid=txids)
def test_noise_is_read_or_refused(noise: bytes, txid: bytes) -> None:
    for packet in (noise, stun.answer(txid, "192.0.2.1", 1)[:20] + noise, stun.request(txid)[:20] + noise):
        for parse in (stun.parse_answer, stun.parse_request):
            try:
                parse(packet)
            except RemoteProtocolError:
                continue


def test_writes_an_address_with_a_zone_as_the_address() -> None:
    assert stun.parse_answer(stun.answer(bytes(12), "fe80::1%eth0", 7)).host == "fe80::1"
