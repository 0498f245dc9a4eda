"""The SSH server of a workspace: one connection a socket, no authentication (the tunnel has done that)."""

from __future__ import annotations

import socket
from collections.abc import Awaitable
from pathlib import Path
from typing import cast

import anyio
import asyncssh
import structlog
from anyio.abc import TaskGroup
from asyncssh.packet import SSHPacketLogger

from warren.agent.connections import ConnectionType
from warren.agent.ssh.session import Host, Session

log = structlog.get_logger()

MSG_IGNORE = 2
CIPHERS = ("aes256-gcm@openssh.com", "aes128-gcm@openssh.com", "aes256-ctr", "aes128-ctr")
"""No chacha20: stock clients would choose it, and AES-GCM is half as fast again."""
PACKET_BYTES = 128 * 1024
WINDOW_BYTES = 4 * 1024 * 1024
MISSED_KEEPALIVES = 3
ADMINISTRATIVELY_PROHIBITED = 1
MIN_KEEPALIVE_SECONDS = 3.0


class SSHServer:
    """Serves SSH on sockets that somebody else accepted."""

    def __init__(self, host: Host, host_key_pem: bytes, *, max_timeout_seconds: float) -> None:
        self._host = host
        self._connections: set[asyncssh.SSHServerConnection] = set()
        self._closing = False
        self._max_timeout_seconds = max_timeout_seconds
        self._host_keys = [asyncssh.import_private_key(host_key_pem)]

    def add_host_key(self, pem: bytes) -> None:
        """Offer one more host key to new connections."""
        self._host_keys.append(asyncssh.import_private_key(pem))

    async def serve(self, connection: socket.socket, ip: str) -> None:
        """Serve one connection until it ends; takes the socket."""
        if self._closing:
            connection.close()
            return
        async with anyio.create_task_group() as tasks:
            server = _Connection(self._host, tasks, ip)
            try:
                ssh = await asyncssh.run_server(connection, **self._options(server))
            except (OSError, asyncssh.Error, TimeoutError) as error:
                log.info("ssh.handshake_failed", error=str(error))
                connection.close()
                return
            _send_nothing_to_ignore(ssh)
            self._connections.add(ssh)
            try:
                await self._until_closed(ssh)
            finally:
                self._connections.discard(ssh)
                ssh.abort()
            tasks.cancel_scope.cancel()

    async def close(self) -> None:
        """Refuse new connections and close those that are open."""
        self._closing = True
        for ssh in list(self._connections):
            ssh.close()
        for ssh in list(self._connections):
            await ssh.wait_closed()

    async def _until_closed(self, ssh: asyncssh.SSHServerConnection) -> None:
        short = self._max_timeout_seconds < MIN_KEEPALIVE_SECONDS
        with anyio.move_on_after(self._max_timeout_seconds if short else None):
            await ssh.wait_closed()

    def _options(self, server: asyncssh.SSHServer) -> dict[str, object]:
        keepalive = self._max_timeout_seconds / MISSED_KEEPALIVES
        return {
            "server_factory": lambda: server,
            "server_host_keys": list(self._host_keys),
            "encryption_algs": CIPHERS,
            "compression_algs": ["none"],
            "encoding": None,
            "line_editor": False,
            "agent_forwarding": True,
            "x11_forwarding": True,
            "x11_auth_path": str(self._host.xauthority),
            "keepalive_interval": keepalive if keepalive >= 1 else 0,
            "keepalive_count_max": MISSED_KEEPALIVES,
            "tcp_keepalive": False,
            "window": WINDOW_BYTES,
            "max_pktsize": PACKET_BYTES,
            "rekey_bytes": 16 << 30,
        }


def _send_nothing_to_ignore(ssh: asyncssh.SSHServerConnection) -> None:
    """Leave out the packet to be ignored that asyncssh puts before each packet, at the cost of one more encryption.

    It is there against a weakness of CBC ciphers, which we do not offer.
    """
    send = ssh.send_packet

    def send_packet(pkttype: int, *args: bytes, handler: SSHPacketLogger | None = None) -> None:
        if pkttype != MSG_IGNORE:
            send(pkttype, *args, handler=handler)

    ssh.send_packet = send_packet


class _Connection(asyncssh.SSHServer):
    """What asyncssh asks about one connection."""

    _ssh: asyncssh.SSHServerConnection

    def __init__(self, host: Host, tasks: TaskGroup, ip: str) -> None:
        self._host, self._tasks, self._ip = host, tasks, ip

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        """Keep the connection."""
        self._ssh = conn

    def begin_auth(self, username: str) -> bool:
        """Let everybody in who got here."""
        return False

    def session_requested(self) -> Session:
        """Open a session."""
        return Session(self._host, self._tasks, self._ip)

    def connection_requested(
        self, dest_host: str, dest_port: int, orig_host: str, orig_port: int
    ) -> tuple[asyncssh.SSHTCPChannel[bytes], Awaitable[asyncssh.SSHTCPSession[bytes]]]:
        """Forward to a TCP port (`-L`, `-D`)."""
        self._allow_local_forwarding()
        # cast: asyncssh does not say that a channel without encoding carries bytes, nor that its forwarder is a session
        channel = cast("asyncssh.SSHTCPChannel[bytes]", self._ssh.create_tcp_channel())  # pyright: ignore[reportUnknownMemberType]
        forwarder = self._ssh.forward_connection(dest_host, dest_port)
        self._tasks.start_soon(self._count_ide, channel, dest_host, dest_port)
        return channel, cast("Awaitable[asyncssh.SSHTCPSession[bytes]]", forwarder)

    def unix_connection_requested(self, dest_path: str) -> bool:
        """Forward to a Unix socket (`-L`)."""
        return self._allow_local_forwarding()

    def server_requested(self, listen_host: str, listen_port: int) -> bool:
        """Listen on a TCP port for the client (`-R`)."""
        return not self._host.block_reverse_forwarding

    def unix_server_requested(self, listen_path: str) -> bool:
        """Listen on a Unix socket for the client (`-R`); one that is left from before is replaced."""
        if self._host.block_reverse_forwarding:
            return False
        path = Path(listen_path)
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
        except OSError as error:
            log.warning("forward.refused", path=listen_path, error=str(error))
            return False
        return True

    async def _count_ide(self, channel: asyncssh.SSHTCPChannel[bytes], host: str, port: int) -> None:
        """Report a connection to an IDE for as long as it lasts."""
        if await self._host.ide_ports.belongs_to_ide(host, port):
            with self._host.connections.connection(ConnectionType.JETBRAINS, self._ip):
                await channel.wait_closed()

    def _allow_local_forwarding(self) -> bool:
        if self._host.block_local_forwarding:
            raise asyncssh.ChannelOpenError(ADMINISTRATIVELY_PROHIBITED, "local port forwarding is disabled")
        return True
