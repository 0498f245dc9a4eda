import pytest

from warren.cli import speed


def test_intervals_close_at_the_first_block_after_a_second() -> None:
    meter = speed.Meter()
    for elapsed in (0.4, 0.9, 1.2, 1.9, 2.3):
        meter.block(elapsed)
    overall = meter.finish(2.305)
    assert [(item.start_seconds, item.end_seconds, item.moved_bytes) for item in meter.intervals] == [
        (0.0, 1.2, 3 * speed.BLOCK_BYTES),
        (1.2, 2.3, 2 * speed.BLOCK_BYTES),
    ]
    assert overall == speed.Interval(0.0, 2.305, 5 * speed.BLOCK_BYTES)


def test_a_last_interval_counts_when_it_is_long_enough() -> None:
    meter = speed.Meter()
    meter.block(1.0)
    meter.finish(1.5)
    assert len(meter.intervals) == 2


def test_mbits() -> None:
    assert speed.Interval(1.0, 3.0, 2_000_000).mbits == pytest.approx(8.0)
    assert speed.Interval(1.0, 1.0, 5).mbits == 0.0


def test_rows_and_json() -> None:
    one = speed.Interval(0.0, 1.0, 1_000_000)
    measured = speed.Measured(one, [one])
    assert measured.rows()[1] == ["0.00-1.00 sec", "8.0000 Mbits/sec"]
    assert measured.json()["overall"] == {
        "start_time_seconds": 0.0,
        "end_time_seconds": 1.0,
        "throughput_mbits": pytest.approx(8.0),
    }


def test_a_board_counts_streams_together_and_directions_apart() -> None:
    now = [100.0]
    board = speed.Board(["down", "up"], lambda: now[0])
    board.start()
    for at, direction in ((100.4, "down"), (100.5, "up"), (101.2, "down")):
        now[0] = at
        board.start()  # a stream that begins later does not begin the test anew
        assert board.block(direction) == pytest.approx(at - 100.0)
    board.end("down")
    now[0] = 101.5
    board.end("up")
    total, each = board.finish()
    assert total.overall.moved_bytes == 3 * speed.BLOCK_BYTES
    assert total.overall.end_seconds == pytest.approx(1.5)
    assert {name: measured.overall.moved_bytes for name, measured in each.items()} == {
        "down": 2 * speed.BLOCK_BYTES,
        "up": speed.BLOCK_BYTES,
    }
    assert each["down"].overall.end_seconds == pytest.approx(1.2)
