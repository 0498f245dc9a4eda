"""Real engines in the networks of users: the path they get, how soon, and why."""

import re

import anyio
import pytest

from warren.netlab import namespace, scenario
from warren.netlab.kinds import KINDS, Path
from warren.netlab.link import Impairment
from warren.netlab.report import Report

missing = namespace.missing()
pytestmark = pytest.mark.skipif(bool(missing), reason=missing)

FIRST_BYTE_SECONDS = 10.0
DIRECT_SECONDS = 15.0
GAP_SECONDS = 45.0
"""Generous: they say that something is stuck, not that the machine is slow."""


def _run(name: str, options: scenario.Options | None = None) -> Report:
    return anyio.run(scenario.run, scenario.choose([name])[0], options or scenario.Options())


PAIRS = (
    # Every kind with the most common one, and what else makes a difference; `make netlab` runs all pairs.
    *(f"{kind.name}+easy" for kind in KINDS),
    *("hard+hard", "public+hard", "full-cone+hard", "restricted+hard", "firewall+hard"),
    *("cgnat+cgnat", "dual+dual", "v6-only+v6-only", "dual+v6-only"),
    *("same-lan", "hairpin", "no-hairpin", "no-stun", "vpn", "vpn-no-stun"),
)
JOBS = 4


@pytest.fixture(scope="module")
def reports() -> dict[str, Report]:
    """What became of all pairs: they wait more than they work, so several run at a time."""
    found = {name: scenario.choose([name])[0] for name in PAIRS}

    async def run() -> list[Report]:
        options = scenario.Options()
        return await scenario.run_all(list(found.values()), options, jobs=JOBS, show=lambda _: None)

    return dict(zip(found, anyio.run(run), strict=True))


@pytest.mark.parametrize("name", PAIRS)
def test_a_pair_gets_the_path_that_physics_allow(name: str, reports: dict[str, Report]) -> None:
    report = reports[name]
    assert report.good, report
    assert report.first_byte_seconds is not None
    assert report.first_byte_seconds < FIRST_BYTE_SECONDS
    if report.expected == Path.DIRECT:
        assert report.direct_seconds is not None
        assert report.direct_seconds < DIRECT_SECONDS
        assert report.endpoint in report.reason


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("easy+v6-only", "the peer has IPv6 addresses only, and this side IPv4 addresses only"),
        ("easy+hard", "the peer's NAT seems to give every destination another port"),
        ("hard+hard", "the NAT on this side gives every destination another port, and the peer's seems to, too"),
        ("easy+udp-blocked", "the peer knows no public address of its own"),
        ("socks-proxy+easy", "the peer knows no public address of its own"),
        ("tls-proxy+easy", "the peer knows no public address of its own"),
        ("no-stun", "neither side knows a public address of its own"),
        ("vpn-no-stun", "neither side knows a public address of its own"),
        ("no-hairpin", "none (has answered yet|answered)"),
    ],
)
def test_a_relayed_pair_says_what_stands_in_the_way(name: str, said: str, reports: dict[str, Report]) -> None:
    """`judge` compares all of the sentence of every pair; here is what a person reads."""
    assert re.search(f"{said}$", reports[_listed(name)].reason), reports[_listed(name)]


def _listed(name: str) -> str:
    return name if name in PAIRS else "+".join(reversed(name.split("+")))


def test_a_bad_line_changes_no_path() -> None:
    bad = Impairment(delay_seconds=0.02, loss=0.01, reorder=0.01, duplicate=0.01, rate_bits_per_second=50e6)
    assert _run("easy+easy", scenario.Options(impairment=bad, seed=11)).good


FAULTS = (
    *("cut", "relay-restart", "relay-lost", "roam", "relayed-roam"),
    *("stun-gone", "stun-back", "region-withdrawn", "region-moved"),
)
LONG = ("flap", "relayed-flap", "suspended", "relayed-suspended")
"""These take minutes: `make netlab` runs them."""


def test_every_fault_is_tried_here_or_is_long() -> None:
    catalogue = [name for name in scenario.catalogue() if "+" not in name and name not in PAIRS]
    assert sorted(catalogue) == sorted((*FAULTS, *LONG, "suspended-briefly"))


@pytest.mark.parametrize("name", FAULTS)
def test_a_stream_survives(name: str) -> None:
    report = _run(name)
    assert report.good, report
    assert report.received_bytes
    assert report.longest_gap_seconds is not None
    assert report.longest_gap_seconds < GAP_SECONDS


def test_connections_of_a_process_that_was_stopped_go_on() -> None:
    report = _run("suspended-briefly")
    assert report.good, report
    assert report.received_bytes
