"""The programs an agent has started: each is waited for, and all can be told that the workspace stops."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager

import anyio
import structlog
from anyio.abc import TaskGroup

from warren.agent.system import Command, Processes, TerminalSize

log = structlog.get_logger()

HANG_UP_SECONDS = 5.0
"""How long programs on a closed terminal may take to leave before they are killed."""


class Child:
    """One program that runs, or ran."""

    def __init__(self, process: subprocess.Popen[bytes], processes: Processes) -> None:
        self._process, self._processes = process, processes
        self._ended = anyio.Event()
        # A cancelled parent still has to reap: only `abandon` ends the wait.
        self._reaping = anyio.CancelScope(shield=True)

    @property
    def pid(self) -> int:
        """The process id, which is also its group's."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Say whether it has not been seen to end."""
        return not self._ended.is_set()

    async def wait(self) -> int:
        """Wait for the end and return the status, negative for a signal."""
        await self._ended.wait()
        return self._process.returncode

    async def reap(self) -> None:
        """Collect its status as soon as it ends; run once, by its parent."""
        with self._reaping:
            await self._processes.wait(self._process)
            self._ended.set()

    def abandon(self) -> None:
        """Give up waiting for a program that not even a kill ends."""
        self._reaping.cancel()

    def signal(self, number: int) -> None:
        """Send a signal to its process group."""
        self._processes.signal_group(self._process, number)

    async def see_off(self) -> None:
        """Make sure that it ends: hang up, wait a little, kill."""
        if not self.running:
            return
        self.signal(signal.SIGHUP)
        with anyio.move_on_after(HANG_UP_SECONDS, shield=True):
            await self.wait()
        if self.running:
            self.signal(signal.SIGKILL)


class Terminal:
    """The master end of a child's terminal."""

    def __init__(self, master: int, processes: Processes) -> None:
        self._master: int | None = master
        self._processes = processes

    def resize(self, size: TerminalSize) -> None:
        """Change its size; zero means "leave it"."""
        if self._master is not None and size.columns > 0 and size.rows > 0:
            self._processes.resize(self._master, size)

    def fileno(self) -> int:
        """Return the descriptor, -1 once closed."""
        return -1 if self._master is None else self._master

    def close(self) -> None:
        """Hang up: the kernel tells the session's programs."""
        if self._master is not None:
            anyio.notify_closing(self._master)
            os.close(self._master)
            self._master = None


class Children:
    """Starts programs and reaps them. Made by `open`."""

    def __init__(self, processes: Processes, tasks: TaskGroup) -> None:
        self._processes, self._tasks = processes, tasks
        self._running: set[Child] = set()

    @classmethod
    @asynccontextmanager
    async def open(cls, processes: Processes) -> AsyncGenerator[Children]:
        """Reap children while the context lasts; those that still run at its end are hung up."""
        async with anyio.create_task_group() as tasks:
            children = cls(processes, tasks)
            try:
                yield children
            finally:
                await children.hang_up()
                tasks.cancel_scope.cancel()

    def start(self, command: Command, *, stdin: int, stdout: int, stderr: int) -> Child:
        """Start a program; the descriptors stay the caller's.

        Raises:
            OSError: it cannot be started.
        """
        process = self._processes.start(command, stdin=stdin, stdout=stdout, stderr=stderr)
        return self._adopt(process)

    def start_on_terminal(
        self, command: Command, size: TerminalSize, modes: Mapping[int, int]
    ) -> tuple[Child, Terminal]:
        """Start a program on a terminal of its own; a size with a zero is the classic 80 by 24.

        Raises:
            OSError: it cannot be started.
        """
        known = size if size.columns > 0 and size.rows > 0 else TerminalSize(80, 24)
        process, master = self._processes.start_on_terminal(command, known, modes)
        return self._adopt(process), Terminal(master, self._processes)

    async def hang_up(self) -> None:
        """Tell all running programs to end, wait a little, and kill what remains."""
        with anyio.CancelScope(shield=True):
            for number, patience_seconds in ((signal.SIGHUP, 3.0), (signal.SIGKILL, 1.0)):
                for child in self._running:
                    child.signal(number)
                with anyio.move_on_after(patience_seconds):
                    for child in list(self._running):
                        await child.wait()
            for child in self._running:
                child.abandon()

    def _adopt(self, process: subprocess.Popen[bytes]) -> Child:
        child = Child(process, self._processes)
        self._running.add(child)
        self._tasks.start_soon(self._reap, child)
        return child

    async def _reap(self, child: Child) -> None:
        await child.reap()
        self._running.discard(child)
