"""Output of scripts on its way to the control plane: lines, batches, and the limit after which it is pointless."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

BATCH_BYTES = 1024 * 1024
"""The largest batch the control plane takes."""
LINE_OVERHEAD_BYTES = 21
"""What a line costs in a batch beside its text."""
QUEUE_BYTES = 1024 * 1024
"""How much may wait. The control plane keeps no more per agent, so what is beyond would be refused anyway; the line
that crosses the limit is still queued, so that it learns of the overflow."""
FLUSH_SECONDS = 1.0
"""How often one source is sent: often enough to watch, seldom enough to batch."""

_REPLACEMENT = "\u274c"
_DAMAGE = re.compile("[\udc80-\udcff]+|\0")
_NEWLINE = b"\n"


class LogLevel(StrEnum):
    """How serious a line is."""

    INFO = "info"
    WARN = "warn"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of output."""

    created_at: datetime
    text: str
    level: LogLevel


def clean(line: bytes) -> str:
    """Decode a line; what is not text becomes one cross per run of bad bytes and per NUL."""
    return _DAMAGE.sub(_REPLACEMENT, line.decode(errors="surrogateescape"))


class LineSplitter:
    """Cuts output into lines, however it was cut into reads."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[str]:
        """Take in output and return the lines that it completes."""
        *lines, self._rest = (self._rest + data).split(_NEWLINE)
        return [clean(line.removesuffix(b"\r")) for line in lines]

    def flush(self) -> list[str]:
        """Return the last line when it had no end."""
        rest, self._rest = self._rest, b""
        return [clean(rest.removesuffix(b"\r"))] if rest else []


class _Source:
    def __init__(self) -> None:
        self.lines: deque[LogLine] = deque()
        self.flushed_at = float("-inf")


@dataclass(frozen=True, slots=True)
class Batch:
    """Lines of one source to send together."""

    source_id: UUID
    lines: tuple[LogLine, ...]


class LogQueue:
    """What waits to be sent. A batch stays until it is confirmed, so a lost connection loses nothing."""

    def __init__(self) -> None:
        self._sources: dict[UUID, _Source] = {}
        self._queued_bytes = 0
        self._closed = False
        self._flushing = False

    def add(self, source_id: UUID, lines: Iterable[LogLine]) -> None:
        """Queue lines; over the limit they are dropped."""
        source = self._sources.setdefault(source_id, _Source())
        for line in lines:
            if self._closed or self._queued_bytes > QUEUE_BYTES:
                return
            size = _size(line)
            if size + LINE_OVERHEAD_BYTES > BATCH_BYTES:
                continue
            source.lines.append(line)
            self._queued_bytes += size

    def flush(self) -> None:
        """Send what there is without waiting for the next turn."""
        self._flushing = True

    def next_batch(self, now: float) -> Batch | None:
        """Return the batch that is due now."""
        for source_id, source in self._sources.items():
            if source.lines and (self._flushing or now - source.flushed_at >= FLUSH_SECONDS):
                return Batch(source_id, _take(source.lines))
        self._flushing = False
        return None

    def confirm(self, batch: Batch, now: float) -> None:
        """Forget a batch that was received."""
        source = self._sources[batch.source_id]
        for line in batch.lines:
            if source.lines and source.lines[0] is line:
                source.lines.popleft()
                self._queued_bytes -= _size(line)
        source.flushed_at = now

    def overflow(self) -> None:
        """Forget everything and take no more: the control plane has reached its limit."""
        self._closed = True
        self._sources.clear()
        self._queued_bytes = 0

    @property
    def empty(self) -> bool:
        """Say whether nothing waits."""
        return not any(source.lines for source in self._sources.values())


def _take(lines: deque[LogLine]) -> tuple[LogLine, ...]:
    taken: list[LogLine] = []
    size = 0
    for line in lines:
        size += _size(line) + LINE_OVERHEAD_BYTES
        if size > BATCH_BYTES:
            break
        taken.append(line)
    return tuple(taken)


def _size(line: LogLine) -> int:
    return len(line.text.encode(errors="replace"))
