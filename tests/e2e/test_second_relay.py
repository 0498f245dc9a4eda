"""A second relay beside the built-in one: sessions outlive the server's death, and the map changes under them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from benchmarks.lab import Lab, lab

from tests.e2e.stories import request, session, wait
from tests.integration.engine.harness import RelayServer, derp_map

RELAYED = "--disable-direct-connections"
OTHER = 7


def write_map(path: Path, *relays: RelayServer) -> None:
    """Write a map of our own relays, as a whole."""
    regions: dict[str, object] = {}
    for number, relay in enumerate(relays, start=OTHER):
        regions |= json.loads(derp_map(relay.port, region=number))["Regions"]
    for region in regions.values():
        assert isinstance(region, dict)
        region["EmbeddedRelay"] = False
    path.with_suffix(".new").write_text(json.dumps({"Regions": regions}))
    path.with_suffix(".new").replace(path)


@pytest.fixture
def with_relay(tmp_path: Path) -> Iterator[tuple[Lab, RelayServer, Path]]:
    path = tmp_path / "map.json"
    with RelayServer() as relay, lab() as place:
        write_map(path, relay)
        place.start("--derp-config-path", str(path), "--derp-config-interval", "200ms")
        place.login()
        place.template()
        place.workspace()
        yield place, relay, path


def clients(relay: RelayServer) -> int:
    return relay.relay.stats().clients


def given_out(place: Lab) -> set[str]:
    return set(request(place, "GET", "/workspaceagents/connection").json()["derp_map"]["Regions"])


def test_a_relayed_session_goes_on_while_the_server_is_dead(with_relay: tuple[Lab, RelayServer, Path]) -> None:
    place, relay, _ = with_relay
    with session(place, RELAYED) as relayed:
        wait(lambda: clients(relay) == 2, "agent and client do not both hold the second relay")
        relayed.says("before")
        assert place.process is not None
        place.process.kill()
        place.process.wait(10)
        for number in range(20):
            relayed.says(f"without a server {number}")
        assert relayed.ends() == 0


def test_a_map_that_changes_drops_no_session(with_relay: tuple[Lab, RelayServer, Path]) -> None:
    place, relay, path = with_relay
    with session(place, RELAYED) as relayed, RelayServer() as another:
        relayed.says("before")
        write_map(path, relay, another)
        wait(lambda: str(OTHER + 1) in given_out(place), "the new region is not given out")
        relayed.says("with one more")
        write_map(path, another)
        wait(lambda: given_out(place) == {"999", str(OTHER)}, "the old one is")
        for number in range(20):
            relayed.says(f"moved {number}")
        path.write_text("{")
        relayed.says("the last good one is kept")
        assert given_out(place) == {"999", str(OTHER)}
        assert relayed.ends() == 0
