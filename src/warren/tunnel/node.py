"""One node of the network on asyncio: the engine's calls as awaitables, its events as values.

`Node.open` starts an engine; one task waits on its descriptor and hands each event to whoever waits for it. A
connection is an ordinary non-blocking `socket.socket`, owned by the caller.
"""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio
import structlog
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from warren import _engine
from warren.errors import Invalid, Unavailable
from warren.sdk import connecting
from warren.sdk.proxies import Proxies

log = structlog.get_logger()

ACCEPT_BACKLOG = 128
"""Accepted connections that may wait for a listener; beyond it they are closed, as a full kernel backlog would."""


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """How a node is started. `addresses` are plain IPv6 texts."""

    addresses: tuple[str, ...]
    listen_port: int = 0
    stack: str = "auto"
    congestion_control: str = "auto"
    block_direct: bool = False
    force_websockets: bool = False
    tls_ca_pem: bytes | None = None
    relay_headers: Mapping[str, str] = field(default_factory=dict[str, str])
    proxies: Proxies = field(default_factory=connecting.proxies)
    port_mapping: bool = False
    forward_to_loopback: bool = False


@dataclass(frozen=True, slots=True)
class PingResult:
    """An answered ping: how long it took and which way it went."""

    latency_seconds: float
    direct: bool
    endpoint: str
    region: int


class Listener:
    """Connections to one port of a node."""

    def __init__(self, node: Node, port: int) -> None:
        self._node = node
        self._port = port
        self._send, self._receive = anyio.create_memory_object_stream[tuple[socket.socket, str]](ACCEPT_BACKLOG)

    async def accept(self) -> tuple[socket.socket, str]:
        """Wait for a connection; return it with the peer's address.

        Raises:
            anyio.EndOfStream: the listener or its node was closed.
        """
        return await self._receive.receive()

    def close(self) -> None:
        """Stop accepting; accepted connections live on."""
        self._node.forget_listener(self._port)
        self._send.close()
        while True:
            try:
                connection, _ = self._receive.receive_nowait()
            except (anyio.WouldBlock, anyio.EndOfStream):
                break
            connection.close()
        self._receive.close()

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def offer(self, connection: socket.socket, peer_address: str) -> None:
        """Hand over a connection; one too many is closed."""
        try:
            self._send.send_nowait((connection, peer_address))
        except (anyio.WouldBlock, anyio.BrokenResourceError, anyio.ClosedResourceError):
            connection.close()


class _Reply:
    """An event that somebody waits for."""

    def __init__(self) -> None:
        self.arrived = anyio.Event()
        self.event: _engine.Event | None = None


class Watch:
    """A subscription to a node's events; the newest are dropped when nobody reads them."""

    def __init__(
        self, send: MemoryObjectSendStream[_engine.Event], receive: MemoryObjectReceiveStream[_engine.Event]
    ) -> None:
        self.send, self._receive = send, receive

    def __aiter__(self) -> AsyncIterator[_engine.Event]:
        return self._receive.__aiter__()

    async def next(self) -> _engine.Event:
        """Wait for the next event."""
        return await self._receive.receive()

    def close(self) -> None:
        """End the subscription."""
        self.send.close()
        self._receive.close()


class Node:
    """A member of the network. Made by `open`."""

    def __init__(self, config: NodeConfig) -> None:
        self.config = config
        private_key = _engine.generate_key()
        self.engine = _engine.Engine(
            private_key,
            _engine.generate_key(),
            list(config.addresses),
            listen_port=config.listen_port,
            stack=config.stack,
            congestion_control=config.congestion_control,
            block_direct=config.block_direct,
            force_websockets=config.force_websockets,
            tls_ca_pem=config.tls_ca_pem,
            relay_headers=dict(config.relay_headers),
            proxies=config.proxies.as_mapping(),
            port_mapping=config.port_mapping,
            forward_to_loopback=config.forward_to_loopback,
        )
        self.net_info: _engine.NetInfo | None = None
        self._replies: dict[int, _Reply] = {}
        self._listeners: dict[int, Listener] = {}
        self._watches: list[Watch] = []

    @classmethod
    @asynccontextmanager
    async def open(cls, config: NodeConfig) -> AsyncGenerator[Node]:
        """Start a node; it ends, with every connection, when the context does.

        Raises:
            Invalid: the configuration cannot be had here, the kernel's TCP for instance.
        """
        try:
            node = cls(config)
        except _engine.InvalidConfig as error:
            raise Invalid(str(error)) from error
        if node.engine.stack_reason:
            log.info("node.stack_chosen", stack=node.engine.stack, reason=node.engine.stack_reason)
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(node._dispatch_events)
                try:
                    yield node
                finally:
                    tasks.cancel_scope.cancel()
        finally:
            node._close()

    @property
    def key(self) -> bytes:
        """The node's public key."""
        return self.engine.public_key

    @property
    def disco_key(self) -> bytes:
        """The node's public disco key."""
        return self.engine.disco_public_key

    async def dial(self, address: str, port: int, *, timeout_seconds: float = 30.0) -> socket.socket:
        """Connect to a TCP port of a peer.

        Raises:
            ConnectionRefusedError: nothing listens there.
            TimeoutError: no answer in time.
            Unavailable: the address belongs to no known peer, or the node was closed.
        """
        token = self.engine.dial(address, port, timeout_seconds=timeout_seconds)
        event = await self._reply(token, on_cancel=self.engine.cancel_dial)
        match event:
            case _engine.Dialed(_, fd):
                return _adopt(fd)
            case _engine.DialFailed(_, "refused", reason):
                raise ConnectionRefusedError(reason)
            case _engine.DialFailed(_, "timeout", reason):
                raise TimeoutError(reason)
            case _engine.DialFailed(_, _, reason):
                raise Unavailable(reason)
            case _:
                raise AssertionError(event)

    def dial_udp(self, address: str, port: int) -> socket.socket:
        """Open a UDP flow to a peer's port: a connected datagram socket, one packet a message."""
        connection = socket.socket(fileno=self.engine.dial_udp(address, port))
        connection.setblocking(False)
        return connection

    def listen(self, port: int) -> Listener:
        """Accept connections to a TCP port of this node."""
        self.engine.listen(port)
        listener = Listener(self, port)
        self._listeners[port] = listener
        return listener

    def forget_listener(self, port: int) -> None:
        """Stop accepting on `port`; called by `Listener.close`."""
        if self._listeners.pop(port, None) is not None:
            self.engine.unlisten(port)

    async def ping(self, key: bytes, *, kind: str = "disco", timeout_seconds: float = 5.0) -> PingResult:
        """Ping a peer on its path ("disco") or inside the tunnel ("tunnel").

        Raises:
            TimeoutError: no answer in time.
        """
        event = await self._reply(self.engine.ping(key, kind=kind, timeout_seconds=timeout_seconds))
        match event:
            case _engine.Pong(_, latency_seconds, direct, endpoint, region):
                return PingResult(latency_seconds, direct, endpoint, region)
            case _engine.PingFailed(_, reason):
                raise TimeoutError(reason)
            case _:
                raise AssertionError(event)

    async def netcheck(self) -> _engine.NetInfo:
        """Measure the network now."""
        event = await self._reply(self.engine.netcheck())
        assert isinstance(event, _engine.NetInfo), event
        return event

    def peer(self, key: bytes) -> _engine.PeerStats | None:
        """Return the statistics of one peer, with the path in use and why."""
        return next((peer for peer in self.engine.peers() if peer.key == key), None)

    @asynccontextmanager
    async def watch(self) -> AsyncGenerator[Watch]:
        """Follow the node's events from now on."""
        watch = Watch(*anyio.create_memory_object_stream["_engine.Event"](256))
        self._watches.append(watch)
        try:
            yield watch
        finally:
            self._watches.remove(watch)
            watch.close()

    async def _reply(self, token: int, on_cancel: Callable[[int], None] | None = None) -> _engine.Event:
        reply = self._replies[token] = _Reply()
        try:
            await reply.arrived.wait()
        except BaseException:
            if on_cancel is not None:
                on_cancel(token)
            _discard(reply.event)
            raise
        finally:
            self._replies.pop(token, None)
        if reply.event is None:
            raise Unavailable("the node was closed")
        return reply.event

    async def _dispatch_events(self) -> None:
        while True:
            await anyio.wait_readable(self.engine.fileno())
            for event in self.engine.events():
                self._dispatch(event)

    def _dispatch(self, event: _engine.Event) -> None:
        if isinstance(event, _engine.Accepted):
            listener = self._listeners.get(event.port)
            if listener is None:
                os.close(event.fd)
            else:
                listener.offer(_adopt(event.fd), event.peer_address)
            return
        if isinstance(event, _engine.NetInfo):
            self.net_info = event
        token = getattr(event, "token", 0)
        reply = self._replies.get(token) if token else None
        if reply is not None:
            reply.event = event
            reply.arrived.set()
        elif isinstance(event, _engine.Dialed):
            os.close(event.fd)  # its caller gave up between the engine's answer and now
            return
        for watch in self._watches:
            try:
                watch.send.send_nowait(event)
            except anyio.WouldBlock:
                continue

    def _close(self) -> None:
        for listener in list(self._listeners.values()):
            listener.close()
        self.engine.close()
        for event in self.engine.events():
            _discard(event)
        for reply in self._replies.values():
            reply.arrived.set()


def _adopt(fd: int) -> socket.socket:
    connection = socket.socket(fileno=fd)
    connection.setblocking(False)
    return connection


def _discard(event: _engine.Event | None) -> None:
    """Close the descriptor that an event nobody wants carries."""
    if isinstance(event, _engine.Dialed | _engine.Accepted):
        os.close(event.fd)
