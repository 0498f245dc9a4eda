"""Collect the values that the dashboard shows beside a workspace."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import anyio

from warren.agent.children import Child, Children
from warren.agent.commands import CommandFactory
from warren.agent.manifest import MetadataDescription
from warren.agent.pipes import Pipe, read_block
from warren.clock import Clock
from warren.errors import WarrenError

MAX_OUTPUT_BYTES = 10240
REPORT_SECONDS = 1.0
DEFAULT_TIMEOUT_SECONDS = 3 * REPORT_SECONDS
DRAIN_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class MetadataResult:
    """One value, or why there is none."""

    collected_at: datetime
    value: str
    error: str


def timeout_seconds(description: MetadataDescription) -> float:
    """Say how long a script may take: its own limit, else its interval, else three reports."""
    wanted = description.timeout or description.interval
    return wanted.total_seconds() or DEFAULT_TIMEOUT_SECONDS


class MetadataCollector:
    """Runs the scripts on their intervals and keeps the newest value of each key until it is taken."""

    def __init__(self, commands: CommandFactory, children: Children, clock: Clock) -> None:
        self._commands, self._children, self._clock = commands, children, clock
        self._results: dict[str, MetadataResult] = {}

    def take(self) -> Mapping[str, MetadataResult]:
        """Return what was collected since the last call."""
        results, self._results = self._results, {}
        return results

    def give_back(self, results: Mapping[str, MetadataResult]) -> None:
        """Return what could not be sent; newer values win."""
        self._results = {**results, **self._results}

    async def run(self, descriptions: Sequence[MetadataDescription]) -> None:
        """Collect until cancelled; a value without an interval once."""
        async with anyio.create_task_group() as tasks:
            for description in descriptions:
                tasks.start_soon(self._repeat, description)

    async def _repeat(self, description: MetadataDescription) -> None:
        interval_seconds = description.interval.total_seconds()
        while True:
            due = anyio.current_time() + interval_seconds
            self._results[description.key] = await self._collect(description)
            if interval_seconds == 0:
                return
            # A slow script skips turns; it never runs faster than its interval.
            while due <= anyio.current_time():
                due += interval_seconds
            await anyio.sleep_until(due)

    async def _collect(self, description: MetadataDescription) -> MetadataResult:
        try:
            value, error = await self._run(description)
        except (OSError, WarrenError) as failure:
            value, error = "", f"run cmd: {failure}"
        return MetadataResult(self._clock.now(), value, error)

    async def _run(self, description: MetadataDescription) -> tuple[str, str]:
        command = self._commands.make(description.script)
        null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        try:
            with Pipe.from_child() as output:
                child = self._children.start(command, stdin=null, stdout=output.theirs, stderr=output.theirs)
                output.handed_over()
                return await _gather(child, output, timeout_seconds(description))
        finally:
            os.close(null)


async def _gather(child: Child, output: Pipe, seconds: float) -> tuple[str, str]:
    collected = bytearray()
    total = 0
    error = ""

    async def read() -> None:
        nonlocal total
        while data := await read_block(output.ours):
            total += len(data)
            collected.extend(data[: MAX_OUTPUT_BYTES - len(collected)])

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read)
        with anyio.move_on_after(seconds) as limit:
            status = await child.wait()
            error = "" if status == 0 else f"run cmd: {_describe(status)}"
        if limit.cancelled_caught:
            child.signal(signal.SIGKILL)
            error = f"run cmd: timed out after {seconds:g}s"
        tasks.cancel_scope.deadline = anyio.current_time() + DRAIN_SECONDS
    if total > MAX_OUTPUT_BYTES:
        error = error or f"output of {total} bytes truncated to {MAX_OUTPUT_BYTES} bytes"
    return collected.decode(errors="replace"), error


def _describe(status: int) -> str:
    return f"exit status {status}" if status >= 0 else f"signal: {signal.strsignal(-status)}"
