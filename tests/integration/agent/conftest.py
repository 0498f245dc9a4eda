"""A real agent's services on loopback sockets, for real clients."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import uuid4

import anyio
import pytest

from warren.agent.children import Children
from warren.agent.commands import CommandFactory, Settings
from warren.agent.connections import Connections
from warren.agent.linux import LinuxProcesses, LinuxSystem
from warren.agent.manifest import Manifest
from warren.agent.ssh.host_key import ed25519_pem, seed_for
from warren.agent.ssh.jetbrains import IDEPorts
from warren.agent.ssh.server import SSHServer
from warren.agent.ssh.session import Host
from warren.clock import SystemClock

MANIFEST = Manifest(uuid4(), uuid4(), owner_name="alice", workspace_name="dev", agent_name="main")


def alive(pid: int) -> bool:
    """Say whether a process runs; one that ended but was not collected by its parent does not."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


@dataclass
class Workspace:
    """What an agent's services stand on, in a home folder of its own."""

    home: Path
    commands: CommandFactory
    children: Children
    connections: Connections

    def use(self, **changes: object) -> None:
        # the values are those of the manifest's fields; dataclasses.replace checks the names
        self.commands.use(replace(MANIFEST, **changes))  # pyright: ignore[reportArgumentType]


@pytest.fixture
async def workspace(tmp_path: Path) -> AsyncGenerator[Workspace]:
    home = tmp_path / "home"
    bin_folder = tmp_path / "bin"
    home.mkdir()
    bin_folder.mkdir()
    environment = {"HOME": str(home), "PATH": os.environ["PATH"], "LANG": "C.UTF-8", "FROM_AGENT": "agent"}
    settings = Settings(environment, "/opt/warren/coder", (str(bin_folder),))
    commands = CommandFactory(LinuxSystem(environment), settings, lambda: "the-token")
    commands.use(MANIFEST)
    async with Children.open(LinuxProcesses()) as children:
        yield Workspace(home, commands, children, Connections(SystemClock()))


@asynccontextmanager
async def listening(serve: Callable[[socket.socket, str], Coroutine[object, object, None]]) -> AsyncGenerator[int]:
    """Serve a service on a loopback port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)

        async def accept() -> None:
            async with anyio.create_task_group() as connections:
                while True:
                    await anyio.wait_readable(listener)
                    connection, _ = listener.accept()
                    connection.setblocking(False)
                    connections.start_soon(serve, connection, "127.0.0.1")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(accept)
            yield listener.getsockname()[1]
            tasks.cancel_scope.cancel()


class Session:
    """An SSH client that runs in the background."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process

    async def exchange(self, data: bytes) -> bytes:
        """Send a line to a command that echoes, and return what comes back."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(data)
        self.process.stdin.flush()
        with anyio.fail_after(20):
            await anyio.wait_readable(self.process.stdout)
        return self.process.stdout.readline()

    def end(self) -> None:
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()
        self.process.kill()
        self.process.wait()


@dataclass(frozen=True)
class OpenSSH:
    """The stock OpenSSH client, pointed at a port of this machine."""

    port: int

    def options(self, *, port_flag: str = "-p") -> list[str]:
        settings = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR"]
        return ["-F", "none", port_flag, str(self.port), *(word for each in settings for word in ("-o", each))]

    def command(self, *words: str) -> list[str]:
        return ["ssh", *self.options(), *words]

    def start(self, command: str) -> Session:
        """Run a command in the background."""
        words = self.command("user@127.0.0.1", command)
        pipe = subprocess.PIPE
        return Session(subprocess.Popen(words, stdin=pipe, stdout=pipe, env=_client_environment()))

    async def run(self, *words: str, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """Run `ssh` with a command, the last word; the others are options of the client."""
        arguments = self.command(*words[:-1], "user@127.0.0.1", words[-1])
        with anyio.fail_after(15):
            return await anyio.run_process(arguments, input=data, check=False, env=_client_environment())

    async def tool(self, *words: str, data: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
        """Run `scp` or `sftp`."""
        arguments = [words[0], *self.options(port_flag="-P"), *words[1:]]
        with anyio.fail_after(15):
            return await anyio.run_process(arguments, input=data, check=False, env=_client_environment())


@dataclass(frozen=True)
class SSH(OpenSSH):
    """The client with the server it is pointed at."""

    server: SSHServer


def _client_environment() -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "LC_WARREN": "sent", "TERM": "xterm"}


@asynccontextmanager
async def ssh_server(workspace: Workspace, **changes: object) -> AsyncGenerator[SSH]:
    host = Host(
        commands=workspace.commands,
        children=workspace.children,
        connections=workspace.connections,
        greeting=lambda: b"welcome\r\n",
        ide_ports=IDEPorts(LinuxSystem({}).listening_command_line),
        xauthority=workspace.home.parent / "Xauthority",
        block_file_transfer=False,
        block_local_forwarding=False,
        block_reverse_forwarding=False,
    )
    # the values are those of the host's fields; dataclasses.replace checks the names
    host = replace(host, **changes)  # pyright: ignore[reportArgumentType]
    server = SSHServer(host, ed25519_pem(seed_for("alice", "dev", "main")), max_timeout_seconds=3600)
    async with listening(server.serve) as port:
        yield SSH(port, server)


@pytest.fixture
async def ssh(workspace: Workspace) -> AsyncGenerator[SSH]:
    async with ssh_server(workspace) as client:
        yield client
