"""Terminals that outlive their viewers: a browser reconnects and sees what it missed."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from uuid import UUID

import anyio
import structlog
from anyio.abc import TaskGroup
from anyio.streams.memory import MemoryObjectReceiveStream

from warren.agent import sockets
from warren.agent.children import Child, Children, Terminal
from warren.agent.commands import CommandFactory
from warren.agent.connections import Connections, ConnectionType, Ending
from warren.agent.system import TerminalSize
from warren.agent.terminal_wire import MessageDecoder, TerminalInit, TerminalMessage, read_init
from warren.errors import RemoteProtocolError, Unavailable, WarrenError

log = structlog.get_logger()

REPLAY_BYTES = 64 * 1024
IDLE_SECONDS = 300.0
FIRST_ATTACH_SECONDS = 30.0
READ_BYTES = 32 * 1024
VIEWER_BLOCKS = 32
"""Blocks that may wait for one viewer; when they are full the terminal waits for it, for `STALL_SECONDS`."""
STALL_SECONDS = 10.0
TERM = "xterm-256color"


def terminal_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """Say what a browser's terminal needs: its type, and UTF-8 where the user chose no such locale."""
    variables = {"TERM": TERM}
    locale = next((environment[name] for name in ("LC_ALL", "LC_CTYPE", "LANG") if environment.get(name)), "")
    utf8 = locale.lower().replace("-", "").endswith("utf8")
    if not utf8 and not environment.get("LC_ALL"):
        variables["LC_CTYPE"] = "C.UTF-8"
    return variables


class _Viewer:
    def __init__(self) -> None:
        self.blocks, self.incoming = anyio.create_memory_object_stream[bytes](VIEWER_BLOCKS)

    def close(self) -> None:
        self.blocks.close()


class ReconnectingTerminal:
    """One terminal with the last of its output."""

    def __init__(self, child: Child, terminal: Terminal) -> None:
        self._child, self._terminal = child, terminal
        self._replay = bytearray()
        self._viewers: set[_Viewer] = set()
        self._idle = anyio.CancelScope()
        self.ended = False

    async def run(self) -> None:
        """Pass output to the viewers until the program ends or nobody looked for too long."""
        try:
            with self._idle:
                self._idle.deadline = anyio.current_time() + FIRST_ATTACH_SECONDS
                while data := await self._read():
                    await self._show(data)
        finally:
            self.ended = True
            for viewer in self._viewers:
                viewer.close()
            self._terminal.close()
            await self._child.see_off()

    async def attach(self, connection: socket.socket, size: TerminalSize) -> None:
        """Show the terminal on `connection` until either ends, or the client sends what is no message."""
        viewer = _Viewer()
        replay = bytes(self._replay)
        self._viewers.add(viewer)
        self._idle.deadline = float("inf")
        self._terminal.resize(size)
        try:
            await sockets.send_all(connection, replay)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._take_input, connection, tasks)
                await _send_blocks(viewer.incoming, connection)
                tasks.cancel_scope.cancel()
        except OSError:
            return  # the viewer left
        finally:
            self._viewers.discard(viewer)
            viewer.close()
            viewer.incoming.close()
            if not self._viewers:
                self._idle.deadline = anyio.current_time() + IDLE_SECONDS

    async def _read(self) -> bytes:
        while True:
            try:
                return os.read(self._terminal.fileno(), READ_BYTES)
            except BlockingIOError:
                await anyio.wait_readable(self._terminal.fileno())
            except OSError:  # the last program on the terminal ended
                return b""

    async def _show(self, data: bytes) -> None:
        self._replay += data
        del self._replay[:-REPLAY_BYTES]
        for viewer in list(self._viewers):
            with anyio.move_on_after(STALL_SECONDS) as patience:
                try:
                    await viewer.blocks.send(data)
                except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                    continue
            if patience.cancelled_caught:
                log.info("terminal.viewer_stalled")
                viewer.close()

    async def _take_input(self, connection: socket.socket, tasks: TaskGroup) -> None:
        decoder = MessageDecoder()
        try:
            while data := await sockets.receive(connection, READ_BYTES):
                for message in decoder.feed(data):
                    await self._apply(message)
        except RemoteProtocolError as error:
            log.info("terminal.bad_message", error=error.message)
        tasks.cancel_scope.cancel()

    async def _apply(self, message: TerminalMessage) -> None:
        view = memoryview(message.data.encode(errors="surrogatepass"))
        try:
            while view and self._terminal.fileno() >= 0:
                try:
                    view = view[os.write(self._terminal.fileno(), view) :]
                except BlockingIOError:
                    await anyio.wait_writable(self._terminal.fileno())
            self._terminal.resize(TerminalSize(message.width, message.height))
        except (OSError, anyio.ClosedResourceError):  # it ended; the output says so
            return


class Terminals:
    """The reconnecting terminals of a workspace, by their ids."""

    def __init__(
        self, commands: CommandFactory, children: Children, connections: Connections, tasks: TaskGroup
    ) -> None:
        self._commands, self._children, self._connections, self._tasks = commands, children, connections, tasks
        self._terminals: dict[UUID, ReconnectingTerminal] = {}

    async def serve(self, connection: socket.socket, ip: str) -> None:
        """Serve one viewer; takes the socket."""
        with self._connections.connection(ConnectionType.RECONNECTING_PTY, ip) as ending:
            try:
                await self._attach(connection, ending)
            finally:
                sockets.close(connection)

    async def _attach(self, connection: socket.socket, ending: Ending) -> None:
        try:
            length = int.from_bytes(await sockets.receive_exactly(connection, 2), "little")
            init = read_init(await sockets.receive_exactly(connection, length))
        except (anyio.IncompleteRead, RemoteProtocolError) as error:
            log.info("terminal.bad_request", error=str(error))
            return
        try:
            terminal = self._find_or_start(init)
            await terminal.attach(connection, TerminalSize(init.width, init.height))
        except (OSError, WarrenError) as error:
            log.warning("terminal.failed", terminal_id=str(init.terminal_id), error=str(error))
            ending.status, ending.reason = 1, "network_error"

    def _find_or_start(self, init: TerminalInit) -> ReconnectingTerminal:
        known = self._terminals.get(init.terminal_id)
        if known is not None and not known.ended:
            return known
        if init.container:
            raise Unavailable("dev containers are not supported by this agent")
        command = self._commands.make(init.command)
        command = self._commands.make(init.command, extra=terminal_variables(command.environment))
        child, terminal = self._children.start_on_terminal(command, TerminalSize(init.width, init.height), {})
        created = ReconnectingTerminal(child, terminal)
        self._terminals[init.terminal_id] = created
        self._tasks.start_soon(self._keep, init.terminal_id, created)
        return created

    async def _keep(self, terminal_id: UUID, terminal: ReconnectingTerminal) -> None:
        try:
            await terminal.run()
        finally:
            if self._terminals.get(terminal_id) is terminal:
                del self._terminals[terminal_id]


async def _send_blocks(blocks: MemoryObjectReceiveStream[bytes], connection: socket.socket) -> None:
    async for block in blocks:
        await sockets.send_all(connection, block)
