import pytest

from warren.cli import target
from warren.cli.target import Target


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("dev", Target("dev")),
        ("alice/dev", Target("dev", owner="alice")),
        ("dev.main", Target("dev", agent="main")),
        ("alice/dev.main", Target("dev", owner="alice", agent="main")),
        ("alice--dev", Target("dev", owner="alice")),
        ("alice--dev--main", Target("dev", owner="alice", agent="main")),
        ("alice/dev/main", Target("dev", owner="alice", agent="main")),
        ("main.dev.alice", Target("dev", owner="alice", agent="main")),
        ("my-dev", Target("my-dev")),
        ("a/b/c/d", Target("a/b/c/d")),
    ],
)
def test_reads_names(text: str, expected: Target) -> None:
    assert target.parse(text) == expected


@pytest.mark.parametrize(
    ("text", "prefix", "suffix", "expected"),
    [
        ("coder.dev", "coder.", "", Target("dev")),
        ("dev.coder", "", "coder", Target("dev")),
        ("main.dev.alice.coder", "", "coder", Target("dev", owner="alice", agent="main")),
        ("encoder", "", "coder", Target("encoder")),
        ("coder.alice--dev", "coder.", "coder", Target("dev", owner="alice")),
    ],
)
def test_reads_host_names(text: str, prefix: str, suffix: str, expected: Target) -> None:
    assert target.parse(text, prefix=prefix, suffix=suffix) == expected


def test_path_is_what_the_api_is_asked_for() -> None:
    assert Target("dev").path == "dev"
    assert Target("dev", owner="alice").path == "alice/dev"
