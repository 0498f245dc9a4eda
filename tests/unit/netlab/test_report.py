"""What a scenario found, judged and shown."""

import dataclasses
import re

from warren.netlab.kinds import BY_NAME, Expected, Path, expected
from warren.netlab.report import HEADINGS, Outcome, Report, Seen, judge, misjudged, row, verdict

OUTSIDE = "198.51.100.11"
HOME = Seen(udp=True, ipv4=True, ipv6=False, mapping_varies=False, outside=OUTSIDE)
DIRECT = Outcome(Path.DIRECT, "198.51.100.12:4000", "198.51.100.12:4000 answered", 0.1234, 2.05, 1.5e9, (HOME, HOME))
SILENT = "3 endpoints of the peer were asked, up to 6 times each, and none has answered yet"
RELAYED = Outcome(Path.RELAY, "", SILENT, 0.2, None, 5e8, (HOME, HOME))


def test_what_is_as_expected_is_good() -> None:
    report = judge("easy+easy", Expected(Path.DIRECT, "both send first"), DIRECT)
    assert report.good
    assert row(report) == (
        "easy+easy",
        "direct",
        "direct",
        "0.12 s",
        "2.05 s",
        "1,500 Mbit/s",
        "198.51.100.12:4000 answered",
    )
    assert len(row(report)) == len(HEADINGS)


def test_another_path_is_told() -> None:
    report = judge("easy+easy", Expected(Path.DIRECT, "both send first"), RELAYED)
    assert report.problems == ("the path is relay, not direct",)
    assert row(report)[2] == "relay !"


def test_a_reason_that_explains_nothing_is_told() -> None:
    wanted = expected(BY_NAME["hard"], BY_NAME["easy"])
    own_nat = "; the NAT on this side gives every destination another port"
    assert judge("hard+easy", wanted, dataclasses.replace(RELAYED, reason=SILENT + own_nat)).good
    for reason in ("", SILENT, SILENT + own_nat + ", and the peer's seems to, too"):
        told = judge("hard+easy", wanted, dataclasses.replace(RELAYED, reason=reason))
        assert told.problems == (f"the engine's reason does not explain the path: {reason!r}",)
    elsewhere = dataclasses.replace(DIRECT, reason="198.51.100.99:1 answered in 1 ms")
    assert not judge("easy+easy", expected(BY_NAME["easy"], BY_NAME["easy"]), elsewhere).good


def test_what_must_be_said_follows_from_both_networks() -> None:
    rows = {
        ("v6-only", "easy"): "the peer has IPv4 addresses only, and this side IPv6 addresses only",
        ("v6-only", "https-only"): "the peer has IPv4 addresses only, and this side IPv6 addresses only",
        ("easy", "hard"): f"{SILENT}; the peer's NAT seems to give every destination another port",
        ("easy", "udp-blocked"): f"{SILENT}; the peer knows no public address of its own",
        ("udp-blocked", "easy"): f"{SILENT}; this side knows no public address of its own",
        ("udp-blocked", "http-proxy"): f"{SILENT}; neither side knows a public address of its own",
    }
    for (one, other), reason in rows.items():
        assert re.fullmatch(expected(BY_NAME[one], BY_NAME[other]).reason, reason), (one, other)


def test_a_node_that_knows_its_network_is_right() -> None:
    assert misjudged(BY_NAME["easy"], OUTSIDE, HOME) == []
    assert misjudged(BY_NAME["hard"], OUTSIDE, dataclasses.replace(HOME, mapping_varies=True)) == []
    blocked = Seen(udp=False, ipv4=True, ipv6=False, mapping_varies=None, outside="")
    assert misjudged(BY_NAME["udp-blocked"], OUTSIDE, blocked) == []
    assert misjudged(BY_NAME["v6-only"], "", dataclasses.replace(blocked, udp=True, ipv4=False, ipv6=True)) == []


def test_what_a_node_gets_wrong_is_told() -> None:
    assert misjudged(BY_NAME["hard"], OUTSIDE, HOME) == [
        "a node behind hard took mapping varies for False, not True",
    ]
    elsewhere = dataclasses.replace(HOME, outside="192.0.2.1", ipv6=True)
    assert len(misjudged(BY_NAME["easy"], OUTSIDE, elsewhere)) == 2


def test_the_verdict_names_what_is_not_as_expected() -> None:
    good, bad = Report(scenario="cut"), Report(scenario="roam", problems=("the stream is silent",))
    assert verdict([good]) == "1 of 1 as expected"
    assert verdict([good, bad]) == "1 of 2 not as expected: roam"
