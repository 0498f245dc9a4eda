"""Run the scripts of a template: when the workspace starts, when it stops, and by the clock."""

from __future__ import annotations

import os
import signal
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import partial
from pathlib import Path
from uuid import UUID

import anyio
import structlog

from warren.agent.children import Child, Children
from warren.agent.commands import CommandFactory
from warren.agent.cron import next_run, pause_seconds
from warren.agent.expansion import expand_home, expand_variables
from warren.agent.logs import LineSplitter, LogLevel
from warren.agent.manifest import Script
from warren.agent.pipes import Pipe, read_block
from warren.clock import Clock
from warren.errors import WarrenError

log = structlog.get_logger()

DRAIN_SECONDS = 10.0
"""How long output may stay open after its program ended, or was told to."""
UNKNOWN_EXIT_CODE = 255
_PIPES_LEFT_OPEN = "WARNING: script exited successfully, but output pipes were not closed after 10s.\n"


class Stage(StrEnum):
    """Why a script runs."""

    START = "start"
    STOP = "stop"
    CRON = "cron"


class ScriptStatus(StrEnum):
    """How a script ended."""

    OK = "ok"
    EXIT_FAILURE = "exit_failure"
    TIMED_OUT = "timed_out"
    PIPES_LEFT_OPEN = "pipes_left_open"


@dataclass(frozen=True, slots=True)
class ScriptRun:
    """One run that ended."""

    script_id: UUID
    stage: Stage
    started_at: datetime
    ended_at: datetime
    exit_code: int
    status: ScriptStatus


@dataclass(frozen=True, slots=True)
class Folders:
    """Where scripts keep what they write."""

    logs: Path
    base: Path
    """The folder of all scripts' data."""

    @property
    def bin(self) -> Path:
        """The folder for programs that scripts install; first on every PATH."""
        return self.base / "bin"

    @property
    def private(self) -> Path:
        """The folder for what nobody else may read."""
        return self.base / "private"


def log_file(script: Script, folders: Folders, home: str, variables: dict[str, str]) -> Path:
    """Say where a script's output is written beside being sent."""
    path = script.log_path or f"coder-script-{script.log_source_id}.log"
    return folders.logs / expand_variables(expand_home(path, home), variables)


class ScriptRunner:
    """Runs the scripts of the first manifest."""

    def __init__(
        self,
        scripts: Sequence[Script],
        *,
        commands: CommandFactory,
        children: Children,
        folders: Folders,
        home: str,
        write_lines: Callable[[UUID, Iterable[str], LogLevel], None],
        report: Callable[[ScriptRun], None],
        clock: Clock,
    ) -> None:
        self._scripts, self._commands, self._children = scripts, commands, children
        self._folders, self._home, self._clock = folders, home, clock
        self._write_lines, self._report = write_lines, report

    def prepare(self) -> None:
        """Make the folders and check the cron expressions, before anything runs.

        Raises:
            Invalid: an expression cannot be understood.
            OSError: a folder cannot be made.
        """
        self._folders.bin.mkdir(mode=0o700, parents=True, exist_ok=True)
        for script in self._scripts:
            if script.cron:
                next_run(script.cron, self._clock.now())

    async def run_stage(self, stage: Stage) -> ScriptStatus:
        """Run all scripts of a stage at once; return how the first one that failed ended, else OK."""
        chosen = [script for script in self._scripts if (script.on_start if stage is Stage.START else script.on_stop)]
        failures: list[ScriptStatus] = []

        async def run(script: Script) -> None:
            status = await self.run(script, stage)
            if status is not ScriptStatus.OK:
                failures.append(status)

        async with anyio.create_task_group() as tasks:
            for script in chosen:
                tasks.start_soon(run, script)
        return failures[0] if failures else ScriptStatus.OK

    async def run_by_the_clock(self) -> None:
        """Start each cron script whenever it is due, until cancelled."""
        async with anyio.create_task_group() as tasks:
            for script in self._scripts:
                if script.cron:
                    tasks.start_soon(self._repeat, script)

    async def run(self, script: Script, stage: Stage) -> ScriptStatus:
        """Run one script to its end and report it."""
        started_at = self._clock.now()
        log.info("script.started", script=script.display_name or str(script.script_id), stage=stage.value)
        try:
            exit_code, status = await self._execute(script)
        except (OSError, WarrenError) as error:
            self._write_lines(script.log_source_id, [f"could not run script: {error}"], LogLevel.ERROR)
            exit_code, status = UNKNOWN_EXIT_CODE, ScriptStatus.EXIT_FAILURE
        log.info("script.ended", script=script.display_name or str(script.script_id), status=status.value)
        self._report(ScriptRun(script.script_id, stage, started_at, self._clock.now(), exit_code, status))
        return status

    async def _repeat(self, script: Script) -> None:
        async with anyio.create_task_group() as tasks:
            while True:
                await anyio.sleep(pause_seconds(script.cron, self._clock.now().astimezone()))
                tasks.start_soon(self.run, script, Stage.CRON)

    async def _execute(self, script: Script) -> tuple[int, ScriptStatus]:
        folder = self._folders.base / str(script.log_source_id)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        extra = {"CODER_SCRIPT_DATA_DIR": str(folder), "CODER_SCRIPT_BIN_DIR": str(self._folders.bin)}
        command = self._commands.make(script.text, extra=extra)
        with ExitStack() as stack:
            path = log_file(script, self._folders, self._home, dict(command.environment))
            # Neither truncated nor appended to: a second run writes over the first.
            copy = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            stack.callback(os.close, copy)
            stdout, stderr = stack.enter_context(Pipe.from_child()), stack.enter_context(Pipe.from_child())
            null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
            stack.callback(os.close, null)
            child = self._children.start(command, stdin=null, stdout=stdout.theirs, stderr=stderr.theirs)
            stdout.handed_over()
            stderr.handed_over()
            sink = _Sink(copy, partial(self._write_lines, script.log_source_id))
            return await self._watch(script, child, sink, stdout, stderr)

    async def _watch(
        self, script: Script, child: Child, sink: _Sink, stdout: Pipe, stderr: Pipe
    ) -> tuple[int, ScriptStatus]:
        drained = anyio.Event()
        status, timed_out, left_open = UNKNOWN_EXIT_CODE, False, False

        async def drain() -> None:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(sink.copy, stdout, LogLevel.INFO)
                tasks.start_soon(sink.copy, stderr, LogLevel.ERROR)
            drained.set()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(drain)
            timed_out = not await _wait(child.wait, script.timeout.total_seconds() or None)
            if timed_out:
                child.signal(signal.SIGHUP)
                if not await _wait(child.wait, DRAIN_SECONDS):
                    child.signal(signal.SIGKILL)
            status = await child.wait()
            left_open = not await _wait(drained.wait, DRAIN_SECONDS)
            if left_open and not timed_out:
                await sink.write(_PIPES_LEFT_OPEN.encode(), LogLevel.WARN)
            tasks.cancel_scope.cancel()
        exit_code = status if status >= 0 else UNKNOWN_EXIT_CODE
        return exit_code, _judge(exit_code, timed_out=timed_out, left_open=left_open)


class _Sink:
    """Where a run's output goes: the file and the log."""

    def __init__(self, copy: int, write_lines: Callable[[Iterable[str], LogLevel], None]) -> None:
        self._copy, self._write_lines = copy, write_lines
        self._file_works = True

    async def copy(self, pipe: Pipe, level: LogLevel) -> None:
        """Pass a pipe's output on until its end."""
        splitter = LineSplitter()
        try:
            while data := await read_block(pipe.ours):
                self._write_file(data)
                self._write_lines(splitter.feed(data), level)
        finally:
            self._write_lines(splitter.flush(), level)

    async def write(self, data: bytes, level: LogLevel) -> None:
        """Add a line of our own."""
        self._write_file(data)
        self._write_lines(LineSplitter().feed(data), level)

    def _write_file(self, data: bytes) -> None:
        try:
            while data and self._file_works:
                data = data[os.write(self._copy, data) :]
        except OSError as error:  # a full disk must not stop the script
            self._file_works = False
            log.warning("script.log_lost", error=str(error))


async def _wait(event: Callable[[], Awaitable[object]], seconds: float | None) -> bool:
    """Wait for an event; say whether it came in time."""
    with anyio.move_on_after(seconds):
        await event()
        return True
    return False


def _judge(exit_code: int, *, timed_out: bool, left_open: bool) -> ScriptStatus:
    if timed_out:
        return ScriptStatus.TIMED_OUT
    if left_open:
        return ScriptStatus.PIPES_LEFT_OPEN
    return ScriptStatus.OK if exit_code == 0 else ScriptStatus.EXIT_FAILURE
