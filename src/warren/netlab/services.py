"""What stands on the lab's internet: a relay, STUN servers, and the middleboxes of firewalled networks.

The relay is the real one, behind the real front. Sockets are made inside their namespaces and served from here.
"""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import weakref
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import anyio
import anyio.abc
from anyio.streams.tls import TLSStream
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from warren import _engine
from warren.errors import RemoteProtocolError
from warren.net import stun
from warren.net.derp_map import DERPMap, DERPNode, DERPRegion
from warren.netlab.namespace import Namespace
from warren.netlab.rules import INTERCEPT_PORT
from warren.netlab.world import SERVER_ADDRESSES, SERVER_ADDRESSES6
from warren.relay.server import relay_protocol
from warren.server import listeners

RELAY_NAME = "relay.lab.test"
RELAY_PORT = 443
END_SECONDS = 10.0
"""How long the front may take to end: it waits for requests in flight."""
_BACKLOG = 128
_CHUNK = 1 << 16


@dataclass(frozen=True, slots=True)
class RelayPlace:
    """Where a relay is: its region, and its port on the server."""

    region: int
    port: int


NEAR, FAR = RelayPlace(999, RELAY_PORT), RelayPlace(998, 8443)
_FARTHER = 1000.0
"""What the latency of every place but the first is multiplied by, so that the first is home."""
STUN_ADDRESSES = tuple(zip(SERVER_ADDRESSES, SERVER_ADDRESSES6, strict=True))


def derp_map(
    stun_addresses: Sequence[tuple[str, str]] = STUN_ADDRESSES, places: Sequence[RelayPlace] = (NEAR,)
) -> bytes:
    """Write a map: relays in these places, nearest first, and STUN servers at these IPv4 and IPv6 addresses."""
    nodes = {
        place.region: DERPNode(
            name=f"{place.region}a",
            region_id=place.region,
            host_name=RELAY_NAME,
            ipv4=SERVER_ADDRESSES[0],
            ipv6=SERVER_ADDRESSES6[0],
            stun_port=-1,
            derp_port=place.port,
        )
        for place in places
    }
    near = places[0].region
    servers = tuple(
        DERPNode(
            name=f"{near}s{number}", region_id=near, host_name=v4 or v6, ipv4=v4, ipv6=v6 or "none", stun_only=True
        )
        for number, (v4, v6) in enumerate(stun_addresses)
    )
    regions = {
        region: DERPRegion(region, f"lab{region}", f"Lab {region}", nodes=(node, *(servers if region == near else ())))
        for region, node in nodes.items()
    }
    scores = {place.region: _FARTHER for place in places[1:]}
    return json.dumps(DERPMap(regions=regions, region_score=scores).to_json()).encode()


async def _application(scope: dict[str, Any], receive: Any, send: Any) -> None:  # ASGI's shapes
    """Answer whatever is not for the relay: there is nothing."""
    await send({"type": "http.response.start", "status": 404, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})


class RelayServer:
    """The lab's relay, which can be killed and started again; its clients know it by its key."""

    def __init__(self, namespace: Namespace, tls: ssl.SSLContext, port: int) -> None:
        self._namespace, self._tls, self._port = namespace, tls, port
        self._key = _engine.generate_key()
        self._running = anyio.Event()
        self._killed = anyio.Event()
        self._ended = anyio.Event()
        self._wanted = anyio.Event()
        self._wanted.set()
        self._opened: weakref.WeakSet[asyncio.Transport] = weakref.WeakSet()

    @classmethod
    @asynccontextmanager
    async def open(
        cls, namespace: Namespace, tls: ssl.SSLContext, port: int = RELAY_PORT
    ) -> AsyncGenerator[RelayServer]:
        """Serve a relay at all addresses of a namespace."""
        server = cls(namespace, tls, port)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(server._serve)
            await server._running.wait()
            try:
                yield server
            finally:
                with anyio.move_on_after(END_SECONDS, shield=True):
                    await server.kill()
                tasks.cancel_scope.cancel()

    async def kill(self) -> None:
        """Close every connection without a word, and the port."""
        if self._running.is_set():
            self._ended, self._wanted, self._running = anyio.Event(), anyio.Event(), anyio.Event()
            self._killed.set()
            await self._ended.wait()

    async def start(self) -> None:
        """Serve again."""
        self._killed = anyio.Event()
        self._wanted.set()
        await self._running.wait()

    async def _serve(self) -> None:
        while True:
            await self._wanted.wait()
            relay = _engine.Relay(self._key)
            try:
                with _listen(self._namespace, "::", self._port, dual=True) as listening:
                    protocol = _noting(relay_protocol(relay), self._opened)
                    async with listeners.serving(_application, listening, protocol=protocol, tls=self._tls):
                        self._running.set()
                        await self._killed.wait()
                        relay.close()  # first: the front waits for its connections
                        for transport in self._opened:
                            transport.abort()
            finally:
                relay.close()
            self._ended.set()


def _noting(protocol: type[HttpToolsProtocol], opened: weakref.WeakSet[asyncio.Transport]) -> type[HttpToolsProtocol]:
    """Note the connections of a server, whoever gets them later."""

    class Noting(protocol):
        """The server's protocol."""

        def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]  as uvicorn has it
            opened.add(transport)
            super().connection_made(transport)

    return Noting


class StunServers:
    """Servers that answer binding requests at some addresses of a namespace, and that can go away and come back."""

    def __init__(self, namespace: Namespace, addresses: Sequence[str]) -> None:
        self._namespace, self._addresses = namespace, addresses
        self._transports: list[asyncio.DatagramTransport] = []

    async def start(self) -> None:
        """Answer from now on."""
        loop = asyncio.get_running_loop()
        for address in self._addresses:
            sock = self._namespace.call(lambda address=address: _bind(address, stun.DEFAULT_PORT))
            transport, _ = await loop.create_datagram_endpoint(_Responder, sock=sock)
            self._transports.append(transport)

    def stop(self) -> None:
        """Answer nothing any more. Idempotent."""
        for transport in self._transports:
            transport.close()
        self._transports.clear()


@asynccontextmanager
async def serving_stun(
    namespace: Namespace, addresses: Sequence[str], *, started: bool = True
) -> AsyncGenerator[StunServers]:
    """Have STUN servers at these addresses, which answer at once or when they are started."""
    servers = StunServers(namespace, addresses)
    try:
        if started:
            await servers.start()
        yield servers
    finally:
        servers.stop()


class _Responder(asyncio.DatagramProtocol):
    """Say where a request came from."""

    def __init__(self) -> None:
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int] | tuple[str, int, int, int]) -> None:
        with suppress(RemoteProtocolError):
            txid = stun.parse_request(data)
            if self._transport is not None:
                self._transport.sendto(stun.answer(txid, addr[0], addr[1]), addr)


@asynccontextmanager
async def serving_interceptor(
    gateway: Namespace, shown: ssl.SSLContext, trusted: ssl.SSLContext
) -> AsyncGenerator[None]:
    """Open the TLS of every connection to port 443 with a certificate of ours, and make it again on the far side."""

    async def handle(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            inner = await TLSStream.wrap(stream, ssl_context=shown, server_side=True, standard_compatible=False)
            plain = await connect_from(gateway, SERVER_ADDRESSES[0], RELAY_PORT)
            async with plain:
                onward = await TLSStream.wrap(
                    plain, hostname=RELAY_NAME, ssl_context=trusted, standard_compatible=False
                )
                await join(inner, onward)

    async with accepting(gateway, INTERCEPT_PORT, handle):
        yield


@asynccontextmanager
async def accepting(namespace: Namespace, port: int, handle: Any) -> AsyncGenerator[None]:  # a coroutine function
    """Serve every connection to a port of a namespace; what breaks in the middle ends that connection only."""

    async def guarded(stream: anyio.abc.SocketStream) -> None:
        # Whoever is in the middle sees every broken connection of both sides.
        with suppress(anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError, OSError, ssl.SSLError):
            await handle(stream)

    listening = _listen(namespace, "0.0.0.0", port)  # noqa: S104  inside the namespace
    listener = await anyio.abc.SocketListener.from_socket(listening)
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, guarded)
        try:
            yield
        finally:
            tasks.cancel_scope.cancel()


async def connect_from(namespace: Namespace, host: str, port: int) -> anyio.abc.SocketStream:
    """Connect to an IPv4 address from inside a namespace."""
    sock = namespace.call(lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM))
    sock.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(sock, (host, port))
    except BaseException:
        sock.close()
        raise
    return await anyio.abc.SocketStream.from_socket(sock)


async def join(left: anyio.abc.ByteStream, right: anyio.abc.ByteStream) -> None:
    """Carry bytes both ways until either side ends."""
    async with anyio.create_task_group() as tasks:

        async def copy(source: anyio.abc.ByteStream, target: anyio.abc.ByteStream) -> None:
            with suppress(anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError, ssl.SSLError):
                while True:
                    await target.send(await source.receive(_CHUNK))
            tasks.cancel_scope.cancel()

        tasks.start_soon(copy, left, right)
        tasks.start_soon(copy, right, left)


def _listen(namespace: Namespace, host: str, port: int, *, dual: bool = False) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = namespace.call(
        lambda: socket.create_server((host, port), family=family, backlog=_BACKLOG, dualstack_ipv6=dual)
    )
    listening.setblocking(False)
    return listening


def _bind(address: str, port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((address, port))
    sock.setblocking(False)
    return sock
