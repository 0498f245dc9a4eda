"""A second relay kept warm, and maps that change: whatever happens to relays, connections go on.

No coordinator is at hand in these tests: peers are never told of a new home, as when the server is what died.
"""

import time
from collections.abc import Generator
from contextlib import contextmanager

import pytest

from tests.integration.engine.harness import Node, RelayServer
from tests.integration.engine.relaying import (
    AGENT,
    CLIENT,
    PORT,
    connected_to,
    connection,
    echo,
    home_is,
    regions_map,
    until,
)
from warren import _engine

FIRST, SECOND, THIRD = 1, 2, 3
NEAR_FIRST = {SECOND: 1000.0, THIRD: 1e6}
"""Scores by which the regions are chosen in order, however close they are."""


@contextmanager
def pair(
    derp: bytes, *, agent_derp: bytes | None = None, home: int = FIRST, agent_home: int | None = None
) -> Generator[tuple[Node, Node]]:
    """Two nodes that reach each other by relay only, introduced once and never again."""
    agent_home = agent_home or home
    with Node(CLIENT, block_direct=True) as client, Node(AGENT, block_direct=True) as agent:
        client.engine.set_derp_map(derp)
        agent.engine.set_derp_map(agent_derp or derp)
        client.wait(home_is(home))
        agent.wait(home_is(agent_home))
        client.know(agent, home_region=agent_home)
        agent.know(client, home_region=home)
        agent.engine.listen(PORT)
        yield client, agent


def test_the_next_nearest_relay_is_kept_connected() -> None:
    with RelayServer() as one, RelayServer() as two, RelayServer() as three, Node(CLIENT) as client:
        ports = {FIRST: one.port, SECOND: two.port, THIRD: three.port}
        client.engine.set_derp_map(regions_map(ports, scores=NEAR_FIRST))
        assert client.wait(connected_to(FIRST)).home
        assert not client.wait(connected_to(SECOND)).home
        assert not any("Upgrade" in request for request in three.requests)


def test_traffic_goes_on_by_the_second_relay_when_the_first_dies() -> None:
    one, two = RelayServer(), RelayServer()
    derp = regions_map({FIRST: one.port, SECOND: two.port}, scores=NEAR_FIRST)
    with two, pair(derp) as (client, agent):
        client.wait(connected_to(SECOND))
        agent.wait(connected_to(SECOND))
        near, far = connection(client, agent)
        with near, far:
            echo(near, far)
            one.close()
            started = time.monotonic()
            echo(near, far, b"x" * 100_000)
            gap = time.monotonic() - started
            assert client.wait(home_is(SECOND))
            assert agent.wait(home_is(SECOND))
        assert gap < 5, gap  # a few milliseconds and one retransmission; a busy machine adds to that


def test_the_first_relay_is_home_again_when_it_is_back() -> None:
    one = RelayServer()
    with RelayServer() as two:
        derp = regions_map({FIRST: one.port, SECOND: two.port}, scores=NEAR_FIRST)
        with pair(derp) as (client, agent):
            client.wait(connected_to(SECOND))
            agent.wait(connected_to(SECOND))
            near, far = connection(client, agent)
            with near, far:
                one.close()
                client.wait(home_is(SECOND))
                echo(near, far)
                with RelayServer(port=one.port):
                    client.wait(connected_to(FIRST))
                    client.engine.netcheck()
                    client.wait(home_is(FIRST))
                    echo(near, far)


def test_a_relay_that_announces_its_restart_is_left_before_it_goes() -> None:
    one = RelayServer()
    with RelayServer() as two:
        derp = regions_map({FIRST: one.port, SECOND: two.port}, scores=NEAR_FIRST)
        with pair(derp) as (client, agent):
            client.wait(connected_to(SECOND))
            agent.wait(connected_to(SECOND))
            near, far = connection(client, agent)
            with near, far:
                one.relay.close(restarting_in_seconds=60)
                assert client.wait(connected_to(FIRST, connected=False)).error == "the relay restarts"
                echo(near, far)
                client.wait(home_is(SECOND))
    one.close()


def test_the_only_relay_is_come_back_to_as_soon_as_it_is_there_whatever_it_announced() -> None:
    with RelayServer() as one, pair(regions_map({FIRST: one.port})) as (client, agent):
        near, far = connection(client, agent)
        with near, far:
            old, one.relay = one.relay, _engine.Relay(_engine.generate_key())
            old.close(restarting_in_seconds=60)
            echo(near, far)


def test_nodes_with_different_homes_find_each_other_when_one_home_dies() -> None:
    one = RelayServer()
    with RelayServer() as two, RelayServer() as three:
        ports = {FIRST: one.port, SECOND: two.port, THIRD: three.port}
        client_map = regions_map(ports, scores={SECOND: 1000.0, THIRD: 1e6})
        agent_map = regions_map(ports, scores={FIRST: 1000.0, SECOND: 1e6})  # its home is the third
        with pair(client_map, agent_derp=agent_map, agent_home=THIRD) as (client, agent):
            client.wait(connected_to(SECOND))
            near, far = connection(client, agent)
            with near, far:
                echo(near, far)
                one.close()  # the client's home; the agent believes for ever that it is there
                client.wait(home_is(SECOND))
                far.sendall(b"are you there?")
                assert near.recv(100) == b"are you there?"
                echo(near, far)


def test_a_peer_whose_home_died_while_nobody_spoke_is_looked_for_where_it_finds_near() -> None:
    one = RelayServer()
    with RelayServer() as two, RelayServer() as three, RelayServer() as four:
        ports = {FIRST: one.port, SECOND: two.port, THIRD: three.port, 4: four.port}
        client_map = regions_map(ports, scores={SECOND: 1000.0, THIRD: 1e6, 4: 1e6})
        agent_map = regions_map(ports, scores={FIRST: 1000.0, SECOND: 1e6, 4: 1e6})
        with pair(client_map, agent_derp=agent_map, agent_home=THIRD) as (client, agent):
            client.wait(connected_to(SECOND))
            agent.wait(connected_to(FIRST))
            one.close()
            client.wait(home_is(SECOND))
            agent.engine.set_peer(
                client.engine.public_key,
                disco_key=client.engine.disco_public_key,
                allowed_ips=[CLIENT],
                home_region=FIRST,
                endpoints=[],
                keepalive=False,
                fallback_regions=[SECOND, 4],
            )
            client.engine.listen(PORT)
            near, far = connection(agent, client)
            with near, far:
                echo(near, far)


@pytest.mark.parametrize("told_first", ["client", "agent"])
def test_a_region_withdrawn_under_load_costs_nothing(told_first: str) -> None:
    with RelayServer() as one, RelayServer() as two:
        both = regions_map({FIRST: one.port, SECOND: two.port}, scores=NEAR_FIRST)
        only_second = regions_map({SECOND: two.port})
        with pair(both) as (client, agent):
            near, far = connection(client, agent)
            with near, far:
                echo(near, far)
                early, late = (client, agent) if told_first == "client" else (agent, client)
                early.engine.set_derp_map(only_second)
                early.wait(home_is(SECOND))
                echo(near, far, b"x" * 100_000)  # the other one sends to the region that is no more
                late.engine.set_derp_map(only_second)
                late.wait(home_is(SECOND))
                echo(near, far, b"x" * 100_000)


def test_a_region_that_moves_to_another_address_keeps_its_connections() -> None:
    with RelayServer() as one, RelayServer() as moved, pair(regions_map({FIRST: one.port})) as (client, agent):
        near, far = connection(client, agent)
        with near, far:
            echo(near, far)
            client.engine.set_derp_map(regions_map({FIRST: moved.port}))
            client.wait(connected_to(FIRST))
            agent.engine.set_derp_map(regions_map({FIRST: moved.port}))
            agent.wait(connected_to(FIRST))
            echo(near, far, b"x" * 100_000)
            assert moved.relay.stats().packets_sent > 0


@pytest.mark.parametrize("told_first", ["client", "agent"])
def test_a_peer_that_hears_later_that_a_region_moved_is_talked_to_where_it_is(told_first: str) -> None:
    one = RelayServer()
    with RelayServer() as moved, pair(regions_map({FIRST: one.port})) as (client, agent):
        near, far = connection(client, agent)
        with near, far:
            echo(near, far)
            early, late = (client, agent) if told_first == "client" else (agent, client)
            for clients, node in enumerate((early, late), 1):
                node.engine.set_derp_map(regions_map({FIRST: moved.port}))
                until(lambda clients=clients: moved.relay.stats().clients == clients)
                echo(near, far, b"x" * 100_000)
            one.close()
            echo(near, far, b"x" * 100_000)
            assert moved.relay.stats().packets_sent > 0


def test_a_new_region_and_a_new_name_leave_the_connected_relay_alone() -> None:
    with RelayServer() as one, RelayServer() as two, pair(regions_map({FIRST: one.port})) as (client, agent):
        near, far = connection(client, agent)
        with near, far:
            before = len([request for request in one.requests if "Upgrade" in request])
            more = regions_map({FIRST: one.port, SECOND: two.port}, scores=NEAR_FIRST)
            for node in (client, agent):
                node.engine.set_derp_map(more.replace(b'"RegionName": "Test"', b'"RegionName": "Renamed"'))
                node.wait(connected_to(SECOND))
            echo(near, far)
            assert len([request for request in one.requests if "Upgrade" in request]) == before


def test_a_map_without_relays_is_survived() -> None:
    with RelayServer() as one, pair(regions_map({FIRST: one.port})) as (client, agent):
        near, far = connection(client, agent)
        with near, far:
            echo(near, far)
            client.engine.set_derp_map(b'{"Regions": {}}')
            client.engine.set_derp_map(regions_map({FIRST: one.port}))
            client.wait(home_is(FIRST))
            echo(near, far)
            with pytest.raises(_engine.InvalidConfig, match="DERP map"):
                client.engine.set_derp_map(b'{"Regions": 7}')
            echo(near, far)
