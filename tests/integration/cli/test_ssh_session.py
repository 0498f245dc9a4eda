"""The client's SSH sessions against the workspace agent's real SSH server."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import pty
import signal
import socket
import struct
import subprocess
import sys
import termios
from collections.abc import AsyncGenerator
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from tests.integration.agent.conftest import SSH, Workspace, ssh_server
from tests.integration.agent.conftest import workspace as workspace

pytestmark = pytest.mark.anyio

PROGRAM = str(Path(__file__).with_name("session_program.py"))


@pytest.fixture
async def server(workspace: Workspace) -> AsyncGenerator[SSH]:
    async with ssh_server(workspace) as ssh:
        yield ssh


def program(server: SSH, what: str) -> list[str]:
    return [sys.executable, PROGRAM, str(server.port), what]


async def run(server: SSH, data: bytes = b"", **options: object) -> subprocess.CompletedProcess[bytes]:
    with anyio.fail_after(15):
        return await anyio.run_process(program(server, json.dumps(options)), input=data, check=False)


async def test_output_errors_and_status_are_the_command_s(server: SSH) -> None:
    ran = await run(server, command="echo out; echo err >&2; exit 7")
    assert (ran.stdout, ran.stderr, ran.returncode) == (b"out\n", b"err\n", 7)


async def test_input_ends_where_ours_does(server: SSH) -> None:
    ran = await run(server, b"abc", command="cat; echo done")
    assert ran.stdout == b"abcdone\n"


async def test_a_command_that_ends_first_ends_the_session(server: SSH) -> None:
    """Nobody writes to our input and nobody closes it."""
    reader, writer = os.pipe()
    try:
        with anyio.fail_after(20):
            process = await anyio.open_process(program(server, json.dumps({"command": "true"})), stdin=reader)
            assert await process.wait() == 0
    finally:
        os.close(reader)
        os.close(writer)


async def test_a_signal_is_a_status_of_255(server: SSH) -> None:
    assert (await run(server, command="kill -9 $$")).returncode == 255


async def test_environment(server: SSH) -> None:
    ran = await run(server, command="echo $ONE-$TWO", environment={"ONE": "1", "TWO": "a b"})
    assert ran.stdout == b"1-a b\n"


async def test_much_data_both_ways_with_a_slow_reader(server: SSH) -> None:
    sent = os.urandom(24 << 20)
    ran = await run(server, sent, command="cat")
    assert hashlib.sha256(ran.stdout).digest() == hashlib.sha256(sent).digest()


async def test_a_reader_who_leaves_ends_the_session(server: SSH) -> None:
    words = " ".join(["exec", sys.executable, PROGRAM, str(server.port), "'" + json.dumps({"command": "yes"}) + "'"])
    with anyio.fail_after(15):
        ran = await anyio.run_process(["sh", "-c", f"({words}) | head -n 2"], check=True)
    assert ran.stdout == b"y\ny\n"


async def test_remote_forward(server: SSH, tmp_path: Path) -> None:
    path, remote = tmp_path / "local.sock", tmp_path / "remote.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(1)

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(b"hello from here")

        ran = None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.to_thread.run_sync, answer)
            connect = f"s=socket.socket(socket.AF_UNIX); s.connect({str(remote)!r})"
            code = f"import socket; {connect}; print(s.recv(99).decode())"
            command = f"{sys.executable} -c {json.dumps(code)}"
            ran = await run(server, command=command, forwards=[[str(remote), "", str(path)]])
    assert ran is not None
    assert ran.stdout == b"hello from here\n", ran.stderr


class Terminal:
    """The program under a pseudo terminal."""

    def __init__(self, server: SSH, **options: object) -> None:
        self.master, slave = pty.openpty()
        self.resize(100, 30)
        self.before = termios.tcgetattr(slave)
        self.slave = slave
        self.process = subprocess.Popen(
            program(server, json.dumps({"terminal": True, **options})),
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            env={**os.environ, "TERM": "vt100"},
        )
        self.shown = b""

    def resize(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    async def read_until(self, wanted: bytes, *, after: int = 0) -> None:
        while wanted not in self.shown[after:]:
            await anyio.wait_readable(self.master)
            self.shown += os.read(self.master, 65536)

    def type(self, data: bytes) -> None:
        os.write(self.master, data)

    async def status(self) -> int:
        return await anyio.to_thread.run_sync(self.process.wait)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
async def shell(server: SSH) -> AsyncGenerator[Terminal]:
    terminal = Terminal(server, command="sh")
    try:
        with anyio.fail_after(15):
            terminal.type(b"echo ready-$((40+2))\r")
            await terminal.read_until(b"ready-42")
            yield terminal
    finally:
        terminal.close()


async def test_a_terminal_has_our_size_and_type_and_follows_resizes(shell: Terminal) -> None:
    shell.type(b"stty size; echo $TERM\r")
    await shell.read_until(b"30 100")
    await shell.read_until(b"vt100")
    shell.resize(120, 40)
    os.kill(shell.process.pid, signal.SIGWINCH)
    # The new size travels behind what is typed; ask until it is there.
    shell.type(b'until [ "$(stty size)" = "40 120" ]; do sleep 0.1; done; echo resized-$((1+1))\r')
    await shell.read_until(b"resized-2")


async def test_a_terminal_is_restored_and_the_status_returned(shell: Terminal) -> None:
    assert termios.tcgetattr(shell.slave) != shell.before
    shell.type(b"exit 3\r")
    assert await shell.status() == 3
    assert termios.tcgetattr(shell.slave) == shell.before


async def test_ctrl_c_goes_to_the_command(shell: Terminal) -> None:
    shell.type(b"echo begin; sleep 60; echo after\r")
    await shell.read_until(b"begin\r\n")
    begun = len(shell.shown)
    shell.type(b"\x03")
    await shell.read_until(
        b"# " if os.geteuid() == 0 else b"$ ", after=begun
    )  # a shell that is interrupted drops what it has read
    shell.type(b"echo still-$((6*7))\r")
    await shell.read_until(b"still-42")


async def test_the_escape_sequence_ends_the_session(shell: Terminal) -> None:
    shell.type(b"\r~.")
    assert await shell.status() == 255
    assert termios.tcgetattr(shell.slave) == shell.before


def start(words: list[str], **ends: int | socket.socket) -> subprocess.Popen[bytes]:
    return subprocess.Popen(words, **ends)  # pyright: ignore[reportCallIssue, reportArgumentType]  streams only


def proxied(server: SSH) -> list[str]:
    command = " ".join(program(server, "stdio"))
    settings = [f"ProxyCommand={command}", "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR"]
    return ["-F", "none", *(word for setting in settings for word in ("-o", setting))]


async def test_stdio_serves_stock_openssh(server: SSH, tmp_path: Path) -> None:
    with anyio.fail_after(18):
        ran = await anyio.run_process(["ssh", *proxied(server), "u@w", "cat; exit 5"], input=b"typed", check=False)
        assert (ran.stdout, ran.returncode) == (b"typed", 5)
        source = tmp_path / "source"
        source.write_bytes(os.urandom(32 << 20))
        target = tmp_path / "target"
        await anyio.run_process(["scp", *proxied(server), str(source), f"u@w:{target}"])
        assert target.read_bytes() == source.read_bytes()


@pytest.mark.parametrize("pipes", [True, False])
async def test_stdio_half_closes_and_ends(server: SSH, *, pipes: bool) -> None:
    """Input and output may be pipes or one socket; the end of the input is not the end of the output."""
    mine, theirs = socket.socketpair()
    ends = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE} if pipes else {"stdin": theirs, "stdout": theirs}
    process = start(program(server, "stdio"), **ends)
    theirs.close()
    try:
        if pipes:
            assert process.stdin is not None
            assert process.stdout is not None
            banner = await anyio.to_thread.run_sync(process.stdout.read, 7)
            process.stdin.close()
            process.stdout.close()
        else:
            banner = await anyio.to_thread.run_sync(mine.recv, 7)
            mine.close()
        assert banner == b"SSH-2.0"
        with anyio.fail_after(20):
            assert await anyio.to_thread.run_sync(process.wait) == 0
    finally:
        process.kill()
        process.wait()
        mine.close()
