"""File transfer and forwarding of the agent's SSH server, driven by stock OpenSSH."""

# A test may block for the moment that a client takes to start, and has nothing to wait on outside itself.
# ruff: noqa: ASYNC110, ASYNC220, ASYNC221, ASYNC240

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import socket
import stat
import subprocess
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from tests.integration.agent.conftest import SSH, Workspace, ssh_server
from tests.ports import free_port
from warren.agent.connections import ConnectionType

pytestmark = pytest.mark.anyio


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


async def _sftp(ssh: SSH, *lines: str) -> subprocess.CompletedProcess[bytes]:
    return await ssh.tool("sftp", "-b", "-", "u@127.0.0.1", data="\n".join(lines).encode() + b"\n")


@pytest.mark.parametrize("legacy", [False, True], ids=["sftp", "scp"])
async def test_scp_both_ways(ssh: SSH, workspace: Workspace, tmp_path: Path, legacy: bool) -> None:
    source, back = tmp_path / "source", tmp_path / "back"
    source.write_bytes(os.urandom(5_000_003))
    source.chmod(0o640)
    mode = ["-O"] if legacy else []
    up = await ssh.tool("scp", *mode, "-p", str(source), "u@127.0.0.1:copied")
    assert up.returncode == 0, up.stderr
    down = await ssh.tool("scp", *mode, "-p", "u@127.0.0.1:copied", str(back))
    assert down.returncode == 0, down.stderr
    assert _digest(source) == _digest(workspace.home / "copied") == _digest(back)
    assert stat.S_IMODE((workspace.home / "copied").stat().st_mode) == 0o640
    assert int(source.stat().st_mtime) == int(back.stat().st_mtime)


async def test_scp_of_a_tree(ssh: SSH, workspace: Workspace, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    for number in range(200):
        path = tree / f"folder{number % 7}" / f"file {number} ä"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(str(number) * number)
    result = await ssh.tool("scp", "-r", str(tree), "u@127.0.0.1:")
    assert result.returncode == 0, result.stderr
    assert subprocess.run(["diff", "-r", tree, workspace.home / "tree"], check=False).returncode == 0


async def test_sftp_commands(ssh: SSH, workspace: Workspace) -> None:
    result = await _sftp(
        ssh,
        "mkdir d",
        "put /etc/hostname d/a",
        "rename d/a d/b",
        "chmod 600 d/b",
        "ln -s b d/link",
        "ln d/b d/hard",
        "ls -la d",
        "df -h",
        "pwd",
    )
    assert result.returncode == 0, result.stderr
    folder = workspace.home / "d"
    assert (folder / "b").read_bytes() == Path("/etc/hostname").read_bytes()
    assert stat.S_IMODE((folder / "b").stat().st_mode) == 0o600
    assert (folder / "link").readlink() == Path("b")
    assert (folder / "hard").stat().st_ino == (folder / "b").stat().st_ino
    assert str(workspace.home) in result.stdout.decode()
    assert "-rw-------" in result.stdout.decode()
    assert (await _sftp(ssh, "rm d/link", "rm d/hard", "rm d/b", "rmdir d")).returncode == 0
    assert not folder.exists()


async def test_sftp_errors_are_told(ssh: SSH, workspace: Workspace) -> None:
    assert b"not found" in (await _sftp(ssh, "get nothing")).stderr.lower()
    (workspace.home / "a").write_text("a")
    (workspace.home / "full").mkdir()
    (workspace.home / "full" / "b").write_text("b")
    assert (await _sftp(ssh, "rmdir full")).returncode != 0
    assert (await _sftp(ssh, "cd a")).returncode != 0


async def test_sftp_lists_a_large_folder(ssh: SSH, workspace: Workspace) -> None:
    folder = workspace.home / "large"
    folder.mkdir()
    for number in range(1500):
        (folder / f"n{number}").touch()
    listed = (await _sftp(ssh, "ls -1 large")).stdout.decode().splitlines()
    assert len([line for line in listed if line.startswith("large/")]) == 1500


async def test_resuming_an_upload(ssh: SSH, workspace: Workspace, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(os.urandom(900_000))
    (workspace.home / "part").write_bytes(source.read_bytes()[:400_000])
    result = await _sftp(ssh, f"reput {source} part")
    assert result.returncode == 0, result.stderr
    assert _digest(source) == _digest(workspace.home / "part")


async def test_git_push_and_clone(ssh: SSH, workspace: Workspace, tmp_path: Path) -> None:
    remote = f"u@127.0.0.1:{workspace.home}/repository.git"
    subprocess.run(["git", "init", "-q", "--bare", workspace.home / "repository.git"], check=True)
    work = tmp_path / "work"
    subprocess.run(["git", "init", "-q", "-b", "main", work], check=True)
    (work / "large").write_bytes(os.urandom(2_000_000))
    subprocess.run(["git", "-C", work, "add", "large"], check=True)
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.com"]
    subprocess.run(["git", "-C", work, *identity, "commit", "-q", "-m", "one"], check=True)
    environment = {**os.environ, "GIT_SSH_COMMAND": shlex.join(["ssh", *ssh.options()])}
    with anyio.fail_after(15):
        await anyio.run_process(["git", "-C", str(work), "push", "-q", remote, "main"], env=environment)
        clone = ["git", "clone", "-q", "-b", "main", remote, str(tmp_path / "clone")]
        await anyio.run_process(clone, env=environment)
    assert _digest(work / "large") == _digest(tmp_path / "clone" / "large")


@pytest.mark.parametrize("command", ["scp -t x", "/usr/bin/rsync --server", "nc -l 1"])
async def test_blocked_file_transfer(workspace: Workspace, tmp_path: Path, command: str) -> None:
    async with ssh_server(workspace, block_file_transfer=True) as ssh:
        result = await ssh.run(command)
        assert (result.returncode, result.stdout) == (65, b"\x02File transfer has been disabled.\n")
        assert (await _sftp(ssh, "ls")).returncode != 0
        assert (await ssh.run("echo fine")).stdout == b"fine\n"


# Forwarding


@asynccontextmanager
async def _client(ssh: SSH, options: Sequence[str], command: str = "") -> AsyncGenerator[subprocess.Popen[bytes]]:
    """Run an SSH client in the background until the context ends."""
    words = ["-o", "ExitOnForwardFailure=yes", *options, "u@127.0.0.1", command or "echo up; exec cat"]
    client = subprocess.Popen(ssh.command(*words), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert client.stdout is not None
    assert client.stdin is not None
    try:
        with anyio.fail_after(20):
            await anyio.wait_readable(client.stdout)
        client.stdout.readline()
        yield client
    finally:
        client.stdin.close()
        client.stdout.close()
        client.terminate()
        client.wait()


@asynccontextmanager
async def _echo() -> AsyncGenerator[int]:
    """Serve echo on a loopback port."""
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")

    async def echo(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            async for data in stream:
                await stream.send(data)
            await stream.send_eof()

    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, echo)
        port: int = listener.extra(anyio.abc.SocketAttribute.local_port)
        yield port
        tasks.cancel_scope.cancel()


async def _exchange(stream: anyio.abc.ByteStream, size: int = 300_000) -> None:
    """Send bytes through an echo and check that they come back, the end of the stream included."""
    sent, received = os.urandom(size), bytearray()

    async def send() -> None:
        await stream.send(sent)
        await stream.send_eof()

    with anyio.fail_after(20):
        async with stream, anyio.create_task_group() as tasks:
            tasks.start_soon(send)
            async for data in stream:
                received += data
    assert bytes(received) == sent


async def test_local_forward(ssh: SSH) -> None:
    port = free_port()
    async with _echo() as echo, _client(ssh, ["-L", f"{port}:127.0.0.1:{echo}"]):
        for _ in range(3):
            await _exchange(await anyio.connect_tcp("127.0.0.1", port))


async def test_remote_forward(ssh: SSH) -> None:
    port = free_port()
    async with _echo() as echo, _client(ssh, ["-R", f"{port}:127.0.0.1:{echo}"]):
        await _exchange(await anyio.connect_tcp("127.0.0.1", port))


async def test_dynamic_forward(ssh: SSH) -> None:
    port = free_port()
    async with _echo() as echo, _client(ssh, ["-D", str(port)]):
        stream = await anyio.connect_tcp("127.0.0.1", port)
        await stream.send(b"\x05\x01\x00")
        assert await stream.receive(2) == b"\x05\x00"
        await stream.send(b"\x05\x01\x00\x01\x7f\x00\x00\x01" + echo.to_bytes(2, "big"))
        assert (await stream.receive(10))[1] == 0
        await _exchange(stream)


async def test_local_unix_forward(ssh: SSH, tmp_path: Path) -> None:
    async with _echo() as echo:
        here, there = tmp_path / "here.sock", tmp_path / "there.sock"
        listener = await anyio.create_unix_listener(there)

        async def relay(stream: anyio.abc.SocketStream) -> None:
            upstream = await anyio.connect_tcp("127.0.0.1", echo)
            async with stream, upstream, anyio.create_task_group() as tasks:
                tasks.start_soon(_copy, stream, upstream)
                tasks.start_soon(_copy, upstream, stream)

        async with listener, anyio.create_task_group() as tasks:
            tasks.start_soon(listener.serve, relay)
            async with _client(ssh, ["-L", f"{here}:{there}"]):
                await _exchange(await anyio.connect_unix(here))
            tasks.cancel_scope.cancel()


async def _copy(source: anyio.abc.ByteStream, target: anyio.abc.ByteStream) -> None:
    async for data in source:
        await target.send(data)
    await target.send_eof()


async def test_remote_unix_forward_replaces_what_is_there(ssh: SSH, tmp_path: Path) -> None:
    there = tmp_path / "new" / "folder" / "there.sock"
    async with _echo() as echo, _client(ssh, ["-R", f"{there}:127.0.0.1:{echo}"]):
        assert stat.S_IMODE(there.parent.stat().st_mode) == 0o700
        await _exchange(await anyio.connect_unix(there))
        async with _client(ssh, ["-R", f"{there}:127.0.0.1:{echo}"]):
            await _exchange(await anyio.connect_unix(there))


async def test_a_refused_destination_closes_that_channel_only(ssh: SSH) -> None:
    port, closed = free_port(), free_port()
    async with _client(ssh, ["-L", f"{port}:127.0.0.1:{closed}"]) as client:
        async with await anyio.connect_tcp("127.0.0.1", port) as stream:
            with anyio.fail_after(20), pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
                await stream.receive()
        assert client.poll() is None


async def test_x11_forwarding(ssh: SSH, tmp_path: Path) -> None:
    """The client's display is a socket of this test; the connection gets as far as there."""
    # OpenSSH takes a display that is a path as the socket itself.
    display = tmp_path / "display"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(display))
        server.listen()
        connect = "exec 3<>/dev/tcp/localhost/$((6000 + ${d%.*}))"
        command = f"d=${{DISPLAY#*:}}; echo $DISPLAY; test -s $XAUTHORITY && {connect} && echo ok"
        environment = {"PATH": os.environ["PATH"], "DISPLAY": str(display), "HOME": str(tmp_path)}
        result = await anyio.run_process(ssh.command("-Y", "u@127.0.0.1", command), env=environment, check=False)
    first, *rest = result.stdout.decode().splitlines()
    assert first.startswith("localhost:")
    assert rest == ["ok"], result


_IDE = (
    "import socket, sys; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True);"
    "c, _ = s.accept(); c.sendall(b'hello'); c.recv(1)"
)


async def test_forwarded_connections_to_an_ide_are_counted(ssh: SSH, workspace: Workspace) -> None:
    ide = subprocess.Popen([sys.executable, "-c", _IDE, "-Didea.vendor.name=JetBrains"], stdout=subprocess.PIPE)
    assert ide.stdout is not None
    port, ide_port = free_port(), int(ide.stdout.readline())
    try:
        async with _client(ssh, ["-L", f"{port}:127.0.0.1:{ide_port}"]):
            with anyio.fail_after(20):
                async with await anyio.connect_tcp("127.0.0.1", port) as stream:
                    assert await stream.receive() == b"hello"
                    while not workspace.connections.count(ConnectionType.JETBRAINS):
                        await anyio.sleep(0.01)
                while workspace.connections.count(ConnectionType.JETBRAINS):
                    await anyio.sleep(0.01)
    finally:
        ide.kill()
        ide.wait()
        ide.stdout.close()


async def test_forwarding_can_be_forbidden(workspace: Workspace, tmp_path: Path) -> None:
    changes = {"block_local_forwarding": True, "block_reverse_forwarding": True}
    async with ssh_server(workspace, **changes) as ssh, _echo() as echo:
        result = await ssh.run("-o", "ExitOnForwardFailure=yes", "-R", f"{free_port()}:127.0.0.1:{echo}", "true")
        assert result.returncode == 255
        port = free_port()
        async with (
            _client(ssh, ["-L", f"{port}:127.0.0.1:{echo}"]),
            await anyio.connect_tcp("127.0.0.1", port) as stream,
        ):
            with anyio.fail_after(20), pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
                await stream.receive()


@pytest.mark.skipif(shutil.which("ssh-agent") is None, reason="needs ssh-agent")
async def test_agent_forwarding(ssh: SSH, tmp_path: Path) -> None:
    key, agent_socket = tmp_path / "key", tmp_path / "agent.sock"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "forwarded", "-f", key], check=True)
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", str(agent_socket)], stdout=subprocess.DEVNULL)
    try:
        with anyio.fail_after(20):
            while not agent_socket.exists():
                await anyio.sleep(0.01)
            environment = {"SSH_AUTH_SOCK": str(agent_socket), "PATH": os.environ["PATH"]}
            subprocess.run(["ssh-add", "-q", key], env=environment, check=True)
            command = ssh.command("-A", "u@127.0.0.1", "ssh-add -l")
            result = await anyio.run_process(command, env=environment)
        assert b"forwarded" in result.stdout
    finally:
        agent.terminate()
        agent.wait()
