from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warren.net.addresses import tailnet_address
from warren.net.coordinator import (
    CLOSED,
    MAX_UPDATES,
    OVERWRITTEN,
    AgentAuth,
    Auth,
    ClientAuth,
    Close,
    Coordinator,
    Deliver,
    Output,
    Refuse,
    Request,
    ServerAuth,
)
from warren.net.node import NodeInfo, PeerUpdate, PeerUpdateKind

AGENT, CLIENT, OTHER = (UUID(f"00000000-0000-4000-8000-00000000000{digit}") for digit in "123")


def node(peer_id: UUID, *, endpoint: str = "192.0.2.1:1", address: str = "") -> NodeInfo:
    prefixes = (address or f"{tailnet_address(peer_id)}/128",)
    return NodeInfo(
        id=1,
        as_of=datetime(2026, 1, 1, tzinfo=UTC),
        key=peer_id.bytes * 2,
        disco_key=bytes(32),
        preferred_region=999,
        addresses=prefixes,
        allowed_ips=prefixes,
        endpoints=(endpoint,),
    )


class World:
    """A coordinator whose outputs are kept by peer."""

    def __init__(self) -> None:
        self.coordinator = Coordinator()
        self.connections: dict[UUID, object] = {}
        self.heard: dict[object, list[Output]] = {}

    def connect(self, peer_id: UUID, auth: Auth) -> None:
        connection, outputs = self.coordinator.connect(peer_id, auth)
        self.connections[peer_id] = connection
        self.keep(outputs)

    def ask(self, peer_id: UUID, request: Request) -> None:
        self.keep(self.coordinator.handle(self.connections[peer_id], request))  # type: ignore[arg-type]

    def lose(self, peer_id: UUID) -> None:
        self.keep(self.coordinator.lose(self.connections[peer_id]))  # type: ignore[arg-type]

    def keep(self, outputs: list[Output]) -> None:
        for output in outputs:
            self.heard.setdefault(output.connection, []).append(output)

    def hears(self, peer_id: UUID) -> list[Output]:
        """What a peer heard since it was last asked."""
        return self.heard.pop(self.connections[peer_id], [])


def told(
    world: World, peer_id: UUID, kind: PeerUpdateKind, about: UUID, reason: str, what: NodeInfo | None = None
) -> Deliver:
    return Deliver(world.connections[peer_id], (PeerUpdate(about, kind, what, reason),))  # type: ignore[arg-type]


@pytest.fixture
def world() -> World:
    """An agent and a client with a tunnel, who know each other."""
    world = World()
    world.connect(AGENT, AgentAuth(AGENT))
    world.ask(AGENT, Request(node=node(AGENT)))
    world.connect(CLIENT, ClientAuth(AGENT))
    world.ask(CLIENT, Request(add_tunnel=AGENT))
    world.ask(CLIENT, Request(node=node(CLIENT)))
    return world


def test_both_sides_of_a_tunnel_hear_of_each_other(world: World) -> None:
    assert world.hears(CLIENT) == [told(world, CLIENT, PeerUpdateKind.NODE, AGENT, "add tunnel", node(AGENT))]
    assert world.hears(AGENT) == [told(world, AGENT, PeerUpdateKind.NODE, CLIENT, "node update", node(CLIENT))]


def test_nothing_is_said_twice(world: World) -> None:
    world.hears(AGENT)
    world.ask(CLIENT, Request(node=node(CLIENT)))

    assert world.hears(AGENT) == []


def test_a_change_is_told_to_who_shares_a_tunnel_only(world: World) -> None:
    world.connect(OTHER, ClientAuth(OTHER))
    world.ask(AGENT, Request(node=node(AGENT, endpoint="192.0.2.9:9")))

    assert [type(output) for output in world.hears(CLIENT)] == [Deliver, Deliver]
    assert world.hears(OTHER) == []


def test_readiness_is_passed_on(world: World) -> None:
    world.hears(CLIENT)
    world.ask(AGENT, Request(ready_for=(CLIENT,)))

    assert world.hears(CLIENT) == [told(world, CLIENT, PeerUpdateKind.READY_FOR_HANDSHAKE, AGENT, "")]


def test_readiness_without_a_tunnel_is_refused_and_the_connection_stays(world: World) -> None:
    world.hears(AGENT)
    world.ask(AGENT, Request(ready_for=(OTHER,)))

    (refused,) = world.hears(AGENT)
    assert isinstance(refused, Refuse)
    assert refused.error == f'ready for handshake error: you do not share a tunnel with "{OTHER}"'


def test_a_graceful_end_is_told_as_disconnected(world: World) -> None:
    world.hears(AGENT)
    world.ask(CLIENT, Request(disconnect=True))

    assert world.hears(AGENT) == [told(world, AGENT, PeerUpdateKind.DISCONNECTED, CLIENT, "graceful disconnect")]
    assert world.hears(CLIENT)[-1] == Close(world.connections[CLIENT])  # type: ignore[arg-type]


def test_a_broken_connection_is_told_as_lost(world: World) -> None:
    world.hears(CLIENT)
    world.lose(AGENT)

    assert world.hears(CLIENT) == [told(world, CLIENT, PeerUpdateKind.LOST, AGENT, "lost")]


def test_a_peer_that_does_not_come_back_is_given_up(world: World) -> None:
    world.lose(CLIENT)
    world.hears(AGENT)
    world.keep(world.coordinator.give_up(CLIENT))

    assert world.hears(AGENT) == [told(world, AGENT, PeerUpdateKind.DISCONNECTED, CLIENT, "did not come back")]
    assert world.coordinator.give_up(CLIENT) == []


def test_a_peer_that_came_back_is_not_given_up(world: World) -> None:
    world.lose(CLIENT)
    world.connect(CLIENT, ClientAuth(AGENT))
    world.hears(AGENT)

    assert world.coordinator.give_up(CLIENT) == []


def test_an_agent_that_returns_hears_of_its_clients_at_once(world: World) -> None:
    world.lose(AGENT)
    world.hears(CLIENT)
    world.connect(AGENT, AgentAuth(AGENT))

    assert world.hears(AGENT) == [told(world, AGENT, PeerUpdateKind.NODE, CLIENT, "init", node(CLIENT))]
    world.ask(AGENT, Request(node=node(AGENT)))
    assert world.hears(CLIENT) == [told(world, CLIENT, PeerUpdateKind.NODE, AGENT, "node update", node(AGENT))]


def test_a_second_connection_takes_the_place_of_the_first(world: World) -> None:
    first = world.connections[AGENT]
    world.connect(AGENT, AgentAuth(AGENT))

    assert world.heard[first][-1] == Close(first, OVERWRITTEN)  # type: ignore[arg-type]
    assert world.coordinator.handle(first, Request(node=node(AGENT))) == []  # type: ignore[arg-type]


def test_a_removed_tunnel_is_told_to_both(world: World) -> None:
    world.hears(CLIENT)
    world.hears(AGENT)
    world.ask(CLIENT, Request(remove_tunnel=AGENT))

    assert world.hears(CLIENT) == [told(world, CLIENT, PeerUpdateKind.DISCONNECTED, AGENT, "remove tunnel")]
    assert world.hears(AGENT) == [told(world, AGENT, PeerUpdateKind.DISCONNECTED, CLIENT, "remove tunnel")]


def test_the_end_of_the_coordinator_is_told_to_all(world: World) -> None:
    assert {output.error for output in world.coordinator.close() if isinstance(output, Close)} == {CLOSED}


def test_many_peers_are_told_in_batches() -> None:
    world = World()
    for number in range(MAX_UPDATES + 1):
        peer_id = UUID(int=1000 + number)
        world.connect(peer_id, ServerAuth())
        world.ask(peer_id, Request(node=node(peer_id), add_tunnel=AGENT))
    world.connect(AGENT, AgentAuth(AGENT))

    assert [len(output.updates) for output in world.hears(AGENT) if isinstance(output, Deliver)] == [MAX_UPDATES, 1]


@pytest.mark.parametrize(
    ("auth", "request_", "error"),
    [
        pytest.param(
            ClientAuth(AGENT),
            Request(add_tunnel=OTHER),
            f"invalid agent id, expected {AGENT}, got {OTHER}",
            id="client-elsewhere",
        ),
        pytest.param(
            ClientAuth(AGENT),
            Request(ready_for=(AGENT,)),
            "clients may not send ready_for_handshake",
            id="client-ready",
        ),
        pytest.param(
            ClientAuth(AGENT),
            Request(node=node(CLIENT, address="fd7a:115c:a1e0::/48")),
            "invalid address bits, expected 128, got 48",
            id="client-claims-a-network",
        ),
        pytest.param(
            ClientAuth(AGENT),
            Request(node=replace(node(CLIENT), allowed_ips=("::/0",))),
            "invalid address bits, expected 128, got 0",
            id="client-claims-everything",
        ),
        pytest.param(AgentAuth(AGENT), Request(add_tunnel=OTHER), "agents cannot open tunnels", id="agent-tunnel"),
        pytest.param(
            AgentAuth(AGENT),
            Request(node=node(OTHER)),
            f"Addresses: invalid node address, got {tailnet_address(OTHER)}",
            id="agent-with-a-foreign-address",
        ),
        pytest.param(
            AgentAuth(AGENT),
            Request(node=replace(node(AGENT), allowed_ips=node(OTHER).allowed_ips)),
            f"AllowedIps: invalid node address, got {tailnet_address(OTHER)}",
            id="agent-with-foreign-allowed-ips",
        ),
        pytest.param(
            AgentAuth(AGENT),
            Request(node=node(AGENT, address="nonsense/128")),
            "Addresses: parse node address: 'nonsense/128' is not an IPv6 prefix",
            id="nonsense",
        ),
    ],
)
def test_what_is_not_allowed_ends_the_connection(auth: Auth, request_: Request, error: str) -> None:
    world = World()
    world.connect(CLIENT, auth)
    world.ask(CLIENT, request_)

    assert world.hears(CLIENT) == [Close(world.connections[CLIENT], f"authorization: {error}")]  # type: ignore[arg-type]
    assert len(world.coordinator) == 0


PEERS = [UUID(int=number) for number in range(1, 5)]
steps = st.tuples(
    st.sampled_from(["connect", "node", "tunnel", "untunnel", "disconnect", "lose"]),
    st.sampled_from(PEERS),
    st.sampled_from(PEERS),
    st.integers(1, 3),
)


@given(st.lists(steps, max_size=60))
def test_what_a_peer_was_told_is_what_holds(story: list[tuple[str, UUID, UUID, int]]) -> None:
    coordinator = Coordinator()
    connections: dict[UUID, object] = {}
    known: dict[object, dict[UUID, NodeInfo]] = {}
    for verb, peer_id, other, port in story:
        outputs: list[Output] = []
        connection = connections.get(peer_id)
        if verb == "connect":
            connections[peer_id], outputs = coordinator.connect(peer_id, ServerAuth())
        elif connection is None:
            continue
        elif verb == "lose":
            outputs = coordinator.lose(connection)  # type: ignore[arg-type]
            del connections[peer_id]
        else:
            request = {
                "node": Request(node=node(peer_id, endpoint=f"192.0.2.1:{port}")),
                "tunnel": Request(add_tunnel=other),
                "untunnel": Request(remove_tunnel=other),
                "disconnect": Request(disconnect=True),
            }[verb]
            outputs = coordinator.handle(connection, request)  # type: ignore[arg-type]
            if verb == "disconnect":
                del connections[peer_id]
        for output in outputs:
            memory = known.setdefault(output.connection, {})
            for update in output.updates if isinstance(output, Deliver) else ():
                if update.node is not None:
                    assert memory.get(update.peer_id) != update.node, "said twice"
                    memory[update.peer_id] = update.node
                else:
                    assert memory.pop(update.peer_id, None) is not None, "gone without having been there"
    for peer_id, connection in connections.items():
        for about, info in known.get(connection, {}).items():
            assert coordinator.node(about) in (info, None), f"{peer_id} believes something old of {about}"
