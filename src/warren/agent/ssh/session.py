"""One SSH session: a shell, a command or file transfer, between its channel and a child."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import anyio
import asyncssh
import structlog
from anyio.abc import TaskGroup

from warren.agent.children import Child, Children, Terminal
from warren.agent.commands import CommandFactory
from warren.agent.connections import Connections, ConnectionType, Ending
from warren.agent.pipes import Pipe, read_block
from warren.agent.ssh import policy
from warren.agent.ssh.jetbrains import IDEPorts
from warren.agent.ssh.policy import SessionRequest, SessionType
from warren.agent.ssh.sftp import serve_sftp
from warren.agent.ssh.stdin import Stdin
from warren.agent.system import Command, TerminalSize
from warren.errors import WarrenError

log = structlog.get_logger()

STDERR = 1
"""SSH's extended data type of error output."""
STATUS_FAILED = 1
STATUS_SIGNALLED = 255
STATUS_INTERNAL = 229

_REPORTED_AS = {
    SessionType.SSH: ConnectionType.SSH,
    SessionType.VSCODE: ConnectionType.VSCODE,
    SessionType.JETBRAINS: ConnectionType.JETBRAINS,
    SessionType.UNKNOWN: ConnectionType.UNSPECIFIED,
}


@dataclass(frozen=True, slots=True)
class Host:
    """What sessions need of the agent."""

    commands: CommandFactory
    children: Children
    connections: Connections
    greeting: Callable[[], bytes]
    ide_ports: IDEPorts
    xauthority: Path
    """The file with the cookies of forwarded X11 displays; its folder must be private, since asyncssh rewrites it."""
    block_file_transfer: bool
    block_local_forwarding: bool
    block_reverse_forwarding: bool


class Session(asyncssh.SSHServerSession[bytes]):
    """What asyncssh calls for one session channel; the work is done by a task of the connection."""

    _channel: asyncssh.SSHServerChannel[bytes]
    _stdin: Stdin

    def __init__(self, host: Host, tasks: TaskGroup, ip: str) -> None:
        self._host, self._tasks, self._ip = host, tasks, ip
        self._term: str | None = None
        self._size = TerminalSize(0, 0)
        self._modes: Mapping[int, int] = {}
        self._command = ""
        self._subsystem = ""
        self._child: Child | None = None
        self._terminal: Terminal | None = None
        self._scope = anyio.CancelScope()
        self._writable = anyio.Event()
        self._writable.set()

    # What asyncssh calls:

    def connection_made(self, chan: asyncssh.SSHServerChannel[bytes]) -> None:
        """Keep the channel."""
        self._channel = chan
        self._stdin = Stdin(chan)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop: nobody is there any more."""
        self._scope.cancel()

    def pty_requested(
        self, term_type: str, term_size: tuple[int, int, int, int], term_modes: Mapping[int, int]
    ) -> bool:
        """Accept a terminal."""
        self._term = term_type
        self._size = TerminalSize(term_size[0], term_size[1])
        self._modes = term_modes
        return True

    def shell_requested(self) -> bool:
        """Accept a login shell."""
        return True

    def exec_requested(self, command: str) -> bool:
        """Accept a command."""
        self._command = command
        return True

    def subsystem_requested(self, subsystem: str) -> bool:
        """Accept any subsystem; one that we lack ends with a status, as clients expect."""
        self._subsystem = subsystem
        return True

    def session_started(self) -> None:
        """Begin the work."""
        self._tasks.start_soon(self._run)

    def data_received(self, data: bytes, datatype: int | None) -> None:
        """Take input."""
        self._stdin.feed(data)

    def eof_received(self) -> bool:
        """End the input; the output stays open."""
        self._stdin.end()
        return True

    def signal_received(self, signal: str) -> None:
        """Pass a signal on to the command."""
        number = _signal_number(signal)
        if self._child is not None and number is not None:
            self._child.signal(number)

    def terminal_size_changed(self, width: int, height: int, pixwidth: int, pixheight: int) -> None:
        """Resize the terminal."""
        self._size = TerminalSize(width, height)
        if self._terminal is not None:
            self._terminal.resize(self._size)

    def pause_writing(self) -> None:
        """Stop reading from the child: the client is slow."""
        self._writable = anyio.Event()

    def resume_writing(self) -> None:
        """Go on."""
        self._writable.set()

    # The work:

    async def _run(self) -> None:
        request = policy.read_request(self._sent_environment())
        kind = _REPORTED_AS[request.type]
        with self._host.connections.connection(kind, self._ip, counted=request.type.counted) as ending:
            with self._scope:
                ending.status = await self._serve(request, ending)
                self._channel.exit(ending.status)
            if self._scope.cancelled_caught:
                ending.status, ending.reason = STATUS_SIGNALLED, "client disconnected"

    async def _serve(self, request: SessionRequest, ending: Ending) -> int:
        try:
            return await self._dispatch(request)
        except (OSError, WarrenError) as error:
            log.warning("session.failed", command=self._command, error=str(error))
            ending.reason = str(error)
            await self._write(f"{error}\n".encode(), None if self._term is not None else STDERR)
        except Exception as error:  # the top of a serving loop: a bug in one session must not end the others
            log.exception("session.crashed", command=self._command)
            ending.reason = repr(error)
        return STATUS_INTERNAL

    async def _dispatch(self, request: SessionRequest) -> int:
        sftp = self._subsystem == "sftp"
        if self._host.block_file_transfer and (sftp or policy.transfers_files(self._command)):
            await self._write(policy.BLOCKED_TEXT, None)
            return policy.BLOCKED_STATUS
        if request.container:
            await self._write(b"dev containers are not supported by this agent\n", STDERR)
            return STATUS_FAILED
        if sftp:
            commands = self._host.commands
            return await serve_sftp(self._stdin, self._write, directory=commands.directory(), home=commands.home())
        if self._subsystem:
            return STATUS_FAILED
        command = self._host.commands.make(self._command, sent=request.environment, extra=self._extra_environment())
        if self._term is None:
            return await self._run_on_pipes(command)
        return await self._run_on_terminal(command)

    async def _run_on_pipes(self, command: Command) -> int:
        status = 0
        with Pipe.to_child() as stdin, Pipe.from_child() as stdout, Pipe.from_child() as stderr:
            children = self._host.children
            child = children.start(command, stdin=stdin.theirs, stdout=stdout.theirs, stderr=stderr.theirs)
            self._child = child
            for pipe in (stdin, stdout, stderr):
                pipe.handed_over()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._feed, stdin)
                async with anyio.create_task_group() as outputs:
                    outputs.start_soon(self._pump, stdout.ours, None)
                    outputs.start_soon(self._pump, stderr.ours, STDERR)
                status = await child.wait()
                tasks.cancel_scope.cancel()
        return _exit_status(status)

    async def _run_on_terminal(self, command: Command) -> int:
        if not self._command:
            await self._write(self._host.greeting(), None)
        child, terminal = self._host.children.start_on_terminal(command, self._size, self._modes)
        self._child, self._terminal = child, terminal
        status = 0
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._stdin.write_to, terminal.fileno())
                await self._pump(terminal.fileno(), None)
                status = await child.wait()
                tasks.cancel_scope.cancel()
        finally:
            terminal.close()
            await child.see_off()
        return _exit_status(status)

    async def _feed(self, stdin: Pipe) -> None:
        await self._stdin.write_to(stdin.ours)
        stdin.close()

    async def _pump(self, descriptor: int, datatype: int | None) -> None:
        while data := await read_block(descriptor):
            await self._write(data, datatype)

    async def _write(self, data: bytes | memoryview, datatype: int | None = None) -> None:
        if not self._channel.is_closing() and data:
            # cast: the channel copies what it is given, and takes whatever `bytearray` takes
            self._channel.write(cast("bytes", data), datatype)  # pyright: ignore[reportUnknownMemberType]
        await self._writable.wait()

    def _sent_environment(self) -> dict[str, str]:
        sent = self._channel.get_environment_bytes()
        return {_text(name): _text(value) for name, value in sent.items()}

    def _extra_environment(self) -> dict[str, str]:
        extra: dict[str, str] = {}
        if self._term is not None:
            extra["TERM"] = self._term
        if agent_path := self._channel.get_agent_path():
            extra["SSH_AUTH_SOCK"] = agent_path
        if display := self._channel.get_x11_display():
            extra["DISPLAY"], extra["XAUTHORITY"] = display, str(self._host.xauthority)
        return extra


def _text(value: bytes) -> str:
    return value.decode(errors="surrogateescape")


def _exit_status(status: int) -> int:
    return status if status >= 0 else STATUS_SIGNALLED


def _signal_number(name: str) -> signal.Signals | None:
    try:
        return signal.Signals[f"SIG{name}"]
    except KeyError:
        return None
