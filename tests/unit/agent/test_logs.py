"""Script output on its way: lines, batches and limits."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warren.agent.logs import BATCH_BYTES, QUEUE_BYTES, LineSplitter, LogLevel, LogLine, LogQueue, clean

AT = datetime(2026, 1, 1, tzinfo=UTC)
SOURCE, OTHER = UUID(int=1), UUID(int=2)


def line(text: str) -> LogLine:
    return LogLine(AT, text, LogLevel.INFO)


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"plain", "plain"),
        ("grüße".encode(), "grüße"),
        (b"a\xff\xfeb", "a❌b"),
        (b"a\0\0b", "a❌❌b"),
        (b"\xc3", "❌"),
    ],
)
def test_what_is_not_text_is_marked(raw: bytes, text: str) -> None:
    assert clean(raw) == text


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=6))
def test_lines_do_not_depend_on_reads(data: bytes, cuts: list[int]) -> None:
    whole, pieces = LineSplitter(), LineSplitter()
    expected = whole.feed(data) + whole.flush()
    edges = [0, *sorted(cut for cut in cuts if cut <= len(data)), len(data)]
    found = [text for start, end in itertools.pairwise(edges) for text in pieces.feed(data[start:end])]
    assert found + pieces.flush() == expected


def test_carriage_returns_before_the_line_end_vanish() -> None:
    splitter = LineSplitter()
    assert splitter.feed(b"a\r\nb\rc\n") == ["a", "b\rc"]
    assert splitter.feed(b"rest\r") == []
    assert splitter.flush() == ["rest"]
    assert splitter.flush() == []


def test_a_source_is_sent_once_a_second() -> None:
    queue = LogQueue()
    queue.add(SOURCE, [line("one")])
    batch = queue.next_batch(0.0)
    assert batch is not None
    queue.confirm(batch, 0.0)
    queue.add(SOURCE, [line("two")])
    assert queue.next_batch(0.9) is None
    assert queue.next_batch(1.0) is not None
    queue.add(OTHER, [line("other")])
    queue.flush()
    assert queue.next_batch(0.1) is not None


def test_an_unconfirmed_batch_is_offered_again() -> None:
    queue = LogQueue()
    queue.add(SOURCE, [line("one")])
    first = queue.next_batch(0.0)
    queue.add(SOURCE, [line("two")])
    second = queue.next_batch(0.0)
    assert first is not None
    assert second is not None
    assert [each.text for each in second.lines] == ["one", "two"]
    queue.confirm(second, 0.0)
    assert queue.empty


def test_a_batch_has_a_limit_and_a_longer_line_is_dropped() -> None:
    queue = LogQueue()
    half = "x" * (BATCH_BYTES // 2)
    queue.add(SOURCE, [line("y" * BATCH_BYTES), line(half), line(half)])
    batch = queue.next_batch(0.0)
    assert batch is not None
    assert [each.text for each in batch.lines] == [half]


def test_the_line_that_crosses_the_limit_is_kept_and_the_next_is_not() -> None:
    queue = LogQueue()
    big = "x" * (QUEUE_BYTES - 100)
    queue.add(SOURCE, [line(big), line("y" * 200), line("dropped")])
    texts: list[str] = []
    while batch := queue.next_batch(float(len(texts))):
        texts += [each.text[:1] for each in batch.lines]
        queue.confirm(batch, float(len(texts) - 1))
    assert texts == ["x", "y"]


def test_after_an_overflow_nothing_is_queued() -> None:
    queue = LogQueue()
    queue.add(SOURCE, [line("one")])
    queue.overflow()
    queue.add(SOURCE, [line("two")])
    assert queue.empty
    assert queue.next_batch(10.0) is None
