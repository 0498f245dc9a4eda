"""Bytes that come from other nodes and from relays, and maps that operators name."""

from __future__ import annotations

import json
from collections.abc import Iterable

from google.protobuf.message import DecodeError

from tests.unit.fuzz.corpus import cut, fuzz
from warren.errors import Invalid, RemoteProtocolError
from warren.net import derp, derp_map, stun
from warren.rpc import convert_tailnet as convert
from warren.rpc._pb import tailnet_pb2 as pb


@fuzz("stun")
def test_stun(data: bytes) -> None:
    try:
        txid = stun.parse_request(data)
    except RemoteProtocolError:
        txid = None
    try:
        answer = stun.parse_answer(data)
    except RemoteProtocolError:
        answer = None
    assert txid is None or answer is None
    if answer is not None:
        assert stun.parse_answer(stun.answer(answer.txid, answer.host, answer.port)) == answer
    if txid is not None:
        assert stun.parse_request(stun.request(txid)) == txid


def frames(reads: Iterable[bytes]) -> tuple[list[derp.Frame], bool]:
    """Give the frames until the stream ends or breaks, and whether it broke."""
    decoder, seen = derp.Decoder(), list[derp.Frame]()
    try:
        for read in reads:
            for frame in decoder.feed(read):
                seen.append(frame)
    except RemoteProtocolError:
        return seen, True
    return seen, False


@fuzz("derp")
def test_derp(data: bytes) -> None:
    stream, reads = cut(data)
    found = frames([stream])
    assert found == frames(reads)
    for frame in found[0]:
        if not isinstance(frame, derp.Unknown):
            assert frames([derp.encode(frame)]) == ([frame], False)


@fuzz("derp_map")
def test_a_derp_map(data: bytes) -> None:
    try:
        document: object = json.loads(data)
    except (ValueError, RecursionError):
        return
    try:
        found = derp_map.parse(document)
    except Invalid:
        return
    assert derp_map.same(derp_map.parse(found.to_json()), found)
    for url in ("https://warren.example", "http://[::1]:3000"):
        rewritten = derp_map.rewrite_embedded(found, url)
        assert set(rewritten.regions) == set(found.regions)


@fuzz("coordinate_request")
def test_what_a_node_asks_the_coordinator(data: bytes) -> None:
    try:
        request = convert.request_from_message(pb.CoordinateRequest.FromString(data))
    except (DecodeError, RemoteProtocolError):
        return
    if request.node is not None:
        written = convert.node_to_message(request.node)
        assert convert.node_from_message(written) == request.node


@fuzz("coordinate_response")
def test_what_the_coordinator_answers(data: bytes) -> None:
    try:
        message = pb.CoordinateResponse.FromString(data)
    except DecodeError:
        return
    for each in message.peer_updates:
        try:
            update = convert.peer_update_from_message(each)
        except RemoteProtocolError:
            continue
        if update is not None:
            assert convert.peer_update_from_message(convert.peer_update_to_message(update)) == update


@fuzz("derp_map_message")
def test_a_derp_map_over_the_tailnet_api(data: bytes) -> None:
    try:
        found = convert.derp_map_from_message(pb.DERPMap.FromString(data))
    except (DecodeError, RemoteProtocolError):
        return
    json.dumps(found.to_json())
