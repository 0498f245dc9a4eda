"""The proxies of firewalled networks: HTTP, plain or inside of TLS, and SOCKS5 that wants a name and a password."""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio.abc
from anyio.streams.buffered import BufferedByteReceiveStream
from anyio.streams.tls import TLSStream

from warren.netlab.namespace import Namespace
from warren.netlab.rules import PROXY_PORT
from warren.netlab.services import RELAY_NAME, accepting, connect_from, join
from warren.netlab.world import SERVER_ADDRESSES

SOCKS_USER, SOCKS_PASSWORD = "lab", "p@ss"
_MAX_HEAD_BYTES = 8192
_ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"
_SOCKS = 5
_LOGIN_VERSION = 1
_NAME_AND_PASSWORD, _NONE_OF_THESE = 2, 255
_CONNECT, _DOMAIN = 1, 3
_OPENED, _NOT_SUPPORTED = 0, 7
_NOWHERE = bytes([1, 0, 0, 0, 0, 0, 0])
"""An IPv4 address and a port, for those who ask from where."""


@asynccontextmanager
async def serving_http_proxy(gateway: Namespace, shown: ssl.SSLContext | None = None) -> AsyncGenerator[int]:
    """Serve an HTTP proxy (CONNECT) on a gateway, inside of TLS with `shown`; gives its port."""

    async def handle(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            if shown is None:
                await _connect(gateway, stream)
            else:
                secure = await TLSStream.wrap(stream, ssl_context=shown, server_side=True, standard_compatible=False)
                await _connect(gateway, secure)

    async with accepting(gateway, PROXY_PORT, handle):
        yield PROXY_PORT


@asynccontextmanager
async def serving_socks(gateway: Namespace) -> AsyncGenerator[int]:
    """Serve a SOCKS5 proxy on a gateway for those who know the password; gives its port."""

    async def handle(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            received = BufferedByteReceiveStream(stream)
            if await _log_in(stream, received):
                await _serve_request(gateway, stream, received)

    async with accepting(gateway, PROXY_PORT, handle):
        yield PROXY_PORT


async def _connect(gateway: Namespace, stream: anyio.abc.ByteStream) -> None:
    received = BufferedByteReceiveStream(stream)
    head = await received.receive_until(b"\r\n\r\n", _MAX_HEAD_BYTES)
    words = head.split(b" ", 2)
    if len(words) < 3 or words[0] != b"CONNECT":
        await stream.send(b"HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\n\r\n")
        return
    host, _, port = words[1].decode().rpartition(":")
    async with await connect_from(gateway, _resolve(host), int(port)) as onward:
        await stream.send(_ESTABLISHED)
        if received.buffer:
            await onward.send(received.buffer)
        await join(stream, onward)


async def _log_in(stream: anyio.abc.ByteStream, received: BufferedByteReceiveStream) -> bool:
    version, count = await received.receive_exactly(2)
    methods = await received.receive_exactly(count)
    if version != _SOCKS or _NAME_AND_PASSWORD not in methods:
        await stream.send(bytes([_SOCKS, _NONE_OF_THESE]))
        return False
    await stream.send(bytes([_SOCKS, _NAME_AND_PASSWORD]))
    _, length = await received.receive_exactly(2)
    name = await received.receive_exactly(length)
    (length,) = await received.receive_exactly(1)
    password = await received.receive_exactly(length)
    right = (name.decode(), password.decode()) == (SOCKS_USER, SOCKS_PASSWORD)
    await stream.send(bytes([_LOGIN_VERSION, 0 if right else 1]))
    return right


async def _serve_request(gateway: Namespace, stream: anyio.abc.ByteStream, received: BufferedByteReceiveStream) -> None:
    _, command, _, kind = await received.receive_exactly(4)
    if command != _CONNECT or kind != _DOMAIN:
        await stream.send(bytes([_SOCKS, _NOT_SUPPORTED, 0]) + _NOWHERE)
        return
    (length,) = await received.receive_exactly(1)
    host = (await received.receive_exactly(length)).decode()
    port = int.from_bytes(await received.receive_exactly(2))
    async with await connect_from(gateway, _resolve(host), port) as onward:
        await stream.send(bytes([_SOCKS, _OPENED, 0]) + _NOWHERE)
        await join(stream, onward)


def _resolve(host: str) -> str:
    """The lab has no DNS; its proxies know the one name there is."""
    return SERVER_ADDRESSES[0] if host == RELAY_NAME else host.strip("[]")
