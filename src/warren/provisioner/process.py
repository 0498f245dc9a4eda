"""Run one Terraform command: its lines go to a listener, cancelling interrupts it and lets it save its state."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeAlias

import anyio
from anyio import to_thread

LineListener = Callable[[str], None]
Process: TypeAlias = "subprocess.Popen[bytes]"

_DRAIN_SECONDS = 0.2  # what was written before the end is there at once
_READ_BYTES = 64 << 10
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
    process = _start(command)
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_interrupt_when_asked, process, cancellation, command.exit_seconds)
            await _listen(process, on_stdout, on_stderr)
            tasks.cancel_scope.cancel()
    finally:
        with anyio.CancelScope(shield=True):
            await _end(process, command.exit_seconds)
        for stream in (process.stdout, process.stderr):
            assert stream is not None
            stream.close()
    return Exit(process.returncode)


def _start(command: Command) -> Process:
    """Start a command. Not by the event loop: uvloop's children inherit more than they should, which keeps pipes open
    in whatever outlives Terraform; and not in a thread, for the kernel takes the end of that for ours.
    """
    return subprocess.Popen(
        [*_leash(), *command.arguments],
        cwd=command.folder,
        env=dict(command.environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        # A group of its own: a terminal's interrupt must not reach Terraform beside ours, two make it give up.
        start_new_session=True,
    )


async def _wait(process: Process) -> None:
    """Wait until a process has ended, and take note of its exit code."""
    if process.poll() is not None:
        return
    try:
        descriptor = os.pidfd_open(process.pid)
    except (AttributeError, OSError):  # not Linux, or an old or guarded one
        await to_thread.run_sync(process.wait, abandon_on_cancel=True)
        return
    try:
        await anyio.wait_readable(descriptor)
    finally:
        os.close(descriptor)
    process.wait()


async def _listen(process: Process, on_stdout: LineListener, on_stderr: LineListener) -> None:
    """Read until the process ends; a child that kept our pipes open does not hold us up for long."""
    async with anyio.create_task_group() as readers:
        for stream, listener in ((process.stdout, on_stdout), (process.stderr, on_stderr)):
            assert stream is not None
            os.set_blocking(stream.fileno(), False)
            readers.start_soon(_read_lines, stream.fileno(), listener)
        await _wait(process)
        readers.cancel_scope.deadline = anyio.current_time() + _DRAIN_SECONDS


async def _read_lines(descriptor: int, listener: LineListener) -> None:
    pending = bytearray()
    while True:
        await anyio.wait_readable(descriptor)
        data = os.read(descriptor, _READ_BYTES)
        if not data:
            break
        pending += data
        *lines, rest = pending.split(b"\n")
        for line in lines:
            listener(line.decode(errors="replace").rstrip("\r"))
        pending = rest if len(rest) <= MAX_LINE_BYTES else bytearray()
    if pending:
        listener(pending.decode(errors="replace"))


async def _interrupt_when_asked(process: Process, cancellation: Cancellation, exit_seconds: float) -> None:
    await cancellation.wait()
    process.send_signal(signal.SIGINT)
    await anyio.sleep(exit_seconds)
    _kill_group(process)


async def _end(process: Process, exit_seconds: float) -> None:
    """End a process that its task was cancelled away from."""
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGINT)
    with anyio.move_on_after(exit_seconds):
        await _listen(process, _ignore, _ignore)
    if process.poll() is None:
        _kill_group(process)
        await _wait(process)


def _ignore(_line: str) -> None:
    """Read a line that nobody wants any more, so that the process can go on."""


def _kill_group(process: Process) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


@cache
def _leash() -> tuple[str, ...]:
    """Give the words that make the kernel interrupt a command when our process dies, where the system has them."""
    words = ("setpriv", "--pdeathsig", "INT", "--")
    if shutil.which(words[0]) is None:
        return ()
    # There are versions that do not know the option.
    return words if subprocess.run([*words, "true"], check=False, capture_output=True).returncode == 0 else ()
