"""Workspaces whose relay is Tailscale's `derper`: alone, and as a second region beside the server's own."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from benchmarks.lab import Lab, lab

from tests.interop.peers import Derper, run_derper

pytestmark = pytest.mark.slow

REGION = 7
EMBEDDED = 999
NAME = "Tailscale's derper"
MEGABYTE = 1 << 20


@contextmanager
def running(folder: Path, derper: Derper, *arguments: str, scores: Mapping[str, float]) -> Generator[Lab]:
    """Run a server whose map of relays has derper, and a workspace on it."""
    path = folder / "derp-map.json"
    path.write_text(
        json.dumps({"HomeParams": {"RegionScore": scores}, "Regions": {str(REGION): derper.region(REGION)}})
    )
    with lab() as place:
        place.start("--derp-config-path", str(path), *arguments)
        place.login()
        place.template()
        place.workspace()
        yield place


@pytest.fixture(scope="module")
def derper(tmp_path_factory: pytest.TempPathFactory) -> Generator[Derper]:
    with run_derper(tmp_path_factory.mktemp("derper")) as running_derper:
        yield running_derper


@pytest.fixture(scope="module")
def place(derper: Derper, tmp_path_factory: pytest.TempPathFactory) -> Generator[Lab]:
    """A workspace on a server that has no relay of its own."""
    folder = tmp_path_factory.mktemp("map")
    with running(folder, derper, "--derp-server-enable=false", scores={}) as server:
        yield server


def regions(place: Lab) -> set[str]:
    """Give the numbers of the regions that clients are told of."""
    document = json.loads(json.dumps(place.get("/workspaceagents/connection")))
    return set(document["derp_map"]["Regions"])


def test_derper_is_the_only_region(place: Lab) -> None:
    assert regions(place) == {str(REGION)}

    report = json.loads(place.run("netcheck"))["derp"]
    assert report["netcheck"]["PreferredDERP"] == REGION
    (node,) = report["regions"][str(REGION)]["node_reports"]
    assert node["can_exchange_messages"]
    assert node["stun"]["CanSTUN"]


@pytest.mark.parametrize("options", [[], ["--disable-direct-connections"]], ids=["direct", "relayed"])
def test_a_command_runs_and_its_exit_code_is_ours(place: Lab, options: list[str]) -> None:
    command = ["warren", *options, "ssh", "dev", "--", "tr a-z A-Z; exit 7"]
    done = subprocess.run(
        command, env=place.environment, input="hello", capture_output=True, text=True, timeout=30, check=False
    )

    assert (done.returncode, done.stdout) == (7, "HELLO"), done.stderr


def test_pings_go_through_derper_where_direct_paths_are_off(place: Lab, derper: Derper) -> None:
    before = derper.packets()
    output = place.run("--disable-direct-connections", "ping", "dev", "-n", "3", "--wait", "100ms")

    assert output.count(f"pong from dev proxied via DERP({NAME})") == 3, output
    assert derper.packets() - before >= 6  # each ping and each pong


def test_derper_introduces_nodes_that_then_speak_directly(place: Lab) -> None:
    output = place.run("ping", "dev", "-n", "6", "--wait", "200ms")

    assert "pong from dev p2p via" in output.splitlines()[-5], output


@pytest.mark.parametrize("direction", ["down", "up"])
@pytest.mark.parametrize("options", [[], ["--disable-direct-connections"]], ids=["direct", "relayed"])
def test_speedtest_measures_it(place: Lab, derper: Derper, options: list[str], direction: str) -> None:
    before = derper.packets()
    wait = [] if options else ["--direct"]
    arguments = ["speedtest", "dev", *wait, "--direction", direction, "--time", "1s", "--output", "json"]
    result = json.loads(place.run(*options, *arguments))
    passed_on = derper.packets() - before

    assert result["overall"]["throughput_mbits"] > 10
    # Ten Mbit/s are about a thousand packets a second: they were derper's, or hardly any were.
    assert passed_on > 500 if options else passed_on < 500


@pytest.mark.parametrize("options", [[], ["--disable-direct-connections"]], ids=["direct", "relayed"])
def test_stock_ssh_and_scp_work(place: Lab, derper: Derper, options: list[str], tmp_path: Path) -> None:
    config = tmp_path / "ssh_config"
    place.run(*options, "config-ssh", "--yes", "--ssh-config-file", str(config))
    environment = place.environment | ({"CODER_DISABLE_DIRECT_CONNECTIONS": "true"} if options else {})
    (tmp_path / "file").write_bytes(payload := bytes(range(256)) * 16384)
    target = place.folder / "copied"
    before = derper.packets()

    copy = ["scp", "-F", str(config), "-q", str(tmp_path / "file"), f"coder.dev:{target}"]
    subprocess.run(copy, env=environment, check=True, timeout=60)
    command = ["ssh", "-F", str(config), "coder.dev", f"cat {target}; exit 3"]
    done = subprocess.run(command, env=environment, capture_output=True, timeout=60, check=False)

    assert (done.returncode, done.stdout == payload) == (3, True), done.stderr
    assert target.read_bytes() == payload
    if options:
        assert derper.packets() - before > 2 * len(payload) // 1500


@pytest.fixture
def second(tmp_path: Path) -> Generator[Derper]:
    with run_derper(tmp_path) as running_derper:
        yield running_derper


def test_two_regions_in_one_map(second: Derper, tmp_path: Path) -> None:
    # The embedded relay seems a thousand times as far, so that both nodes live at derper.
    with running(tmp_path, second, scores={str(EMBEDDED): 1000.0}) as place:
        assert regions(place) == {str(REGION), str(EMBEDDED)}
        report = json.loads(place.run("netcheck"))["derp"]
        assert report["netcheck"]["PreferredDERP"] == REGION
        assert all(region["healthy"] for region in report["regions"].values())
        ping = ["--disable-direct-connections", "ping", "dev", "-n", "2", "--wait", "100ms"]
        assert place.run(*ping).count(f"proxied via DERP({NAME})") == 2

        # Derper dies: the workspace moves to the relay that is left, and can be reached again.
        second.process.kill()
        second.process.wait()
        output = place.run(*ping, "--timeout", "15s", seconds=30)
        assert "proxied via DERP(Coder Embedded Relay)" in output, output
        assert place.run("--disable-direct-connections", "ssh", "dev", "--", "echo moved") == "moved\n"
