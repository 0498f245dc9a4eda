"""What the agent asks of the operating system, so that each system is one module."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class TerminalSize:
    """Columns and rows of a terminal."""

    columns: int
    rows: int


@dataclass(frozen=True, slots=True)
class ListeningPort:
    """A TCP port somebody listens on; the name is empty when the process is not ours to see."""

    port: int
    process_name: str
    pid: int = 0


@dataclass(frozen=True, slots=True)
class MemoryUsage:
    """Bytes of memory in use and in all, of the container where there is one."""

    used_bytes: int
    total_bytes: int


@dataclass(frozen=True, slots=True)
class Command:
    """A program to start: arguments, complete environment and working directory."""

    arguments: Sequence[str]
    environment: Mapping[str, str]
    directory: str


class System(Protocol):
    """Facts about the machine and the user; six questions, one more than interfaces usually have here."""

    def user_name(self) -> str:
        """Return the name of the user that the agent runs as."""
        ...

    def home(self) -> str:
        """Return the user's home folder."""
        ...

    def shell(self) -> str:
        """Return the user's login shell.

        Raises:
            NotFound: the user has none and `SHELL` is not set.
        """
        ...

    def memory(self) -> MemoryUsage:
        """Measure the memory."""
        ...

    def listening_ports(self) -> Sequence[ListeningPort]:
        """List the TCP ports that processes listen on."""
        ...

    def listening_command_line(self, port: int) -> str:
        """Return the command line of the process that listens on a TCP port, empty when unknown."""
        ...


class Processes(Protocol):
    """How programs are started and watched on this system."""

    def start(self, command: Command, *, stdin: int, stdout: int, stderr: int) -> subprocess.Popen[bytes]:
        """Start a program in a session of its own; the descriptors stay the caller's."""
        ...

    def start_on_terminal(
        self, command: Command, size: TerminalSize, modes: Mapping[int, int]
    ) -> tuple[subprocess.Popen[bytes], int]:
        """Start a program on a new terminal that controls it; return it with the terminal's non-blocking master end.

        `modes` are numbered as in RFC 4254; those that the system lacks are ignored.
        """
        ...

    def resize(self, master: int, size: TerminalSize) -> None:
        """Tell the terminal its new size."""
        ...

    async def wait(self, process: subprocess.Popen[bytes]) -> int:
        """Wait until a program ended and return its status, negative for a signal."""
        ...

    def signal_group(self, process: subprocess.Popen[bytes], number: int) -> None:
        """Send a signal to the program and the processes in its group; one that ended is ignored."""
        ...
