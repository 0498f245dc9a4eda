from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warren.net.node import NodeInfo, PeerUpdate, PeerUpdateKind
from warren.tunnel.peers import LOST_TIMEOUT_SECONDS, READY_TIMEOUT_SECONDS, PeerBook, RemovePeer, SetPeer

AGENT = UUID(int=1)
CLIENT = UUID(int=2)
NODE = NodeInfo(
    id=1,
    as_of=datetime(2026, 1, 1, tzinfo=UTC),
    key=b"k" * 32,
    disco_key=b"d" * 32,
    preferred_region=999,
    addresses=("fd7a:115c:a1e0::1/128",),
    allowed_ips=("fd7a:115c:a1e0::1/128",),
    endpoints=("192.0.2.1:4242",),
)


def news(peer_id: UUID, node: NodeInfo = NODE) -> PeerUpdate:
    return PeerUpdate(peer_id, PeerUpdateKind.NODE, node)


def say(peer_id: UUID, kind: PeerUpdateKind) -> PeerUpdate:
    return PeerUpdate(peer_id, kind)


def test_a_peer_that_dials_us_is_programmed_at_once_without_keepalive() -> None:
    book = PeerBook()

    assert book.apply(0, news(CLIENT)) == [SetPeer(CLIENT, NODE, keepalive=False)]


def test_a_destination_waits_until_it_is_ready() -> None:
    book = PeerBook()
    book.expect(AGENT)

    assert book.apply(0, news(AGENT)) == []
    assert book.apply(1, say(AGENT, PeerUpdateKind.READY_FOR_HANDSHAKE)) == [SetPeer(AGENT, NODE, keepalive=True)]
    assert book.next_timeout() is None


def test_a_destination_that_never_says_ready_is_programmed_after_the_timeout() -> None:
    book = PeerBook()
    book.expect(AGENT)
    book.apply(0, news(AGENT))

    assert book.next_timeout() == READY_TIMEOUT_SECONDS
    assert book.timeout(READY_TIMEOUT_SECONDS - 0.1) == []
    assert book.timeout(READY_TIMEOUT_SECONDS) == [SetPeer(AGENT, NODE, keepalive=True)]


def test_ready_may_arrive_before_the_node() -> None:
    book = PeerBook()
    book.expect(AGENT)

    assert book.apply(0, say(AGENT, PeerUpdateKind.READY_FOR_HANDSHAKE)) == []
    assert book.apply(1, news(AGENT)) == [SetPeer(AGENT, NODE, keepalive=True)]


@pytest.mark.parametrize(
    "node",
    [
        pytest.param(None, id="no-node"),
        pytest.param(replace(NODE, preferred_region=0), id="no-home-region"),
    ],
)
def test_an_unusable_node_is_ignored(node: NodeInfo | None) -> None:
    assert PeerBook().apply(0, PeerUpdate(CLIENT, PeerUpdateKind.NODE, node)) == []


def test_the_same_node_again_programs_nothing() -> None:
    book = PeerBook()
    book.apply(0, news(CLIENT))

    assert book.apply(1, news(CLIENT, replace(NODE, as_of=datetime(2026, 1, 2, tzinfo=UTC)))) == []


def test_a_new_key_is_a_new_peer() -> None:
    book = PeerBook()
    book.apply(0, news(CLIENT))
    restarted = replace(NODE, key=b"n" * 32)

    assert book.apply(1, news(CLIENT, restarted)) == [
        RemovePeer(CLIENT, NODE.key),
        SetPeer(CLIENT, restarted, keepalive=False),
    ]


def test_a_disconnected_peer_is_forgotten_at_once() -> None:
    book = PeerBook()
    book.apply(0, news(CLIENT))

    assert book.apply(1, say(CLIENT, PeerUpdateKind.DISCONNECTED)) == [RemovePeer(CLIENT, NODE.key)]
    assert book.node(CLIENT) is None


def test_a_lost_peer_stays_for_a_quarter_of_an_hour_after_its_last_handshake() -> None:
    book = PeerBook()
    book.apply(0, news(CLIENT))
    book.saw_handshake(100, NODE.key)
    book.lose_all(200)

    assert book.timeout(100 + LOST_TIMEOUT_SECONDS - 1) == []
    book.saw_handshake(500, NODE.key)
    assert book.timeout(100 + LOST_TIMEOUT_SECONDS) == []
    assert book.timeout(500 + LOST_TIMEOUT_SECONDS) == [RemovePeer(CLIENT, NODE.key)]


def test_a_lost_peer_that_returns_is_kept() -> None:
    book = PeerBook()
    book.apply(0, news(CLIENT))
    book.apply(1, say(CLIENT, PeerUpdateKind.LOST))
    book.apply(2, news(CLIENT))

    assert book.next_timeout() is None
    assert book.timeout(10 * LOST_TIMEOUT_SECONDS) == []


@given(
    st.lists(
        st.tuples(
            st.sampled_from([AGENT, CLIENT]), st.sampled_from(list(PeerUpdateKind)), st.integers(0, 3), st.booleans()
        )
    )
)
def test_the_engine_knows_exactly_what_was_set_and_not_removed(
    story: list[tuple[UUID, PeerUpdateKind, int, bool]],
) -> None:
    book = PeerBook()
    book.expect(AGENT)
    programmed: dict[bytes, UUID] = {}
    now = 0.0
    for peer_id, kind, key, lose in story:
        now += 1
        node = replace(NODE, key=bytes([peer_id.int, key]) * 16) if kind is PeerUpdateKind.NODE else None
        commands = book.apply(now, PeerUpdate(peer_id, kind, node)) + (book.lose_all(now) if lose else [])
        for command in commands + book.timeout(now):
            if isinstance(command, SetPeer):
                programmed[command.node.key] = command.peer_id
            else:
                assert programmed.pop(command.key) == command.peer_id
    assert len(set(programmed.values())) == len(programmed), "one key a peer"
