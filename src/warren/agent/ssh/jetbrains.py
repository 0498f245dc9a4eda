"""Find out whether a forwarded connection belongs to a JetBrains IDE, which opens no session of its own."""

from __future__ import annotations

import time
from collections.abc import Callable

import anyio.to_thread

_MARKS = ("idea.vendor.name=jetbrains", "com.jetbrains.toolbox", "remote-dev-server")
LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})
REMEMBER_SECONDS = 30.0
"""How long an answer is good for: looking through all processes costs milliseconds, and browsers connect often."""


def is_jetbrains(command_line: str) -> bool:
    """Say whether a process is part of an IDE, by its command line."""
    lowered = command_line.lower()
    return any(mark in lowered for mark in _MARKS)


class IDEPorts:
    """Knows which local ports an IDE listens on."""

    def __init__(self, listening_command_line: Callable[[int], str]) -> None:
        self._command_line = listening_command_line
        self._known: dict[int, tuple[float, bool]] = {}

    async def belongs_to_ide(self, host: str, port: int) -> bool:
        """Say whether an IDE listens at `host:port`."""
        if host not in LOCAL_HOSTS:
            return False
        now = time.monotonic()
        until, answer = self._known.get(port, (0.0, False))
        if now < until:
            return answer
        answer = is_jetbrains(await anyio.to_thread.run_sync(self._command_line, port))
        self._known[port] = (now + REMEMBER_SECONDS, answer)
        return answer
