"""Reconnecting terminals over sockets."""

# A test has nothing to wait on outside itself.
# ruff: noqa: ASYNC110

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from uuid import UUID, uuid4

import anyio
import pytest

from tests.integration.agent.conftest import Workspace, alive, listening
from warren.agent import sockets
from warren.agent import terminals as terminals_module
from warren.agent.connections import ConnectionType
from warren.agent.terminals import Terminals

pytestmark = pytest.mark.anyio


class Viewer:
    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.seen = b""

    async def type(self, text: str) -> None:
        await sockets.send_all(self.connection, json.dumps({"data": text}).encode())

    async def resize(self, width: int, height: int) -> None:
        await sockets.send_all(self.connection, json.dumps({"width": width, "height": height}).encode())

    async def wait_for(self, text: bytes) -> bytes:
        with anyio.fail_after(20):
            while text not in self.seen:
                data = await sockets.receive(self.connection, 65536)
                assert data, f"ended before {text!r}: {self.seen[-500:]!r}"
                self.seen += data
        return self.seen

    async def end(self) -> bytes:
        with anyio.fail_after(20):
            while data := await sockets.receive(self.connection, 65536):
                self.seen += data
        return self.seen


@asynccontextmanager
async def view(port: int, terminal_id: UUID, command: str = "", **fields: object) -> AsyncGenerator[Viewer]:
    connection = socket.create_connection(("127.0.0.1", port))
    connection.setblocking(False)
    init = {"ID": str(terminal_id), "Height": 24, "Width": 80, "Command": command, "Container": "", **fields}
    body = json.dumps(init).encode()
    try:
        await sockets.send_all(connection, len(body).to_bytes(2, "little") + body)
        yield Viewer(connection)
    finally:
        connection.close()


@pytest.fixture
async def port(workspace: Workspace) -> AsyncGenerator[int]:
    async with anyio.create_task_group() as tasks:
        terminals = Terminals(workspace.commands, workspace.children, workspace.connections, tasks)
        async with listening(terminals.serve) as found:
            yield found
        tasks.cancel_scope.cancel()


async def test_two_viewers_see_the_same_and_a_third_the_replay(port: int, workspace: Workspace) -> None:
    terminal_id = uuid4()
    async with view(port, terminal_id, "cat") as one, view(port, terminal_id) as two:
        await one.type("he")
        await one.type("llo\n")
        await one.wait_for(b"hello\r\nhello\r\n")
        await two.wait_for(b"hello\r\nhello\r\n")
        assert workspace.connections.count(ConnectionType.RECONNECTING_PTY) == 2
    async with view(port, terminal_id) as three:
        await three.wait_for(b"hello\r\nhello\r\n")
        await three.type("\x04")
        await three.end()


async def test_resize_and_locale(port: int) -> None:
    async with view(port, uuid4(), "sh", Height=30, Width=100) as viewer:
        await viewer.type("stty size; echo $TERM\n")
        await viewer.wait_for(b"30 100\r\nxterm-256color")
        await viewer.resize(81, 41)
        await viewer.type("stty size\n")
        await viewer.wait_for(b"41 81\r\n")
        await viewer.type("printf 'gr\\303\\274\\303\\237e\\n'\n")
        await viewer.wait_for("grüße\r\n".encode())


async def test_the_end_of_the_program_ends_the_viewers_and_the_terminal(port: int) -> None:
    terminal_id = uuid4()
    async with view(port, terminal_id, "echo one-shot; exit 3") as viewer:
        assert await viewer.end() == b"one-shot\r\n"
    async with view(port, terminal_id, "echo anew") as viewer:
        assert await viewer.end() == b"anew\r\n"


async def test_a_large_output_is_complete_and_the_replay_bounded(port: int) -> None:
    terminal_id = uuid4()
    async with view(port, terminal_id, "seq 1 200000; echo do''ne; cat") as viewer:
        seen = await viewer.wait_for(b"done\r\n")
    expected = b"".join(b"%d\r\n" % number for number in range(1, 200_001))
    assert seen.startswith(expected)
    async with view(port, terminal_id) as viewer:
        replay = await viewer.wait_for(b"done\r\n")
        assert terminals_module.REPLAY_BYTES - 10 < len(replay) <= terminals_module.REPLAY_BYTES


async def test_an_idle_terminal_ends(port: int, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminals_module, "IDLE_SECONDS", 0.2)
    mark = workspace.home / "pid"
    async with view(port, uuid4(), f"echo $$ > {mark}; echo started; exec cat") as viewer:
        await viewer.wait_for(b"started")
    with anyio.fail_after(20):
        while alive(int(mark.read_text())):
            await anyio.sleep(0.02)


async def test_a_program_that_ends_under_a_flood_of_input(port: int, workspace: Workspace) -> None:
    async with view(port, uuid4(), "stty raw -echo; echo ready; sleep 0.5") as viewer:
        await viewer.wait_for(b"ready")
        with contextlib.suppress(OSError):  # the terminal may end before all is sent
            await viewer.type("x" * 500_000)
        await viewer.end()
    reports = workspace.connections.reports
    while len(reports) < 2:
        await anyio.sleep(0.01)
    reports.confirm()
    assert (await reports.first()).reason == "graceful"


async def test_bad_requests_close_the_connection(port: int) -> None:
    for data in (b"\x05\x00{}xxx", b"\xff\xff", b"\x02\x00{}"):
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.setblocking(False)
            await sockets.send_all(connection, data)
            connection.shutdown(socket.SHUT_WR)
            with anyio.fail_after(20):
                assert await sockets.receive(connection, 10) == b""


async def test_a_viewer_that_sends_garbage_leaves_the_terminal_alone(port: int) -> None:
    terminal_id = uuid4()
    async with view(port, terminal_id, "cat") as one:
        await one.type("x\n")
        await one.wait_for(b"x\r\nx\r\n")
        async with view(port, terminal_id) as two:
            await sockets.send_all(two.connection, b"}")
            await two.end()
        await one.type("y\n")
        await one.wait_for(b"y\r\ny\r\n")
