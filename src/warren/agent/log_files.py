"""The agent's log: a file that is rotated, and standard error."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping, MutableMapping
from logging.handlers import RotatingFileHandler
from pathlib import Path

import structlog

FILE_NAME = "coder-agent.log"
FILE_BYTES = 5 * 1024 * 1024
BACKUPS = 19


class Sinks:
    """Where lines go; none means nowhere."""

    def __init__(self, folder: Path, *, human: str, json_path: str) -> None:
        self._human: list[logging.Handler] = []
        self._json: list[logging.Handler] = []
        try:
            folder.mkdir(parents=True, exist_ok=True)
            file = RotatingFileHandler(folder / FILE_NAME, maxBytes=FILE_BYTES, backupCount=BACKUPS)
            self._human.append(file)
        except OSError as error:  # an agent that cannot log still serves
            sys.stderr.write(f"cannot write {folder / FILE_NAME}: {error}\n")
        for path, handlers in ((human, self._human), (json_path, self._json)):
            if path:
                handlers.append(_open(path))

    def write(self, event: MutableMapping[str, object]) -> None:
        """Write one event to every sink in its form."""
        if self._human:
            _emit(self._human, human_line(event))
        if self._json:
            _emit(self._json, json.dumps(dict(event), default=str))


def human_line(event: Mapping[str, object]) -> str:
    """Write an event for people: time, level, name, fields."""
    rest = {key: value for key, value in event.items() if key not in {"timestamp", "level", "event", "exception"}}
    fields = "".join(f" {key}={_field(value)}" for key, value in rest.items())
    trace = f"\n{event['exception']}" if event.get("exception") else ""
    return f"{event.get('timestamp', '')} [{event.get('level', 'info')}] {event.get('event', '')}{fields}{trace}"


def set_up(folder: Path, *, human: str, json_path: str, verbose: bool) -> None:
    """Send all logs of this process to the sinks."""
    sinks = Sinks(folder, human=human, json_path=json_path)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _Drain(sinks),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG if verbose else logging.INFO),
        logger_factory=structlog.ReturnLoggerFactory(),
        cache_logger_on_first_use=True,
    )
    logging.raiseExceptions = False  # a closed standard error must not be answered with more output to it
    logging.basicConfig(handlers=[_FromStandardLogging()], level=logging.WARNING, force=True)


class _Drain:
    """The last processor: writes, and ends the chain."""

    def __init__(self, sinks: Sinks) -> None:
        self._sinks = sinks

    def __call__(self, logger: object, method: str, event: MutableMapping[str, object]) -> str:
        self._sinks.write(event)
        return ""


class _FromStandardLogging(logging.Handler):
    """Passes on what libraries say."""

    def emit(self, record: logging.LogRecord) -> None:
        logger = structlog.get_logger()
        logger.log(record.levelno, "library.logged", logger=record.name, message=record.getMessage())


def _open(path: str) -> logging.Handler:
    if path in {"/dev/stderr", "-"}:
        return logging.StreamHandler(sys.stderr)
    if path == "/dev/stdout":
        return logging.StreamHandler(sys.stdout)
    return logging.FileHandler(path)


def _emit(handlers: list[logging.Handler], line: str) -> None:
    record = logging.LogRecord("warren", logging.INFO, "", 0, line, None, None)
    for handler in handlers:
        handler.handle(record)


def _field(value: object) -> str:
    text = str(value)
    return json.dumps(text) if not text or any(character in text for character in ' "=\n') else text
