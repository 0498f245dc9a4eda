"""`warren doctor` as a user runs it: five lines where all is well, the cause and who has to act where it is not."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from benchmarks.lab import Lab, free_port, lab

CLOSED = 9  # a port where nothing listens: "discard" is long out of use


class Network:
    """A server of its own that stories start anew with other settings of the network."""

    def __init__(self, place: Lab, stun_port: int) -> None:
        self.place = place
        self.healthy = (f"--stun-address=127.0.0.1:{stun_port}",)
        self._now = self.healthy
        place.start(*self.healthy)

    def become(self, *arguments: str) -> Lab:
        """Start the server in another way, unless it runs so; wait until the agent is back."""
        if arguments != self._now:
            self.place.stop()
            self.place.start(*arguments)
            self._now = arguments
        self.place.run("ssh", "dev", "--", "true", seconds=60)  # which waits for the agent
        return self.place


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    """A server, a template and a workspace."""
    with lab() as place:
        made = Network(place, free_udp_port())
        place.login()
        place.template()
        place.workspace()
        yield made


@pytest.fixture
def healthy(network: Network) -> Lab:
    """The server with nothing wrong about it."""
    return network.become(*network.healthy)


def free_udp_port() -> int:
    """Find a UDP port that nobody uses."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def doctor(place: Lab, *words: str, status: int = 0) -> str:
    done = subprocess.run(
        ["warren", *words], env=place.environment, capture_output=True, text=True, timeout=90, check=False
    )
    assert done.returncode == status, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def examined(place: Lab, *words: str, status: int = 0) -> Any:  # Any: decoded JSON
    return json.loads(doctor(place, *words, "--output", "json", status=status))


def codes(place: Lab, *words: str, status: int = 0) -> set[str]:
    found = examined(place, *words, status=status)
    assert found["healthy"] == (status == 0)
    return {finding["code"] for finding in found["findings"]}


def test_a_healthy_network_in_five_lines(healthy: Lab) -> None:
    lines = doctor(healthy, "doctor", "dev").splitlines()
    assert len(lines) == 5, lines
    assert all(line.startswith("✔") for line in lines), lines
    assert lines[4].startswith("✔ path: direct to ")
    alone = doctor(healthy, "doctor").splitlines()
    assert len(alone) == 5, alone
    assert alone[4] == "Everything works."


def test_the_json_has_the_whole_report(healthy: Lab) -> None:
    found = examined(healthy, "doctor", "dev")
    assert (found["healthy"], found["findings"]) == (True, [])
    assert {pair["way"] for pair in found["pairs"]} == {"out", "in"}
    assert all(
        {"endpoint", "pings_sent", "pongs_received", "cause", "fix", "who"} <= pair.keys() for pair in found["pairs"]
    )
    report = found["report"]
    assert report["stun"][0]["mapped"]
    assert report["relays"][0]["latency_seconds"] > 0
    assert report["workspace"]["report"]["network"]["udp"]
    assert report["workspace"]["path"]["direct"]


def test_direct_connections_turned_off_here(healthy: Lab) -> None:
    text = doctor(healthy, "--disable-direct-connections", "doctor", "dev")
    assert "direct-disabled-here" in text
    assert "who:  you" in text
    assert "path: by relay Coder Embedded Relay" in text


def test_a_workspace_that_does_not_run_and_one_that_is_not_there(healthy: Lab) -> None:
    healthy.run("stop", "dev", "--yes")
    assert codes(healthy, "doctor", "dev", status=1) == {"workspace-not-running"}
    healthy.run("start", "dev", "--yes")
    doctor(healthy, "doctor", "nobody", status=1)


def test_not_signed_in_and_no_server(healthy: Lab) -> None:
    assert codes(healthy, "--token", "no-such-token", "doctor", status=1) == {"not-signed-in"}
    assert codes(healthy, "--url", f"http://127.0.0.1:{free_port()}", "doctor", status=1) == {"server-unreachable"}
    assert codes(healthy, "--url", "http://warren.invalid", "doctor", status=1) == {"dns-failed"}
    assert codes(healthy, "--url", healthy.url.replace("http:", "https:"), "doctor", status=1) == {"tls-failed"}


def test_no_stun_server(network: Network) -> None:
    place = network.become("--stun-address=")
    assert codes(place, "doctor", "dev") == {"no-stun"}


def test_direct_connections_turned_off_by_the_server(network: Network) -> None:
    text = doctor(network.become("--block-direct-connections"), "doctor", "dev")
    assert "direct-disabled-by-server" in text
    assert "who:  the operator of the server" in text


def test_stun_servers_that_are_gone(network: Network) -> None:
    place = network.become("--stun-address=", f"--derp-server-stun-addresses=127.0.0.1:{CLOSED}")
    found = examined(place, "doctor", "dev")
    assert [finding["code"] for finding in found["findings"]] == ["stun-unreachable"]
    assert "refused" in found["findings"][0]["evidence"][0]


def test_a_relay_that_is_down(network: Network, tmp_path: Path) -> None:
    node = {"Name": "7a", "RegionID": 7, "HostName": "127.0.0.1", "DERPPort": CLOSED, "ForceHTTP": True, "STUNPort": -1}
    region = {"RegionID": 7, "RegionCode": "gone", "RegionName": "Gone", "Nodes": [node]}
    path = tmp_path / "map.json"
    path.write_text(json.dumps({"Regions": {"7": region}}))
    text = doctor(network.become(*network.healthy, f"--derp-config-path={path}"), "doctor", "dev")
    assert "⚠ relay-unreachable" in text
    assert "Gone (http://127.0.0.1:9/derp): 127.0.0.1 port 9: Connection refused" in text
    assert "relays: 1 of 2 reachable" in text


def test_netcheck_in_sentences_and_as_json(healthy: Lab) -> None:
    text = doctor(healthy, "netcheck", "--output", "text")
    assert "by upgrade and by WebSocket" in text
    assert text.endswith("Everything works.\n")
    report = json.loads(doctor(healthy, "netcheck"))
    assert report["derp"]["healthy"]
    assert report["derp"]["netcheck"]["UDP"] is True
    (node,) = report["derp"]["regions"]["999"]["node_reports"]
    assert (node["can_exchange_messages"], node["stun"]["CanSTUN"]) == (True, True)
    assert report["interfaces"]["interfaces"]


def test_ping_explains_each_endpoint(healthy: Lab) -> None:
    done = subprocess.run(
        ["warren", "ping", "-v", "dev", "-n", "3"],
        env=healthy.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "From here to the agent:" in done.stderr
    assert "From the agent to here:" in done.stderr
    assert "chosen: direct" in done.stderr
    relayed = json.loads(doctor(healthy, "--disable-direct-connections", "ping", "dev", "-n", "1", "--output", "json"))
    assert relayed["path"]["direct"] is False
    assert [finding["code"] for finding in relayed["findings"]] == ["direct-disabled-here"]


def test_a_speedtest_both_ways_with_streams_and_packets(healthy: Lab, tmp_path: Path) -> None:
    pcap = tmp_path / "tunnel.pcap"
    words = ("--time", "1s", "--direction", "both", "--streams", "2", "--output", "json", "--pcap-file", str(pcap))
    found = json.loads(doctor(healthy, "speedtest", "dev", *words))
    assert set(found["directions"]) == {"down", "up"}
    assert all(found["directions"][way]["overall"]["throughput_mbits"] > 1 for way in found["directions"])
    assert found["path"]["reason"]
    assert pcap.read_bytes()[:4] in {b"\xd4\xc3\xb2\xa1", b"\xa1\xb2\xc3\xd4", b"\x4d\x3c\xb2\xa1"}
