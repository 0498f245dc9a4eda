"""Sessions of the agent's SSH server, driven by the stock OpenSSH client."""

# A test may block for the moment that a client takes to start, and has nothing to wait on outside itself.
# ruff: noqa: ASYNC110, ASYNC220, ASYNC221, ASYNC230, ASYNC240

from __future__ import annotations

import os
import signal
import socket
import subprocess
from pathlib import Path

import anyio
import pytest

from tests.integration.agent.conftest import SSH, Workspace, alive, ssh_server
from warren.agent.connections import ConnectionType
from warren.agent.ssh.host_key import rsa_pem, seed_for

pytestmark = pytest.mark.anyio


async def test_exec_keeps_output_error_and_status_apart(ssh: SSH) -> None:
    result = await ssh.run("echo out; echo err >&2; exit 3")
    assert (result.stdout, result.stderr, result.returncode) == (b"out\n", b"err\n", 3)


async def test_end_of_input_reaches_the_command_while_output_stays_open(ssh: SSH) -> None:
    result = await ssh.run("wc -c; echo done", data=b"x" * 100_000)
    assert result.stdout.split() == [b"100000", b"done"]


async def test_a_command_that_does_not_read_its_input_ends(ssh: SSH) -> None:
    with Path("/dev/zero").open("rb") as endless:
        result = await anyio.run_process(ssh.command("u@127.0.0.1", "head -c 5"), stdin=endless)
    assert result.stdout == b"\0" * 5


async def test_bytes_pass_unchanged_both_ways(ssh: SSH) -> None:
    data = os.urandom(3_000_000)
    result = await ssh.run("cat", data=data)
    assert result.stdout == data


async def test_a_killed_command_is_255(ssh: SSH) -> None:
    assert (await ssh.run("kill -9 $$")).returncode == 255


async def test_an_unknown_command_is_127(ssh: SSH) -> None:
    assert (await ssh.run("no-such-program-here")).returncode == 127


async def test_environment(ssh: SSH, workspace: Workspace) -> None:
    workspace.use(environment={"FROM_TEMPLATE": "$FROM_AGENT-x", "EMPTY": "${NOT_THERE}"})
    result = await ssh.run("-o", "SendEnv=LC_*", "-o", "SetEnv=CODER_SSH_SESSION_TYPE=vscode FROM_AGENT=client", "env")
    variables = dict(line.split("=", 1) for line in result.stdout.decode().splitlines() if "=" in line)
    assert variables["FROM_TEMPLATE"] == "agent-x"
    assert variables["EMPTY"] == ""
    assert variables["LC_WARREN"] == "sent"
    assert variables["FROM_AGENT"] == "agent", "a client must not override what the agent has"
    assert "CODER_SSH_SESSION_TYPE" not in variables
    assert variables["SSH_CONNECTION"] == "0.0.0.0 0 0.0.0.0 0"
    assert variables["GIT_SSH_COMMAND"].endswith("gitssh --")
    assert variables["CODER_WORKSPACE_NAME"] == "dev"
    assert variables["HOME"] == str(workspace.home)


async def test_commands_start_in_the_manifests_directory(ssh: SSH, workspace: Workspace) -> None:
    (workspace.home / "project").mkdir()
    workspace.use(directory="~/project")
    assert (await ssh.run("pwd")).stdout.decode().strip() == str(workspace.home / "project")
    workspace.use(directory="/does/not/exist")
    assert (await ssh.run("pwd")).stdout.decode().strip() == str(workspace.home)


async def test_terminal_with_status_and_merged_error(ssh: SSH) -> None:
    result = await ssh.run("-tt", "test -t 0 && test -t 2 && echo $TERM >&2; exit 4")
    assert result.returncode == 4
    assert result.stdout == b"xterm\r\n"


@pytest.mark.parametrize("run", range(3))
async def test_nothing_is_lost_of_a_terminals_quick_output(ssh: SSH, run: int) -> None:
    result = await ssh.run("-tt", "seq 1 5000")
    assert result.stdout == b"".join(b"%d\r\n" % number for number in range(1, 5001))


async def test_a_login_shell_is_greeted_and_resized(ssh: SSH) -> None:
    master, slave = os.openpty()
    os.set_blocking(master, False)
    subprocess.run(["stty", "rows", "30", "cols", "100", "erase", "^H", "-ixon"], stdin=slave, check=True)
    client = subprocess.Popen(ssh.command("-t", "user@127.0.0.1"), stdin=slave, stdout=slave, stderr=slave)
    os.close(slave)
    try:
        with anyio.fail_after(15):
            await _read_until(master, b"welcome")
            os.write(master, b"stty size; echo first-do''ne\n")
            assert b"30 100" in await _read_until(master, b"first-done")
            os.write(master, b"stty -a; echo modes-do''ne\n")
            modes = await _read_until(master, b"modes-done")
            assert b"erase = ^H" in modes
            assert b"-ixon" in modes
            subprocess.run(["stty", "rows", "41", "cols", "81"], stdin=master, check=True)
            client.send_signal(signal.SIGWINCH)
            os.write(master, b"while [ \"$(stty size)\" != '41 81' ]; do sleep 0.05; done; echo resi''zed\n")
            await _read_until(master, b"resized")
            os.write(master, b"exit 7\n")
            await _read_until(master, b"")
        assert client.wait(5) == 7
    finally:
        client.kill()
        client.wait()
        os.close(master)


async def _read_until(master: int, text: bytes) -> bytes:
    """Read a terminal until `text`, or until its end when that is empty."""
    seen = b""
    while not text or text not in seen:
        await anyio.wait_readable(master)
        try:
            data = os.read(master, 4096)
        except OSError:
            break
        if not data:
            break
        seen += data
    return seen


async def test_a_disconnect_hangs_up_programs_on_a_terminal(ssh: SSH, workspace: Workspace) -> None:
    mark = workspace.home / "pid"
    client = subprocess.Popen(
        ssh.command("-tt", "user@127.0.0.1", f"echo $$ > {mark}; exec sleep 600"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    with anyio.fail_after(20):
        pid = await _pid_in(mark)
        client.kill()
        client.wait()
        await _gone(pid)


async def test_a_disconnect_leaves_a_command_without_terminal_alone(ssh: SSH, workspace: Workspace) -> None:
    mark = workspace.home / "pid"
    client = subprocess.Popen(
        ssh.command("user@127.0.0.1", f"echo $$ > {mark}; exec sleep 600"), stdin=subprocess.DEVNULL
    )
    with anyio.fail_after(20):
        pid = await _pid_in(mark)
        client.kill()
        client.wait()
        while workspace.connections.count(ConnectionType.SSH):
            await anyio.sleep(0.01)
    os.kill(pid, 0)
    os.kill(pid, signal.SIGKILL)


async def _pid_in(path: Path) -> int:
    while not path.exists() or not path.read_text().strip():
        await anyio.sleep(0.02)
    return int(path.read_text())


async def _gone(pid: int) -> None:
    while alive(pid):
        await anyio.sleep(0.02)


async def test_signals_reach_the_command(ssh: SSH) -> None:
    import asyncssh

    async with asyncssh.connect("127.0.0.1", ssh.port, known_hosts=None, username="u", client_keys=None) as client:
        process = await client.create_process(
            "trap 'echo got-usr1; exit 5' USR1; echo ready; while :; do sleep 0.05; done"
        )
        assert await process.stdout.readline() == "ready\n"
        process.send_signal("USR1")
        assert await process.stdout.readline() == "got-usr1\n"
        await process.wait()
        assert process.exit_status == 5


async def test_a_session_that_cannot_start_leaves_the_others_alone(ssh: SSH, workspace: Workspace) -> None:
    import asyncssh

    async with asyncssh.connect("127.0.0.1", ssh.port, known_hosts=None, username="u", client_keys=None) as client:
        good = await client.create_process("cat", encoding=None)
        broken = await client.run("true", env={"BAD": "nul\0byte"}, check=False)
        assert broken.exit_status == 229
        workspace.use(environment={"PATH": "\0"})
        assert (await client.run("true", check=False)).exit_status == 229
        good.stdin.write(b"still here\n")
        assert await good.stdout.readline() == b"still here\n"
        good.stdin.write_eof()
        await good.wait()


async def test_sessions_are_counted_and_reported(ssh: SSH, workspace: Workspace) -> None:
    await ssh.run("-o", "SetEnv=CODER_SSH_SESSION_TYPE=VSCode", "exit 9")
    reports = workspace.connections.reports
    begun = await reports.first()
    reports.confirm()
    ended = await reports.first()
    assert (begun.type, begun.ended) == (ConnectionType.VSCODE, False)
    assert (ended.type, ended.ended, ended.status) == (ConnectionType.VSCODE, True, 9)
    assert begun.connection_id == ended.connection_id
    assert workspace.connections.count(ConnectionType.VSCODE) == 0


async def test_an_old_client_that_wants_rsa_is_served(ssh: SSH) -> None:
    ssh.server.add_host_key(rsa_pem(seed_for("alice", "dev", "main")))
    result = await ssh.run("-o", "HostKeyAlgorithms=rsa-sha2-256", "echo rsa")
    assert result.stdout == b"rsa\n"


async def test_many_sessions_at_once(ssh: SSH) -> None:
    statuses: list[int] = []

    async def one(number: int) -> None:
        statuses.append((await ssh.run(f"exit {number}")).returncode)

    async with anyio.create_task_group() as tasks:
        for number in range(12):
            tasks.start_soon(one, number)
    assert sorted(statuses) == list(range(12))


async def test_garbage_instead_of_a_handshake_closes_that_connection_only(ssh: SSH) -> None:
    with socket.create_connection(("127.0.0.1", ssh.port)) as connection:
        connection.sendall(os.urandom(10_000))
        connection.shutdown(socket.SHUT_WR)
        await anyio.wait_readable(connection)
    assert (await ssh.run("echo alive")).stdout == b"alive\n"


async def test_a_closed_server_refuses(workspace: Workspace, tmp_path: Path) -> None:
    async with ssh_server(workspace) as client:
        await client.server.close()
        assert (await client.run("true")).returncode == 255
