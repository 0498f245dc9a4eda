"""What a scenario found, judged and shown."""

import dataclasses

from warren.netlab.kinds import BY_NAME, Expected, Path
from warren.netlab.report import HEADINGS, Outcome, Report, Seen, judge, misjudged, row, verdict

OUTSIDE = "198.51.100.11"
HOME = Seen(udp=True, ipv4=True, ipv6=False, mapping_varies=False, outside=OUTSIDE)
DIRECT = Outcome(Path.DIRECT, "198.51.100.12:4000", "198.51.100.12:4000 answered", 0.1234, 2.05, 1.5e9, (HOME, HOME))
RELAYED = Outcome(Path.RELAY, "", "no endpoint of the peer has answered yet", 0.2, None, 5e8, (HOME, HOME))


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
    mute = dataclasses.replace(RELAYED, reason="")
    assert judge("hard+hard", Expected(Path.RELAY, ""), mute).problems == (
        "the engine's reason does not explain the path: ''",
    )


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
