"""One SSH session over the tunnel: a command or a shell, with terminal, resizing, forwarding and exit status."""

from __future__ import annotations

import os
import signal
import socket
import sys
import termios
import tty
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import cast

import anyio
import asyncssh
from asyncssh.constants import EXTENDED_DATA_STDERR

from warren.cli.escape import EscapeFilter
from warren.errors import Unavailable

READ_SIZE = 1 << 16
HIGH_WATER = 1 << 20  # what may wait for a slow reader of our output before the other side is held back
TERMINAL_TYPE = "xterm-256color"
CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "aes256-ctr")  # the processor's own, fastest first
LOST = 255
BROKEN_PIPE = 128 + 13  # what a shell reports of a command that SIGPIPE ended


@dataclass(frozen=True, slots=True)
class RemoteForward:
    """A port or socket of the workspace that leads to one of ours."""

    remote: int | str
    local_host: str
    local: int | str


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """What a session is for. An empty command is the login shell."""

    command: str = ""
    terminal: bool = False
    agent_socket: str = ""
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    forwards: Sequence[RemoteForward] = ()


@dataclass(frozen=True, slots=True)
class Ended:
    """How a session ended: the remote exit status, 255 without one, and what to tell the user about it."""

    status: int
    why: str = ""


ESCAPED = Ended(LOST, "Connection closed.")


async def run(connection: socket.socket, options: SessionOptions) -> Ended:
    """Run a session over a connected socket until it ends.

    Raises:
        Unavailable: the other side does not speak SSH, or refused.
    """
    try:
        client = await asyncssh.connect(
            sock=connection,
            host="workspace",
            config=None,
            known_hosts=None,  # the tunnel authenticates the agent: WireGuard's keys come from the control plane
            username="coder",
            client_keys=None,
            agent_path=options.agent_socket or None,
            agent_forwarding=bool(options.agent_socket),
            encryption_algs=list(CIPHERS),
            kex_algs=["curve25519-sha256", "ecdh-sha2-nistp256"],
            compression_algs=None,
            keepalive_interval=15,
        )
    except (asyncssh.Error, OSError) as error:
        raise Unavailable(f"the workspace refused the SSH session: {error}") from error
    try:
        for forward in options.forwards:
            await _forward(client, forward)
        return await _Session(client, options).run()
    finally:
        client.abort()


async def _forward(client: asyncssh.SSHClientConnection, forward: RemoteForward) -> None:
    try:
        match forward:
            case RemoteForward(remote=int(remote), local=int(local)):
                await client.forward_remote_port("localhost", remote, forward.local_host, local)
            case _:
                await client.forward_remote_path(str(forward.remote), str(forward.local))
    except asyncssh.Error as error:
        raise Unavailable(f"the workspace refused to forward {forward.remote}: {error}") from error


class _Output:
    """Write what arrives to one of our streams, holding the other side back when the reader is slow."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._chunks: list[bytes] = []
        self._waiting_bytes = 0
        self._news = anyio.Event()
        self.ended = False

    def put(self, data: bytes) -> bool:
        """Take data to write; say whether too much waits already."""
        self._chunks.append(data)
        self._waiting_bytes += len(data)
        self._news.set()
        return self._waiting_bytes > HIGH_WATER

    def end(self) -> None:
        """Note that nothing more comes."""
        self.ended = True
        self._news.set()

    @property
    def relaxed(self) -> bool:
        """Whether little enough waits to take more."""
        return self._waiting_bytes < HIGH_WATER // 4

    async def write(self, session: _Session) -> None:
        """Write until the end."""
        while True:
            await self._news.wait()
            self._news = anyio.Event()
            while self._chunks:
                data = b"".join(self._chunks)
                self._chunks.clear()
                if not await anyio.to_thread.run_sync(_write_all, self._descriptor, data):
                    session.reader_left(self)
                    return
                self._waiting_bytes -= len(data)
                session.resume_if_relaxed()
            if self.ended:
                return


class _Session(asyncssh.SSHClientSession[bytes]):
    """The channel's events, and the tasks around it."""

    def __init__(self, client: asyncssh.SSHClientConnection, options: SessionOptions) -> None:
        self._client = client
        self._options = options
        self._channel: asyncssh.SSHClientChannel[bytes] | None = None
        self._stdout, self._stderr = _Output(1), _Output(2)
        self._may_write = anyio.Event()
        self._may_write.set()
        self._closed = anyio.Event()
        self._paused = False
        self._left: Ended | None = None

    async def run(self) -> Ended:
        """Run the session; return its exit status."""
        options = self._options
        size = _terminal_size()
        channel, _ = await self._client.create_session(  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]  bytes, as encoding=None says
            lambda: self,
            options.command or None,
            env=[f"{name}={value}" for name, value in options.environment.items()],
            request_pty=options.terminal,
            term_type=os.environ.get("TERM") or TERMINAL_TYPE if options.terminal else None,
            term_size=(size.columns, size.lines) if options.terminal else None,
            encoding=None,
        )
        self._channel = cast("asyncssh.SSHClientChannel[bytes]", channel)  # encoding=None makes it bytes
        raw = options.terminal and sys.stdin.isatty()
        with _raw_terminal(enabled=raw):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._resize)
                tasks.start_soon(self._type, EscapeFilter() if raw else None)
                async with anyio.create_task_group() as writers:
                    writers.start_soon(self._stdout.write, self)
                    writers.start_soon(self._stderr.write, self)
                    await self._closed.wait()
                    self._stdout.end()
                    self._stderr.end()
                tasks.cancel_scope.cancel()
        if self._left is not None:
            return self._left
        status = channel.get_exit_status()
        if status is None or status < 0:
            return Ended(LOST, "SSH connection ended unexpectedly")
        return Ended(status)

    def data_received(self, data: bytes, datatype: int | None) -> None:
        """Take output; called by asyncssh."""
        output = self._stderr if datatype == EXTENDED_DATA_STDERR else self._stdout
        if output.put(data) and self._channel is not None and not self._paused:
            self._paused = True
            self._channel.pause_reading()

    def resume_if_relaxed(self) -> None:
        """Let the other side send again when our readers caught up."""
        if self._paused and self._channel is not None and self._stdout.relaxed and self._stderr.relaxed:
            self._paused = False
            self._channel.resume_reading()

    def eof_received(self) -> bool:
        """Keep our half open at the end of the output; called by asyncssh."""
        return True

    def pause_writing(self) -> None:
        """Stop reading our input; called by asyncssh when the other side is slow."""
        self._may_write = anyio.Event()

    def resume_writing(self) -> None:
        """Go on reading our input; called by asyncssh."""
        self._may_write.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """Note the end of the channel; called by asyncssh."""
        self._may_write.set()
        self._closed.set()

    async def _type(self, escapes: EscapeFilter | None) -> None:
        """Send our input until it ends."""
        channel = self._channel
        assert channel is not None
        while data := await _read_input():
            if escapes is not None:
                typed = escapes.feed(data)
                data = typed.data
                if typed.shown:
                    self._stderr.put(typed.shown)
                if typed.leave:
                    self._leave(ESCAPED)
                    return
            await self._may_write.wait()
            if channel.is_closing():
                return
            channel.write(data)  # pyright: ignore[reportUnknownMemberType]  its second parameter is untyped
        if not channel.is_closing():
            channel.write_eof()

    def reader_left(self, output: _Output) -> None:
        """End the session when nobody reads its output any more, as a full pipe would end a local command."""
        if output is self._stdout:
            self._leave(Ended(BROKEN_PIPE))

    def _leave(self, ended: Ended) -> None:
        self._left = ended
        self._client.abort()
        self._closed.set()

    async def _resize(self) -> None:
        """Tell the other side whenever the terminal's size changed."""
        if not self._options.terminal or not hasattr(signal, "SIGWINCH"):
            return
        with anyio.open_signal_receiver(signal.SIGWINCH) as signals:
            async for _ in signals:
                size = _terminal_size()
                if self._channel is not None:
                    self._channel.change_terminal_size(size.columns, size.lines)


def _terminal_size() -> os.terminal_size:
    """Ask the terminal itself: COLUMNS and LINES of the environment do not follow it."""
    for descriptor in (0, 1, 2):
        try:
            return os.get_terminal_size(descriptor)
        except OSError:
            continue
    return os.terminal_size((80, 24))


async def _read_input() -> bytes:
    """Read what there is on stdin; a regular file, which nobody can wait for, is read in a thread."""
    try:
        await anyio.wait_readable(0)
    except (PermissionError, OSError):
        return await anyio.to_thread.run_sync(os.read, 0, READ_SIZE, abandon_on_cancel=True)
    try:
        return os.read(0, READ_SIZE)
    except OSError:
        return b""  # a terminal that went away


def _write_all(descriptor: int, data: bytes) -> bool:
    """Write everything; say whether somebody still reads."""
    view = memoryview(data)
    try:
        while view:
            view = view[os.write(descriptor, view) :]
    except OSError:
        return False
    return True


@contextmanager
def _raw_terminal(*, enabled: bool) -> Generator[None]:
    """Give every key to the other side; restore the terminal afterwards."""
    if not enabled:
        yield
        return
    before = termios.tcgetattr(0)
    tty.setraw(0, termios.TCSADRAIN)  # and not FLUSH, which would lose what was typed ahead
    try:
        yield
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)
