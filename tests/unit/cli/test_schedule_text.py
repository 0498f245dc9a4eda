import pytest

from warren.cli import schedule_text
from warren.errors import Invalid


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["9:30AM", "Mon-Fri", "Europe/Berlin"], "CRON_TZ=Europe/Berlin 30 9 * * mon-fri"),
        (["21:05", "UTC"], "CRON_TZ=UTC 5 21 * * *"),
        (["12am", "*", "UTC"], "CRON_TZ=UTC 0 0 * * *"),
        (["12pm", "1,3,5", "UTC"], "CRON_TZ=UTC 0 12 * * 1,3,5"),
        (["7", "UTC"], "CRON_TZ=UTC 0 7 * * *"),
        (["manual"], None),
    ],
)
def test_reads_schedules(words: list[str], expected: str | None) -> None:
    assert schedule_text.cron(words) == expected


def test_takes_the_local_zone_unless_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    assert schedule_text.cron(["8:00"]) == "CRON_TZ=Asia/Tokyo 0 8 * * *"


@pytest.mark.parametrize(
    "words", [[], ["25:00"], ["13pm"], ["0am"], ["9:60"], ["nine"], ["9:00", "Someday"], ["9:00", "mon", "UTC", "x"]]
)
def test_refuses_others(words: list[str]) -> None:
    with pytest.raises(Invalid):
        schedule_text.cron(words)


@pytest.mark.parametrize(
    ("cron", "expected"),
    [
        ("CRON_TZ=Europe/Berlin 30 9 * * mon-fri", "9:30AM Mon-Fri (Europe/Berlin)"),
        ("0 0 * * *", "12:00AM daily (UTC)"),
        ("CRON_TZ=UTC 5 21 * * 1-5", "9:05PM Mon-Fri (UTC)"),
        ("@daily", "@daily"),
    ],
)
def test_writes_schedules(cron: str, expected: str) -> None:
    assert schedule_text.text(cron) == expected
