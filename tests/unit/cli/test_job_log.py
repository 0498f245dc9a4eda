from datetime import UTC, datetime, timedelta

from inline_snapshot import snapshot

from warren.cli.job_log import LogView
from warren.cli.ui import Terminal
from warren.sdk.types.jobs import ProvisionerJobLog

PLAIN = Terminal(input_tty=False, output_tty=False, error_tty=False, colour=False)
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


def log(seconds: float, stage: str, output: str = "", level: str = "info") -> ProvisionerJobLog:
    at = BEGAN + timedelta(seconds=seconds)
    return ProvisionerJobLog(id=1, created_at=at, log_source="provisioner", log_level=level, stage=stage, output=output)


def test_stages_have_times_and_lines() -> None:
    view = LogView(PLAIN)
    printed: list[str] = []
    for line in (
        log(0, "Setting up"),
        log(0.25, "Planning", "Terraform 1.11.4"),
        log(0.5, "Planning", "secret", level="debug"),
        log(0.5, "Planning", "two\nlines", level="error"),
        log(1.75, "Applying", "done"),
    ):
        printed += view.line(line)
    printed += view.end_stage(BEGAN + timedelta(seconds=65))
    assert "\n".join(printed) == snapshot("""\
==> ⧗ Setting up
=== ✔ Setting up [250ms]
==> ⧗ Planning
Terraform 1.11.4
two
lines
=== ✔ Planning [1.5s]
==> ⧗ Applying
done
=== ✔ Applying [1m3.25s]\
""")


def test_debug_lines_are_shown_when_wanted() -> None:
    assert LogView(PLAIN, verbose=True).line(log(0, "", "detail", level="debug")) == ["detail"]
    assert LogView(PLAIN).line(log(0, "", "detail", level="trace")) == []


def test_a_failed_stage_is_marked() -> None:
    view = LogView(PLAIN)
    view.line(log(0, "Planning"))
    assert view.end_stage(BEGAN, failed=True) == ["=== ✘ Planning [0s]"]
    assert view.end_stage(BEGAN) == []
