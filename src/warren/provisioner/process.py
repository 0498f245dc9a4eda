"""Run one Terraform command: its lines go to a listener, cancelling interrupts it and lets it save its state."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import anyio
from anyio.abc import ByteReceiveStream, Process

LineListener = Callable[[str], None]

_DRAIN_SECONDS = 1.0
MAX_LINE_BYTES = 8 << 20  # a diagnostic quotes whole expressions; beyond this it is not for people


@dataclass(frozen=True, slots=True)
class Exit:
    """How a command ended."""

    code: int

    @property
    def failed(self) -> bool:
        """Tell whether it failed."""
        return self.code != 0

    @property
    def reason(self) -> str:
        """Say how it failed, as job errors do."""
        if self.code < 0:
            return f"signal: {signal.strsignal(-self.code) or -self.code}".lower()
        return f"exit status {self.code}"


class Cancellation:
    """The wish to end a job, which a running command learns of."""

    def __init__(self) -> None:
        self._wanted = anyio.Event()

    @property
    def wanted(self) -> bool:
        """Tell whether the job is to end."""
        return self._wanted.is_set()

    def request(self) -> None:
        """Ask for the end."""
        self._wanted.set()

    async def wait(self) -> None:
        """Wait until the end is asked for."""
        await self._wanted.wait()


@dataclass(frozen=True, slots=True)
class Command:
    """A command with everything it needs."""

    arguments: Sequence[str]
    folder: Path
    environment: Mapping[str, str]
    exit_seconds: float  # how long it may take to end after an interrupt, before it is killed


async def run(command: Command, cancellation: Cancellation, on_stdout: LineListener, on_stderr: LineListener) -> Exit:
    """Run a command to its end. When cancelled it is interrupted, so that Terraform saves its state, then killed."""
    process = await anyio.open_process(
        [*_leash(), *command.arguments],
        cwd=command.folder,
        env=dict(command.environment),
        # A group of its own: a terminal's interrupt must not reach Terraform beside ours, two make it give up.
        start_new_session=True,
    )
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_interrupt_when_asked, process, cancellation, command.exit_seconds)
            await _listen(process, on_stdout, on_stderr)
            tasks.cancel_scope.cancel()
    finally:
        with anyio.CancelScope(shield=True):
            await _end(process, command.exit_seconds)
            await process.aclose()
    return Exit(await process.wait())


async def _listen(process: Process, on_stdout: LineListener, on_stderr: LineListener) -> None:
    """Read until the process ends; a child that kept our pipes open does not hold us up for long."""
    assert process.stdout is not None
    assert process.stderr is not None
    async with anyio.create_task_group() as readers:
        readers.start_soon(_read_lines, process.stdout, on_stdout)
        readers.start_soon(_read_lines, process.stderr, on_stderr)
        await process.wait()
        readers.cancel_scope.deadline = anyio.current_time() + _DRAIN_SECONDS


async def _read_lines(stream: ByteReceiveStream, listener: LineListener) -> None:
    pending = bytearray()
    async for data in stream:
        pending += data
        *lines, rest = pending.split(b"\n")
        for line in lines:
            listener(line.decode(errors="replace").rstrip("\r"))
        pending = rest if len(rest) <= MAX_LINE_BYTES else bytearray()
    if pending:
        listener(pending.decode(errors="replace"))


async def _interrupt_when_asked(process: Process, cancellation: Cancellation, exit_seconds: float) -> None:
    await cancellation.wait()
    _signal(process, signal.SIGINT)
    await anyio.sleep(exit_seconds)
    _kill_group(process)


async def _end(process: Process, exit_seconds: float) -> None:
    """End a process that its task was cancelled away from."""
    if process.returncode is not None:
        return
    _signal(process, signal.SIGINT)
    with anyio.move_on_after(exit_seconds):
        await _listen(process, _ignore, _ignore)
    if process.returncode is None:
        _kill_group(process)
        await process.wait()


def _ignore(_line: str) -> None:
    """Read a line that nobody wants any more, so that the process can go on."""


def _signal(process: Process, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        process.send_signal(number)


def _kill_group(process: Process) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


@cache
def _leash() -> tuple[str, ...]:
    """Give the words that make the kernel interrupt a command when our process dies, where the system has them."""
    program = shutil.which("setpriv")
    return (program, "--pdeathsig", "INT", "--") if program else ()
