"""Scripts and metadata with real processes."""

# A test may block for a moment, and has nothing to wait on outside itself.
# ruff: noqa: ASYNC110, ASYNC240

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid4

import anyio
import pytest

from tests.integration.agent.conftest import Workspace, alive
from warren.agent import scripts as scripts_module
from warren.agent.logs import LogLevel
from warren.agent.manifest import MetadataDescription, Script
from warren.agent.metadata import MetadataCollector
from warren.agent.scripts import Folders, ScriptRun, ScriptRunner, ScriptStatus, Stage
from warren.clock import SystemClock
from warren.errors import Invalid

pytestmark = pytest.mark.anyio


@dataclass
class Bench:
    """A runner and what came out of it."""

    workspace: Workspace
    folders: Folders
    lines: list[tuple[str, LogLevel]] = field(default_factory=list[tuple[str, LogLevel]])
    runs: list[ScriptRun] = field(default_factory=list[ScriptRun])

    def runner(self, *scripts: Script) -> ScriptRunner:
        runner = ScriptRunner(
            scripts,
            commands=self.workspace.commands,
            children=self.workspace.children,
            folders=self.folders,
            home=str(self.workspace.home),
            write_lines=self._write,
            report=self.runs.append,
            clock=SystemClock(),
        )
        runner.prepare()
        return runner

    def _write(self, source_id: UUID, lines: Iterable[str], level: LogLevel) -> None:
        self.lines += [(line, level) for line in lines]


@pytest.fixture
def bench(workspace: Workspace, tmp_path: Path) -> Bench:
    (tmp_path / "logs").mkdir()
    return Bench(workspace, Folders(tmp_path / "logs", tmp_path / "data"))


def script(text: str, *, timeout: float = 0, log_path: str = "", cron: str = "", stop: bool = False) -> Script:
    return Script(
        uuid4(),
        uuid4(),
        text,
        timeout=timedelta(seconds=timeout),
        log_path=log_path,
        cron=cron,
        on_start=not stop and not cron,
        on_stop=stop,
    )


async def test_output_status_and_files(bench: Bench) -> None:
    one = script("echo out; echo err >&2; printf last; echo $CODER_SCRIPT_DATA_DIR > ~/data")
    assert await bench.runner(one).run_stage(Stage.START) is ScriptStatus.OK
    assert sorted(bench.lines) == [("err", LogLevel.ERROR), ("last", LogLevel.INFO), ("out", LogLevel.INFO)]
    run = bench.runs[0]
    assert (run.script_id, run.stage, run.exit_code, run.status) == (one.script_id, Stage.START, 0, ScriptStatus.OK)
    assert run.started_at <= run.ended_at
    copy = bench.folders.logs / f"coder-script-{one.log_source_id}.log"
    assert sorted(copy.read_text().splitlines()) == ["err", "last", "out"] or "lasterr" in copy.read_text()
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    folder = Path((bench.workspace.home / "data").read_text().strip())
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


async def test_a_second_run_writes_over_the_first(bench: Bench) -> None:
    log_path = str(bench.workspace.home / "my.log")
    await bench.runner(script("printf aaaaaa", log_path=log_path)).run_stage(Stage.START)
    await bench.runner(script("printf bb", log_path=log_path)).run_stage(Stage.START)
    assert Path(log_path).read_text() == "bbaaaa"


async def test_the_first_failure_is_the_stages(bench: Bench) -> None:
    runner = bench.runner(script("exit 3"), script("sleep 0.3; exit 0"), script("true", stop=True))
    assert await runner.run_stage(Stage.START) is ScriptStatus.EXIT_FAILURE
    assert {run.exit_code for run in bench.runs} == {0, 3}
    assert await runner.run_stage(Stage.STOP) is ScriptStatus.OK
    assert len(bench.runs) == 3


async def test_a_timeout_ends_the_whole_group(bench: Bench) -> None:
    mark = bench.workspace.home / "pid"
    runner = bench.runner(script(f"sleep 600 & echo $! > {mark}; wait", timeout=0.3))
    with anyio.fail_after(20):
        assert await runner.run_stage(Stage.START) is ScriptStatus.TIMED_OUT
    assert not alive(int(mark.read_text()))


async def test_output_held_open_by_a_child(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scripts_module, "DRAIN_SECONDS", 0.3)
    with anyio.fail_after(20):
        assert await bench.runner(script("sleep 5 & echo done")).run_stage(Stage.START) is ScriptStatus.PIPES_LEFT_OPEN
    assert ("done", LogLevel.INFO) in bench.lines
    assert any(level is LogLevel.WARN for _, level in bench.lines)


async def test_a_script_that_cannot_start_is_reported(bench: Bench) -> None:
    runner = bench.runner(script("#!/no/such/interpreter\ntrue"))
    assert await runner.run_stage(Stage.START) is ScriptStatus.EXIT_FAILURE
    assert bench.runs[0].exit_code == 255
    assert "could not run script" in bench.lines[0][0]


async def test_a_kernel_without_pidfds(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(pid: int) -> int:
        raise OSError(errno.ENOSYS, "no such call")

    monkeypatch.setattr(os, "pidfd_open", refuse)
    runner = bench.runner(script("sleep 0.1; exit 3"), script("sleep 0.1; echo fine"))
    with anyio.fail_after(20):
        assert await runner.run_stage(Stage.START) is ScriptStatus.EXIT_FAILURE
    assert ("fine", LogLevel.INFO) in bench.lines


async def test_scripts_run_by_the_clock(bench: Bench) -> None:
    mark = bench.workspace.home / "ticks"
    runner = bench.runner(script(f"echo x >> {mark}", cron="* * * * * *"))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(runner.run_by_the_clock)
        with anyio.fail_after(20):
            while len(bench.runs) < 2:
                await anyio.sleep(0.02)
        tasks.cancel_scope.cancel()
    assert {run.stage for run in bench.runs} == {Stage.CRON}
    assert len(mark.read_text().split()) >= 2


async def test_a_bad_cron_expression_is_refused_before_anything_runs(bench: Bench) -> None:
    with pytest.raises(Invalid):
        bench.runner(script("true", cron="not a schedule"))


async def test_a_script_sees_programs_that_scripts_install(bench: Bench) -> None:
    await bench.runner(
        script('echo "#!/bin/sh" > $CODER_SCRIPT_BIN_DIR/x; chmod +x $CODER_SCRIPT_BIN_DIR/x')
    ).run_stage(Stage.START)
    assert (bench.folders.bin / "x").exists()
    assert stat.S_IMODE(bench.folders.bin.stat().st_mode) == 0o700


@pytest.mark.parametrize(
    ("text", "timeout", "value", "error"),
    [
        ("echo fine", 0, "fine\n", ""),
        ("echo out; echo err >&2; exit 1", 0, "out\nerr\n", "run cmd: exit status 1"),
        ("echo early; exec sleep 60", 0.3, "early\n", "run cmd: timed out after 0.3s"),
        ("kill -9 $$", 0, "", "run cmd: signal: Killed"),
        ("head -c 20000 /dev/zero | tr '\\0' x", 0, "x" * 10240, "output of 20000 bytes truncated to 10240 bytes"),
    ],
)
async def test_metadata(workspace: Workspace, text: str, timeout: float, value: str, error: str) -> None:
    collector = MetadataCollector(workspace.commands, workspace.children, SystemClock())
    with anyio.fail_after(20):
        await collector.run([MetadataDescription("key", text, timeout=timedelta(seconds=timeout))])
    result = collector.take()["key"]
    assert (result.value, result.error) == (value, error)
    assert collector.take() == {}


async def test_metadata_repeats_on_its_interval(workspace: Workspace) -> None:
    collector = MetadataCollector(workspace.commands, workspace.children, SystemClock())
    count = workspace.home / "count"
    description = MetadataDescription("k", f"echo x >> {count}; wc -l < {count}", interval=timedelta(seconds=0.3))
    async with anyio.create_task_group() as tasks:
        started = anyio.current_time()
        tasks.start_soon(collector.run, [description])
        with anyio.fail_after(20):
            while not count.exists() or len(count.read_text().split()) < 4:
                await anyio.sleep(0.01)
        assert anyio.current_time() - started >= 0.9, "never faster than the interval"
        tasks.cancel_scope.cancel()


async def test_unsent_metadata_is_given_back_but_newer_wins(workspace: Workspace) -> None:
    collector = MetadataCollector(workspace.commands, workspace.children, SystemClock())
    await collector.run([MetadataDescription("old", "echo 1"), MetadataDescription("both", "echo 1")])
    taken = collector.take()
    await collector.run([MetadataDescription("both", "echo 2")])
    collector.give_back(taken)
    assert {key: result.value for key, result in collector.take().items()} == {"old": "1\n", "both": "2\n"}
