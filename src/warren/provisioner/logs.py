"""Turn what Terraform prints (JSON, a line each) into a job's log and into timings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from types import MappingProxyType

import msgspec

from warren.errors import NOT_JSON
from warren.provisioner.model import Level, LogLine, Timing, TimingState

_LEVELS: Mapping[str, Level] = MappingProxyType(
    {
        "trace": Level.TRACE,
        "debug": Level.DEBUG,
        "info": Level.INFO,
        "warn": Level.WARN,
        "warning": Level.WARN,
        "error": Level.ERROR,
    }
)
_STATES: Mapping[str, TimingState] = MappingProxyType(
    {
        "start": TimingState.STARTED,
        "complete": TimingState.COMPLETED,
        "errored": TimingState.FAILED,
    }
)
_CATEGORIES: Mapping[str, str] = MappingProxyType(
    {
        "apply": "apply",
        "provision": "provision",
        "refresh": "state refresh",
    }
)
_INIT_STEPS: Mapping[str, str] = MappingProxyType(
    {
        "initializing_backend_message": "backend",
        "initializing_state_store_message": "backend",
        "initializing_modules_message": "modules",
        "upgrading_modules_message": "modules",
        "initializing_provider_plugin_message": "provider plugins",
        "output_init_success_message": "",
        "output_init_success_cloud_message": "",
    }
)


class Position(msgspec.Struct, frozen=True):
    """A place in a file."""

    line: int = 0


class Range(msgspec.Struct, frozen=True):
    """Where a diagnostic points to."""

    filename: str = ""
    start: Position = Position()


class SnippetValue(msgspec.Struct, frozen=True):
    """The value of an expression in the lines shown."""

    traversal: str = ""
    statement: str = ""


class Snippet(msgspec.Struct, frozen=True):
    """The lines a diagnostic is about."""

    code: str = ""
    start_line: int = 0
    context: str | None = None
    values: list[SnippetValue] | None = None


class Diagnostic(msgspec.Struct, frozen=True):
    """An error or a warning with its place."""

    severity: str = ""
    summary: str = ""
    detail: str = ""
    range: Range | None = None
    snippet: Snippet | None = None


class HookResource(msgspec.Struct, frozen=True):
    """The resource an event is about."""

    addr: str = ""
    implied_provider: str = ""


class Hook(msgspec.Struct, frozen=True):
    """What happens to a resource."""

    resource: HookResource = HookResource()
    action: str = ""


class PlannedChange(msgspec.Struct, frozen=True):
    """What a plan will do to a resource."""

    action: str = ""


class Event(msgspec.Struct, frozen=True):
    """One line of Terraform's machine-readable output."""

    level: str = msgspec.field(name="@level", default="info")
    message: str = msgspec.field(name="@message", default="")
    timestamp: str = msgspec.field(name="@timestamp", default="")
    type: str = ""
    message_code: str = ""
    diagnostic: Diagnostic | None = None
    hook: Hook | None = None
    change: PlannedChange | None = None


_DECODER = msgspec.json.Decoder(Event)


def parse(line: str) -> Event | None:
    """Read one line, or give `None` when it is not an event."""
    if not line.startswith("{"):
        return None
    try:
        return _DECODER.decode(line)
    except NOT_JSON:
        return None


def from_stdout(line: str, event: Event | None) -> Iterator[LogLine]:
    """Yield the log lines for one line of standard output."""
    if not line.strip():
        return
    if event is None:
        yield LogLine(Level.INFO, line)
        return
    level = _LEVELS.get(event.level)
    if level is None:
        yield LogLine(Level.WARN, f"unable to convert log level {event.level}")
    yield LogLine(level or Level.INFO, event.message)
    if event.diagnostic is not None:
        severity = _LEVELS.get(event.diagnostic.severity, Level.ERROR)
        for part in rendered(event.diagnostic):
            yield LogLine(severity, part)


def from_stderr(line: str, event: Event | None) -> Iterator[LogLine]:
    """Yield the log lines for one line of standard error: Terraform's own debugging, or a failure to start."""
    if not line.strip():
        return
    if event is None:
        yield LogLine(Level.ERROR, line)
        return
    level = _LEVELS.get(event.level, Level.INFO)
    if level is not Level.TRACE:
        yield LogLine(Level.DEBUG if level is Level.INFO else level, event.message)


def rendered(diagnostic: Diagnostic) -> Iterator[str]:
    """Yield a diagnostic as people read it: place, lines, values, detail."""
    if diagnostic.range is not None:
        yield from _place(diagnostic.range, diagnostic.snippet)
        yield ""
    if diagnostic.detail:
        yield from diagnostic.detail.splitlines()


def _place(where: Range, snippet: Snippet | None) -> Iterator[str]:
    if snippet is None:
        yield f"on {where.filename} line {where.start.line}:"
        yield "  (source code not available)"
        return
    context = f", in {snippet.context}" if snippet.context else ""
    yield f"on {where.filename} line {where.start.line}{context}:"
    for offset, code in enumerate(snippet.code.splitlines()):
        yield f"  {snippet.start_line + offset}: {code}"
    if snippet.values:
        yield "    ├────────────────"
        for value in sorted(snippet.values, key=lambda item: item.traversal):
            yield f"    │ {value.traversal} {value.statement}"


class TimingCollector:
    """Pair the starts and ends of Terraform's steps into timings."""

    def __init__(self, stage: str) -> None:
        self._stage = stage
        self._started: dict[tuple[str, str, str, str], datetime] = {}
        self._init_step: tuple[str, datetime] | None = None
        self._timings: list[Timing] = []

    def handle_event(self, event: Event, now: datetime) -> None:
        """Take one event."""
        at = _moment(event.timestamp, now)
        if event.type == "init_output":
            self._handle_init(event.message_code, at)
            return
        kind, _, edge = event.type.partition("_")
        state = _STATES.get(edge)
        if state is None or kind not in _CATEGORIES or event.hook is None:
            return
        hook = event.hook
        key = (kind, hook.action, hook.resource.addr, hook.resource.implied_provider)
        if state is TimingState.STARTED:
            self._started[key] = at
        elif (started := self._started.pop(key, None)) is not None:
            self._add(started, at, hook.action or _CATEGORIES[kind], key[3], key[2], state)

    def finish(self, started: datetime, ended: datetime, *, failed: bool) -> tuple[Timing, ...]:
        """Give all timings, with one for the stage as a whole."""
        state = TimingState.FAILED if failed else TimingState.COMPLETED
        self._add(started, ended, "terraform", "coder", f"coder_stage_{self._stage}", state)
        return tuple(self._timings)

    def _handle_init(self, code: str, at: datetime) -> None:
        step = _INIT_STEPS.get(code)
        if step is None:
            return
        if self._init_step is not None:
            name, started = self._init_step
            self._add(started, at, "load", "terraform", name, TimingState.COMPLETED)
        self._init_step = (step, at) if step else None

    def _add(
        self, started: datetime, ended: datetime, action: str, source: str, resource: str, state: TimingState
    ) -> None:
        self._timings.append(Timing(min(started, ended), ended, action, source, resource, self._stage, state))


def _moment(timestamp: str, now: datetime) -> datetime:
    try:
        parsed = datetime.fromisoformat(timestamp)
    except ValueError:
        return now
    # Init prints whole seconds, which would make steps of no length.
    return parsed if parsed.tzinfo is not None and parsed.microsecond else now
