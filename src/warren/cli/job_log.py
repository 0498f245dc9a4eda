"""The live log of a provisioner job: stages with their times, lines below them, a progress line on a terminal."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import anyio

from warren.cli import duration
from warren.cli.ui import BOLD, GREEN, GREY, RED, YELLOW, Terminal
from warren.errors import RemoteError, Unavailable

if TYPE_CHECKING:
    from warren.sdk.client import Client
    from warren.sdk.types.jobs import ProvisionerJob, ProvisionerJobLog
    from warren.sdk.types.templates import TemplateVersion
    from warren.sdk.types.workspaces import WorkspaceBuild

ACTIVE = frozenset({"pending", "running", "canceling"})
HIDDEN_LEVELS = frozenset({"trace", "debug"})
POLL_SECONDS = 0.1  # a job that is queued starts within this of being seen: it is what a person waits for
RECONNECT_SECONDS = 1.0  # the server is restarting: its log continues where it was cut
RESTART_SECONDS = 30.0  # how long a server may take to come back while we follow a job
CANCEL_SECONDS = 5.0  # how long we try to tell the server that the user gave up
FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"


class JobFailed(RemoteError):
    """The job ended without success."""


@dataclass(frozen=True, slots=True)
class Job:
    """How to watch one job: fetch it, follow its log after a line, cancel it."""

    fetch: Callable[[], Awaitable[ProvisionerJob]]
    logs: Callable[[int], AsyncGenerator[ProvisionerJobLog]]
    cancel: Callable[[], Awaitable[None]]


class LogView:
    """Decide what is printed for each log line; knows stages, not terminals."""

    def __init__(self, terminal: Terminal, *, verbose: bool = False) -> None:
        self._terminal = terminal
        self._verbose = verbose
        self.stage = ""
        self.stage_began: datetime | None = None

    def line(self, log: ProvisionerJobLog) -> list[str]:
        """Return what to print for a line of the log."""
        printed: list[str] = []
        if log.stage and log.stage != self.stage:
            printed += self.end_stage(log.created_at)
            self.stage, self.stage_began = log.stage, log.created_at
            printed.append(self._terminal.style(f"==> ⧗ {log.stage}", BOLD))
        if not log.output or (log.log_level in HIDDEN_LEVELS and not self._verbose):
            return printed
        colour = {"error": RED, "warn": YELLOW}.get(log.log_level, GREY)
        printed += [self._terminal.style(text, colour) for text in log.output.splitlines()]
        return printed

    def end_stage(self, ended_at: datetime, *, failed: bool = False) -> list[str]:
        """Return what to print when the current stage ends, if there is one."""
        if not self.stage or self.stage_began is None:
            return []
        took = duration.text(max(timedelta(), _rounded(ended_at - self.stage_began)))
        mark, colour = ("✘", RED) if failed else ("✔", GREEN)
        stage, self.stage = self.stage, ""
        return [self._terminal.style(f"=== {mark} {stage} [{took}]", colour)]


class Progress:
    """The line at the bottom of a terminal that says what is going on; nothing without a terminal."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._shown = False
        self._began = anyio.current_time()
        self._frame = 0
        self.text = ""

    def draw(self) -> None:
        """Draw the line anew."""
        if not self._terminal.error_tty or not self.text:
            return
        import sys

        self._frame = (self._frame + 1) % len(FRAMES)
        seconds = anyio.current_time() - self._began
        sys.stderr.write(f"\r\x1b[2K{FRAMES[self._frame]} {self.text} ({seconds:.0f} s)")
        sys.stderr.flush()
        self._shown = True

    def clear(self) -> None:
        """Take the line away."""
        if self._shown:
            import sys

            sys.stderr.write("\r\x1b[2K")
            sys.stderr.flush()
            self._shown = False

    def say(self, lines: list[str]) -> None:
        """Print lines above the progress line."""
        if lines:
            self.clear()
            self._terminal.say("\n".join(lines))
            self.draw()

    async def animate(self) -> None:
        """Redraw until cancelled."""
        if self._terminal.error_tty:
            while True:
                self.draw()
                await anyio.sleep(0.1)


async def follow(terminal: Terminal, job: Job, *, verbose: bool = False) -> ProvisionerJob:
    """Print a job's log until it ends; return the job as it ended.

    A user who interrupts cancels the job.

    Raises:
        JobFailed: it failed or was canceled.
    """
    view, progress = LogView(terminal, verbose=verbose), Progress(terminal)
    done: ProvisionerJob | None = None
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(progress.animate)
            done = await _follow(job, view, progress)
            tasks.cancel_scope.cancel()
    except anyio.get_cancelled_exc_class():
        progress.clear()
        with anyio.CancelScope(shield=True), anyio.move_on_after(CANCEL_SECONDS):
            terminal.say("Canceling the job…")
            await job.cancel()
        raise
    finally:
        progress.clear()
    assert done is not None
    failed = done.status != "succeeded"
    terminal_lines = view.end_stage(done.completed_at or done.created_at, failed=failed)
    if terminal_lines:
        terminal.say("\n".join(terminal_lines))
    if failed:
        raise JobFailed(done.error or f"the job was {done.status}")
    return done


async def _follow(job: Job, view: LogView, progress: Progress) -> ProvisionerJob:
    after, queued = 0, False
    while True:
        now = await (_fetch_patiently(job) if after else job.fetch())
        if now.status not in ACTIVE and after:
            return now
        if now.status == "pending" and not queued:
            queued = True
            ahead = f", {now.queue_position} ahead" if now.queue_position else ""
            progress.say([f"==> ⧗ Queued{ahead}"])
        progress.text = now.status.capitalize()
        try:
            async with aclosing(job.logs(after)) as logs:
                async for log in logs:
                    after = log.id
                    progress.say(view.line(log))
                    progress.text = log.stage or progress.text
        except Unavailable as error:
            progress.say([f"the log was interrupted ({error.message}); trying again"])
            await anyio.sleep(RECONNECT_SECONDS)
        ended = await _fetch_patiently(job)
        if ended.status not in ACTIVE:
            return ended
        await anyio.sleep(POLL_SECONDS)


async def _fetch_patiently(job: Job) -> ProvisionerJob:
    """Read a job that was there before, from a server that may be restarting.

    Raises:
        Unavailable: it did not come back in time.
    """
    deadline = anyio.current_time() + RESTART_SECONDS
    while True:
        try:
            return await job.fetch()
        except Unavailable:
            if anyio.current_time() > deadline:
                raise
        await anyio.sleep(RECONNECT_SECONDS)


def of_build(client: Client, build: WorkspaceBuild) -> Job:
    """Watch a workspace build."""

    async def fetch() -> ProvisionerJob:
        return (await client.builds.get(build.id)).job

    return Job(fetch, lambda after: client.builds.logs(build.id, after=after), lambda: client.builds.cancel(build.id))


def of_version(client: Client, version: TemplateVersion) -> Job:
    """Watch the import of a template version."""

    async def fetch() -> ProvisionerJob:
        return (await client.templates.version(version.id)).job

    return Job(
        fetch,
        lambda after: client.templates.version_logs(version.id, after=after),
        lambda: client.templates.cancel_version(version.id),
    )


def _rounded(span: timedelta) -> timedelta:
    return timedelta(milliseconds=span // timedelta(milliseconds=1))
