"""A node of the lab: a real engine inside a namespace, and what one does with it."""

from __future__ import annotations

import socket
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from uuid import uuid4

import anyio

from warren import _engine
from warren.errors import Unavailable
from warren.net.addresses import tailnet_address
from warren.netlab.namespace import Namespace
from warren.sdk.proxies import Proxies
from warren.tunnel.node import Listener, Node, NodeConfig

ECHO_PORT, SOURCE_PORT = 7, 19
HOME_SECONDS = 20.0
"""A node that has found no relay by then finds none: a check of the network ends after two seconds."""
_CHUNK = 1 << 18


class LabNode(Node):
    """A node whose engine is in a namespace."""

    def __init__(self, namespace: Namespace, config: NodeConfig) -> None:
        self.namespace = namespace
        # The engine's thread is where the thread that makes it is.
        namespace.call(partial(super().__init__, config))

    @classmethod
    @asynccontextmanager
    async def inside(cls, namespace: Namespace, derp_map: bytes, config: NodeConfig) -> AsyncGenerator[Node]:
        """Start a node inside a namespace; it ends with the context."""

        class Inside(cls):
            """`Node.open` makes it from its configuration alone."""

            def __init__(self, config: NodeConfig) -> None:
                super().__init__(namespace, config)

        async with Inside.open(config) as node:
            node.engine.set_derp_map(derp_map)
            yield node


def new_config(*, trusted_pem: bytes | None = None, proxy: str = "") -> NodeConfig:
    """Configure a node with an address of its own; `proxy` is the URL that its user would set as HTTPS_PROXY."""
    # What the environment of whoever runs the lab says is for another network.
    return NodeConfig(addresses=(tailnet_address(uuid4()),), tls_ca_pem=trusted_pem, proxies=Proxies(https=proxy))


async def find_home(node: Node) -> _engine.NetInfo:
    """Wait until a node has a home region; return what it knows of its network.

    Raises:
        Unavailable: it reaches no relay.
    """
    with anyio.move_on_after(HOME_SECONDS):
        async with node.watch() as events:
            while node.net_info is None or node.net_info.preferred_region == 0:
                await events.next()
        return node.net_info
    raise Unavailable(f"the node reached no relay within {HOME_SECONDS:.0f} s")


async def keep_introduced(one: Node, other: Node) -> None:
    """Tell the other node what this one is, now and whenever it changes, as the coordinator would; never returns."""
    async with one.watch() as events:
        while True:
            info = one.net_info
            if info is not None and info.preferred_region:
                other.engine.set_peer(
                    one.key,
                    disco_key=one.disco_key,
                    allowed_ips=one.config.addresses,
                    home_region=info.preferred_region,
                    endpoints=info.endpoints,
                    keepalive=False,
                )
            while not isinstance(await events.next(), _engine.NetInfo):
                pass


@asynccontextmanager
async def serving(node: Node) -> AsyncGenerator[None]:
    """Send back whatever comes to the node's echo port, and as much as is taken from its source port."""
    with node.listen(ECHO_PORT) as echo, node.listen(SOURCE_PORT) as source:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_accept, echo, _echo)
            tasks.start_soon(_accept, source, _send)
            yield
            tasks.cancel_scope.cancel()


async def _accept(listener: Listener, serve: Callable[[socket.socket], None]) -> None:
    while True:
        connection, _ = await listener.accept()
        connection.setblocking(True)
        threading.Thread(target=_serve, args=(connection, serve), daemon=True).start()


def _serve(connection: socket.socket, serve: Callable[[socket.socket], None]) -> None:
    with connection, suppress(OSError):  # the other side may leave at any moment
        serve(connection)


def _echo(connection: socket.socket) -> None:
    while data := connection.recv(_CHUNK):
        connection.sendall(data)


def _send(connection: socket.socket) -> None:
    block = bytes(_CHUNK)
    while True:
        connection.sendall(block)
