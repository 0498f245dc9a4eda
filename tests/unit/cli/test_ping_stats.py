import pytest

from warren.cli import ping_stats
from warren.cli.ping_stats import Answer, Summary


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (Answer(1, "", 0.0123, True, "192.0.2.1:5"), "pong from w p2p via 192.0.2.1:5 in 12ms"),
        (Answer(1, "", 0.00034, True, "192.0.2.1:5"), "pong from w p2p via 192.0.2.1:5 in 340µs"),
        (Answer(1, "", 1.234, region="Relay"), "pong from w proxied via DERP(Relay) in 1.234s"),
        (Answer(1, "", 0.5), "pong from w proxied via DERP(unknown) in 500ms"),
        (Answer(1, "", error="timeout"), 'ping to "w" timed out '),
        (Answer(1, "", error="oops"), 'ping to "w" failed oops'),
    ],
)
def test_lines(answer: Answer, expected: str) -> None:
    assert ping_stats.line("w", answer) == expected


def test_summary() -> None:
    summary = Summary("w", [Answer(1, "t", 0.001), Answer(2, "t", error="timeout"), Answer(3, "t", 0.003, True, "e")])
    assert summary.figures() == {
        "total": 3,
        "successful": 2,
        "min_ms": 1.0,
        "avg_ms": 2.0,
        "max_ms": 3.0,
        "variance_ms": pytest.approx(1.0),
    }
    assert summary.direct
    assert summary.rows()[1] == ["w", "3", "2", "1.000ms", "2.000ms", "3.000ms", "1.000ms"]


def test_summary_without_answers() -> None:
    summary = Summary("w", [Answer(1, "t", error="timeout")])
    assert not summary.direct
    assert summary.rows()[1][3:] == ["-", "-", "-", "-"]
    assert summary.figures()["avg_ms"] is None
