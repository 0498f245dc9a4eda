"""Logs: for people on one file, as JSON lines on another, each event with a fixed name."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

_SEVERITIES = {"debug": "DEBUG", "info": "INFO", "warning": "WARNING", "error": "ERROR", "critical": "CRITICAL"}


@dataclass(frozen=True, slots=True)
class LogSettings:
    """Where logs go, and which of debug level."""

    human: str = "/dev/stderr"
    json: str = ""
    verbose: bool = False
    filters: Sequence[str] = ()
    stackdriver: str = ""


def configure(settings: LogSettings) -> None:
    """Set logging up for the process."""
    sinks: list[tuple[TextIO, Processor]] = []
    if settings.human:
        stream = _open(settings.human)
        # Not the default traceback: that prints the values of local variables, secrets among them.
        plain = structlog.dev.ConsoleRenderer(colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback)
        sinks.append((stream, plain))
    if settings.json:
        sinks.append((_open(settings.json), structlog.processors.JSONRenderer(default=str)))
    if settings.stackdriver:
        sinks.append((_open(settings.stackdriver), _stackdriver))
    debug = settings.verbose or bool(settings.filters)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _Filter([re.compile(each) for each in settings.filters], everything=settings.verbose),
            structlog.processors.format_exc_info if settings.json or settings.stackdriver else _keep,
            _Fan(sinks),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG if debug else logging.INFO),
        logger_factory=lambda *_: None,
        cache_logger_on_first_use=False,
    )
    # Libraries speak only when something is wrong: what they say of a lost database we say ourselves.
    logging.basicConfig(level=logging.ERROR, stream=sys.stderr, force=True)
    logging.getLogger("psycopg.pool").setLevel(logging.CRITICAL)
    logging.getLogger("uvicorn.error").addFilter(_is_no_denial)


def _is_no_denial(record: logging.LogRecord) -> bool:
    """Keep uvicorn from taking the refusal of a WebSocket, which is an answer, for a mistake."""
    return record.getMessage() != "ASGI callable returned without completing handshake."


def _open(path: str) -> TextIO:
    if path in ("/dev/stderr", "-"):
        return sys.stderr
    if path == "/dev/stdout":
        return sys.stdout
    return open(path, "a", buffering=1, encoding="utf-8")  # noqa: PTH123  open as long as the process


def _stackdriver(logger: WrappedLogger, name: str, event: EventDict) -> str:
    """Write an event with the keys that Google Cloud Logging takes for severity, time and text."""
    rest = dict(event)
    line = {
        "severity": _SEVERITIES.get(str(rest.pop("level", name)), "DEFAULT"),
        "time": rest.pop("timestamp", ""),
        "message": rest.pop("event", ""),
        **rest,
    }
    return str(structlog.processors.JSONRenderer(default=str)(logger, name, line))


def _keep(logger: WrappedLogger, name: str, event: EventDict) -> EventDict:
    del logger, name
    return event


class _Filter:
    """Drops events of debug level that nobody asked for."""

    def __init__(self, wanted: Sequence[re.Pattern[str]], *, everything: bool) -> None:
        self._wanted = wanted
        self._everything = everything

    def __call__(self, logger: WrappedLogger, name: str, event: EventDict) -> EventDict:
        """Pass an event on, or end it."""
        del logger
        if name == "debug" and not self._everything:
            text = str(event.get("event", ""))
            if not any(pattern.search(text) for pattern in self._wanted):
                raise structlog.DropEvent
        return event


class _Fan:
    """Writes each event to every sink; the last processor."""

    def __init__(self, sinks: Sequence[tuple[TextIO, Processor]]) -> None:
        self._sinks = sinks

    def __call__(self, logger: WrappedLogger, name: str, event: Mapping[str, Any]) -> EventDict:
        """Write an event; nothing is left to do for anybody else."""
        for stream, renderer in self._sinks:
            line = renderer(logger, name, dict(event))
            try:
                stream.write(f"{line}\n")
                stream.flush()
            except (OSError, ValueError):
                continue  # a full disk or a closed terminal must not end the server
        raise structlog.DropEvent
