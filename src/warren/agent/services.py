"""What an agent offers on its ports inside the tunnel."""

from __future__ import annotations

import importlib
import socket
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
import structlog
from anyio.abc import TaskGroup

from warren.agent.api import Facts, tunnel_router
from warren.agent.config import AgentConfig
from warren.agent.manifest import Manifest
from warren.agent.state import AgentState

if TYPE_CHECKING:
    from warren.agent.ssh.server import SSHServer

log = structlog.get_logger()

SSH_PORTS = (1, 22)
TERMINAL_PORT = 2
SPEEDTEST_PORT = 3
API_PORT = 4
RSA_KEY_DELAY_SECONDS = 3.0
"""The RSA key costs a third of a second of computing, so it waits until a starting workspace is busy no more."""


class Services:
    """The services by their ports; SSH is loaded beside the first connections."""

    def __init__(
        self, state: AgentState, config: AgentConfig, facts: Facts, *, private_folder: Path, tasks: TaskGroup
    ) -> None:
        from warren.agent.terminals import Terminals

        self._state, self._config, self._private, self._tasks = state, config, private_folder, tasks
        self._router = tunnel_router(facts)
        self._terminals = Terminals(state.commands, state.children, state.connections, tasks)
        self._ssh: SSHServer | None = None
        self._ssh_ready = anyio.Event()

    def by_port(self) -> Mapping[int, Callable[[socket.socket, str], Awaitable[None]]]:
        """Return who serves which port."""
        return {
            **dict.fromkeys(SSH_PORTS, self._serve_ssh),
            TERMINAL_PORT: self._terminals.serve,
            SPEEDTEST_PORT: self._serve_speedtest,
            API_PORT: self._serve_api,
        }

    def prepare(self, manifest: Manifest) -> None:
        """Load the SSH server in the background; who connects meanwhile waits."""
        self._tasks.start_soon(self._load_ssh, manifest)

    async def close_sessions(self) -> None:
        """End SSH sessions and refuse new ones."""
        if self._ssh is not None:
            await self._ssh.close()

    async def _load_ssh(self, manifest: Manifest) -> None:
        await anyio.to_thread.run_sync(importlib.import_module, "warren.agent.ssh.server")
        from warren.agent.ssh import host_key
        from warren.agent.ssh.jetbrains import IDEPorts
        from warren.agent.ssh.server import SSHServer
        from warren.agent.ssh.session import Host

        config, state = self._config, self._state
        host = Host(
            commands=state.commands,
            children=state.children,
            connections=state.connections,
            greeting=state.greeting,
            ide_ports=IDEPorts(state.system.listening_command_line),
            xauthority=self._private / "Xauthority",
            block_file_transfer=config.block_file_transfer,
            block_local_forwarding=config.block_local_forwarding,
            block_reverse_forwarding=config.block_reverse_forwarding,
        )
        seed = host_key.seed_for(manifest.owner_name, manifest.workspace_name, manifest.agent_name)
        timeout_seconds = config.ssh_max_timeout.total_seconds()
        self._ssh = SSHServer(host, host_key.ed25519_pem(seed), max_timeout_seconds=timeout_seconds)
        self._ssh_ready.set()
        await anyio.sleep(RSA_KEY_DELAY_SECONDS)
        self._ssh.add_host_key(await anyio.to_thread.run_sync(host_key.rsa_pem, seed))

    async def _serve_ssh(self, connection: socket.socket, ip: str) -> None:
        await self._ssh_ready.wait()
        assert self._ssh is not None
        await self._ssh.serve(connection, ip)

    async def _serve_speedtest(self, connection: socket.socket, ip: str) -> None:
        from warren.agent.speedtest import serve_speedtest

        log.info("speedtest.started", peer=ip)
        await serve_speedtest(connection)

    async def _serve_api(self, connection: socket.socket, ip: str) -> None:
        from warren.agent.http_server import serve_http

        await serve_http(connection, self._router)
