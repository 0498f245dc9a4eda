"""Who is connected: counts for the statistics, and a report of each beginning and end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID, uuid4

import structlog

from warren.agent.queues import ReportQueue
from warren.clock import Clock

log = structlog.get_logger()

MAX_QUEUED_REPORTS = 2048
"""Reports that wait for the control plane; when it is away for longer, the newest are dropped."""


class ConnectionType(StrEnum):
    """What a connection is for."""

    UNSPECIFIED = "unspecified"
    SSH = "ssh"
    VSCODE = "vscode"
    JETBRAINS = "jetbrains"
    RECONNECTING_PTY = "reconnecting_pty"


@dataclass(frozen=True, slots=True)
class ConnectionReport:
    """A connection began, or ended with a status and a reason."""

    connection_id: UUID
    type: ConnectionType
    at: datetime
    ip: str
    ended: bool = False
    status: int = 0
    reason: str = ""


class Ending:
    """How a connection ended, filled in by whoever serves it."""

    def __init__(self) -> None:
        self.status = 0
        self.reason = "graceful"


class Connections:
    """The connections of the moment, and the reports still to be sent."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._open: Counter[ConnectionType] = Counter()
        self.reports = ReportQueue[ConnectionReport](MAX_QUEUED_REPORTS)

    def count(self, kind: ConnectionType) -> int:
        """Say how many connections of a kind are open."""
        return self._open[kind]

    @contextmanager
    def connection(self, kind: ConnectionType, ip: str, *, counted: bool = True) -> Generator[Ending]:
        """Report a connection for as long as the context lasts."""
        connection_id = uuid4()
        ending = Ending()
        address = "127.0.0.1" if ip == "localhost" else ip
        self._report(ConnectionReport(connection_id, kind, self._clock.now(), address))
        self._open[kind] += counted
        try:
            yield ending
        finally:
            self._open[kind] -= counted
            status, reason = ending.status, ending.reason
            self._report(ConnectionReport(connection_id, kind, self._clock.now(), address, True, status, reason))

    def _report(self, report: ConnectionReport) -> None:
        if not self.reports.put(report):
            log.warning("connection.report_dropped", type=report.type.value, ended=report.ended)
