"""What an agent has and knows, whether or not it is connected."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

import anyio
import structlog

from warren.agent.apps import AppHealthMonitor
from warren.agent.children import Children
from warren.agent.commands import CommandFactory
from warren.agent.connections import Connections
from warren.agent.lifecycle import Lifecycle
from warren.agent.logs import LogLevel, LogLine, LogQueue
from warren.agent.manifest import Banner
from warren.agent.metadata import MetadataCollector
from warren.agent.motd import greeting, read_motd
from warren.agent.queues import ReportQueue
from warren.agent.scripts import ScriptRun
from warren.agent.system import System
from warren.clock import Clock

log = structlog.get_logger()

MAX_QUEUED_RUNS = 256
"""Script runs that wait to be reported; of more, the newest are dropped: they only feed a table of timings."""


class AgentState:
    """The parts that outlive a connection to the control plane."""

    def __init__(self, *, system: System, commands: CommandFactory, children: Children, clock: Clock) -> None:
        self.system, self.commands, self.children, self.clock = system, commands, children, clock
        self.connections = Connections(clock)
        self.lifecycle = Lifecycle(clock)
        self.logs = LogQueue()
        self._lines_added = anyio.Event()
        self.metadata = MetadataCollector(commands, children, clock)
        self.apps = AppHealthMonitor()
        self.banners: tuple[Banner, ...] = ()
        self.script_runs = ReportQueue[ScriptRun](MAX_QUEUED_RUNS)

    def greeting(self) -> bytes:
        """Compose what a login shell shows first."""
        return greeting(self.banners, read_motd(self.commands.manifest.motd_path, self.system.home()))

    def write_lines(self, source_id: UUID, lines: Iterable[str], level: LogLevel) -> None:
        """Queue lines of a script's output."""
        now = self.clock.now()
        self.logs.add(source_id, (LogLine(now, line, level) for line in lines))
        self._lines_added.set()

    async def wait_lines(self) -> None:
        """Wait until lines are queued."""
        while self.logs.empty:
            self._lines_added = anyio.Event()
            await self._lines_added.wait()

    def report_run(self, run: ScriptRun) -> None:
        """Queue the report of a script's run."""
        if not self.script_runs.put(run):
            log.warning("script.report_dropped", script_id=str(run.script_id))
