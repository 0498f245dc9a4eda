"""What a node's description says of where else it can be found."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from warren.net.node import NodeInfo


def described(latencies: dict[str, float], *, home: int = 1) -> NodeInfo:
    return NodeInfo(
        id=1,
        as_of=datetime(2026, 1, 1, tzinfo=UTC),
        key=b"k" * 32,
        disco_key=b"d" * 32,
        preferred_region=home,
        addresses=(),
        allowed_ips=(),
        region_latency_seconds=latencies,
    )


@pytest.mark.parametrize(
    ("latencies", "near"),
    [
        ({}, ()),
        ({"1-v4": 0.01}, ()),
        ({"1-v4": 0.01, "2-v4": 0.05, "2-v6": 0.02, "3-v4": 0.03}, (2, 3)),
        ({"4-v4": 0.01, "3-v4": 0.01, "2-v4": 0.01}, (2, 3)),
        ({"x-v4": 0.01, "0-v4": 0.01, "70000-v4": 0.01, "-": 0.01, "9": 0.01}, (9,)),
    ],
)
def test_near_regions_are_the_nearest_but_home(latencies: dict[str, float], near: tuple[int, ...]) -> None:
    assert described(latencies).near_regions() == near


def test_only_the_time_may_differ_between_descriptions_that_say_the_same() -> None:
    node = described({"1-v4": 0.01})
    later = replace(node, as_of=node.as_of + timedelta(seconds=1))
    assert later.says_the_same_as(node)
    assert not node.says_the_same_as(None)
    assert not replace(later, preferred_region=2).says_the_same_as(node)
    assert not replace(later, endpoints=("192.0.2.1:1",)).says_the_same_as(node)
