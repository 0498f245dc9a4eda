"""`port-forward`: local TCP and UDP ports that lead into a workspace."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Protocol

import anyio
import click

from warren.cli import agent_wait, connect, forward_spec, params, target
from warren.cli.command import command
from warren.cli.context import Context
from warren.cli.forward_spec import Forward
from warren.errors import Invalid, Unavailable

if TYPE_CHECKING:
    from warren.cli.ui import Terminal

BACKLOG = 128
DATAGRAM = 65_535
UDP_IDLE_SECONDS = 120.0  # a flow without packets for this long is forgotten, as home routers do
MAX_UDP_FLOWS = 1024  # a scan of our port must not eat descriptors without end
MAX_CONNECTIONS = 1024
"""TCP connections of one forward at once: far more than browsers open, and an end for a forward that leads back to
itself, where each connection makes the next."""
DESCRIPTORS_EACH = 6  # two sockets, and a pipe for each direction whose bytes wait
OWN_DESCRIPTORS = 128  # what the program has open besides
PAUSE_SECONDS = 0.1  # before the next try where the system has no descriptors left


class Dialer(Protocol):
    """What reaches the workspace's ports."""

    async def dial(self, port: int) -> socket.socket:
        """Connect to a TCP port."""
        ...

    async def dial_udp(self, port: int) -> socket.socket:
        """Open a UDP flow to a port."""
        ...


@command("port-forward")
@click.argument("workspace")
@params.strings("--tcp", "-p", env="PORT_FORWARD_TCP", metavar="SPEC", help="TCP ports: [address:]local[:remote].")
@params.strings("--udp", env="PORT_FORWARD_UDP", metavar="SPEC", help="UDP ports: [address:]local[:remote].")
@params.flag("--disable-autostart", env="SSH_DISABLE_AUTOSTART", help="Do not start a stopped workspace.")
async def port_forward(
    context: Context, *, workspace: str, tcp: tuple[str, ...], udp: tuple[str, ...], disable_autostart: bool
) -> None:
    """Forward local ports to a workspace; ranges such as 9090-9092 and lists are allowed."""
    forwards = forward_spec.parse(tcp, udp)
    found, agent = await agent_wait.started_workspace(
        context, target.parse(workspace), autostart=not disable_autostart, reason="ssh_connection"
    )
    agent = await agent_wait.ready_agent(context, agent, wait="no")
    limit = most_connections(sum(forward.protocol == "tcp" for forward in forwards))
    with ExitStack() as stack:
        listeners = [(forward, listener) for forward in forwards for listener in _listen(context, forward, stack)]
        rooms = {forward: Room(limit) for forward in forwards}
        async with connect.open_agent(context, agent.id) as connection, anyio.create_task_group() as tasks:
            await connection.reachable()
            for forward, listener in listeners:
                served = (connection, listener, forward.remote_port, context.terminal)
                if forward.protocol == "tcp":
                    tasks.start_soon(serve_tcp, *served, rooms[forward])
                else:
                    tasks.start_soon(serve_udp, *served)
            from warren.cli import session_watch

            tasks.start_soon(session_watch.report_usage, context, found, agent, "ssh")
            context.terminal.say("Ready!")


def _listen(context: Context, forward: Forward, stack: ExitStack) -> list[socket.socket]:
    """Bind the local port; IPv6 besides IPv4 is welcome but not needed.

    Raises:
        Invalid: the port cannot be had.
    """
    bound: list[socket.socket] = []
    kind = socket.SOCK_STREAM if forward.protocol == "tcp" else socket.SOCK_DGRAM
    for host in forward.listen_hosts:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = stack.enter_context(socket.socket(family, kind))
        try:
            if kind is socket.SOCK_STREAM:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, forward.local_port))
        except OSError as error:
            if bound:
                continue
            raise Invalid(f"cannot listen on {forward}: {error.strerror or error}") from error
        if kind is socket.SOCK_STREAM:
            listener.listen(BACKLOG)
        listener.setblocking(False)
        bound.append(listener)
    context.terminal.say(f"Forwarding {forward}")
    return bound


def most_connections(forwards: int) -> int:
    """Say how many connections each TCP forward may have; raises our limit of descriptors for them where it may."""
    import resource

    wanted = OWN_DESCRIPTORS + DESCRIPTORS_EACH * MAX_CONNECTIONS * forwards
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    have, may = (wanted if limit == resource.RLIM_INFINITY else limit for limit in limits)
    if have < wanted and have < may:
        have = min(wanted, may)
        resource.setrlimit(resource.RLIMIT_NOFILE, (have, limits[1]))
    room = (have - OWN_DESCRIPTORS) // DESCRIPTORS_EACH // max(forwards, 1)
    return min(MAX_CONNECTIONS, max(1, room))


class Room:
    """How many connections a forward has, and whether there is room for one more.

    Those that are joined belong to the engine, which does not tell of their end: it shows by their descriptor, which is
    then closed or another socket's.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.told = False
        self._dialing = 0
        self._joined: dict[int, int] = {}

    def full(self) -> bool:
        """Whether no other connection may begin. Looks for those that have ended only when it must."""
        if self._dialing + len(self._joined) < self.limit:
            return False
        self._joined = {fd: inode for fd, inode in self._joined.items() if _inode(fd) == inode}
        return self._dialing + len(self._joined) >= self.limit

    @contextmanager
    def dialing(self) -> Generator[None]:
        """Count a connection that is being made."""
        self._dialing += 1
        try:
            yield
        finally:
            self._dialing -= 1

    def joined(self, descriptor: int) -> None:
        """Count a connection that the engine takes, until its descriptor is closed."""
        inode = _inode(descriptor)
        if inode is not None:
            self._joined[descriptor] = inode


def _inode(descriptor: int) -> int | None:
    try:
        return os.fstat(descriptor).st_ino
    except OSError:
        return None


async def serve_tcp(
    connection: Dialer, listener: socket.socket, port: int, terminal: Terminal, room: Room | None = None
) -> None:
    """Join each accepted connection with one into the workspace; the engine moves the bytes.

    One for which there is no room is closed at once, and so is one that the workspace refuses; neither is tried again.
    """
    room = room or Room(MAX_CONNECTIONS)
    async with anyio.create_task_group() as tasks:
        while True:
            await anyio.wait_readable(listener)
            try:
                accepted, _ = listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                continue
            except OSError as error:
                if error.errno not in {errno.EMFILE, errno.ENFILE}:
                    raise
                _tell_full(room, port, terminal, f"{error.strerror}")
                await anyio.sleep(PAUSE_SECONDS)
                continue
            if room.full():
                accepted.close()
                _tell_full(room, port, terminal, f"{room.limit:,} connections are open at once")
                continue
            room.told = False
            tasks.start_soon(_join, connection, accepted, port, terminal, room)


def _tell_full(room: Room, port: int, terminal: Terminal, why: str) -> None:
    """Say, once until there is room again, why a connection was closed."""
    if room.told:
        return
    room.told = True
    terminal.say(f"port {port} of the workspace: {why}; new ones are closed until others end")
    terminal.say(
        f"hint: does anything listen on port {port} there? If the workspace is on this machine and nothing does, "
        "the forward may lead back to itself: use another local port"
    )


async def _join(connection: Dialer, accepted: socket.socket, port: int, terminal: Terminal, room: Room) -> None:
    from warren import _engine

    with room.dialing():
        try:
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            inner = await connection.dial(port)
        except (OSError, Unavailable) as error:
            terminal.say(f"cannot reach port {port} of the workspace: {error}")
            accepted.close()
            return
        except BaseException:
            accepted.close()
            raise
        room.joined(accepted.fileno())
    _engine.splice(accepted.detach(), inner.detach())


async def serve_udp(connection: Dialer, listener: socket.socket, port: int, terminal: Terminal) -> None:
    """Give each local sender a flow of its own into the workspace."""
    flows = UDPFlows(connection, listener, port)
    async with anyio.create_task_group() as tasks:
        while True:
            await anyio.wait_readable(listener)
            try:
                data, sender = listener.recvfrom(DATAGRAM)
            except BlockingIOError:
                continue
            except OSError as error:
                terminal.say(f"UDP port {port}: {error}")
                continue
            flow = flows.find(sender)
            if flow is None:
                flow = await flows.open(sender)
                if flow is None:
                    continue
                tasks.start_soon(flows.answer, sender, flow)
            _send(flow, data)


class UDPFlows:
    """The flows of one local UDP port, by local sender."""

    def __init__(self, connection: Dialer, listener: socket.socket, port: int) -> None:
        self._connection, self._listener, self._port = connection, listener, port
        self._flows: dict[tuple[object, ...], socket.socket] = {}

    def find(self, sender: tuple[object, ...]) -> socket.socket | None:
        """Return the flow of a sender, if there is one."""
        return self._flows.get(sender)

    async def open(self, sender: tuple[object, ...]) -> socket.socket | None:
        """Open a flow for a sender; `None` when there are too many, or the workspace cannot be reached."""
        if len(self._flows) >= MAX_UDP_FLOWS:
            return None
        try:
            flow = await self._connection.dial_udp(self._port)
        except Unavailable:
            return None
        self._flows[sender] = flow
        return flow

    async def answer(self, sender: tuple[object, ...], flow: socket.socket) -> None:
        """Carry the workspace's packets back until the flow is idle."""
        with flow:
            try:
                while True:
                    with anyio.fail_after(UDP_IDLE_SECONDS):
                        await anyio.wait_readable(flow)
                    data = flow.recv(DATAGRAM)
                    _send(self._listener, data, sender)
            except (TimeoutError, OSError):
                return
            finally:
                del self._flows[sender]


def _send(sock: socket.socket, data: bytes, to: tuple[object, ...] | None = None) -> None:
    """Send a packet; one that does not fit into a full buffer is lost, as UDP's packets may be."""
    try:
        if to is None:
            sock.send(data)
        else:
            sock.sendto(data, to)  # pyright: ignore[reportArgumentType]  an address that recvfrom gave
    except (BlockingIOError, ConnectionRefusedError):
        return
