"""Small proxies on loopback: HTTP (CONNECT), plain or in TLS, and SOCKS5. They may ask for a password, and count."""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import ssl
import threading
from abc import ABC, abstractmethod
from contextlib import suppress
from types import TracebackType
from typing import Self

import anyio

ENDED = (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError)
_CHUNK = 1 << 16
_REFUSED_SOCKS = 5


class _Server(ABC):
    """Serves on a thread of its own; names are resolved by the table it is given, as a far DNS would."""

    def __init__(self, *, password: str = "", names: dict[str, str] | None = None, answer: bytes = b"") -> None:
        self._password = password
        self._names = names or {}
        self._answer = answer
        """Said to everybody instead of opening a tunnel."""
        self.requests: list[str] = []
        self.tls: ssl.SSLContext | None = None
        self.port = 0
        self._up = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._end = asyncio.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._up.wait(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._guarded, "127.0.0.1", 0, ssl=self.tls)
        self.port = server.sockets[0].getsockname()[1]
        self._up.set()
        await self._end.wait()
        server.close()  # connections end with the loop, by being cancelled

    async def _guarded(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(*ENDED, asyncio.CancelledError):  # either side left
            await self._connection(reader, writer)
        writer.close()

    @abstractmethod
    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection; it is closed afterwards."""

    async def _open(self, host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(self._names.get(host, host), port)


class ProxyServer(_Server):
    """An HTTP proxy; with `tls` inside of TLS."""

    def __init__(
        self,
        *,
        password: str = "",
        names: dict[str, str] | None = None,
        answer: bytes = b"",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        super().__init__(password=password, names=names, answer=answer)
        self.tls = tls

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        start = await reader.readexactly(1)
        if not start.isalpha():  # TLS, or SOCKS
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            await writer.drain()
            return
        text = (start + await reader.readuntil(b"\r\n\r\n")).decode()
        self.requests.append(text)
        wanted = base64.b64encode(self._password.encode()).decode()
        if self._answer:
            writer.write(self._answer)
        elif self._password and f"Proxy-Authorization: Basic {wanted}\r\n" not in text:
            writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n\r\n")
        else:
            host, _, port = text.split(" ")[1].rpartition(":")
            far = await self._open(host, int(port))
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            await _join((reader, writer), far)
        await writer.drain()


class SocksServer(_Server):
    """A SOCKS5 proxy; `requests` has each destination, and what kind of address it was written as."""

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        version, count = await reader.readexactly(2)
        methods = await reader.readexactly(count)
        assert version == 5
        if self._answer:
            writer.write(self._answer)
            await writer.drain()
            return
        if not await self._log_in(reader, writer, methods):
            return
        _, command, _, kind = await reader.readexactly(4)
        length = {1: 4, 4: 16}.get(kind) or (await reader.readexactly(1))[0]
        written = await reader.readexactly(length)
        host = written.decode() if kind == 3 else str(ipaddress.ip_address(written))
        port = int.from_bytes(await reader.readexactly(2))
        self.requests.append(f"{host}:{port} {({1: 'IPv4', 3: 'name', 4: 'IPv6'})[kind]}")
        assert command == 1
        try:
            far = await self._open(host, port)
        except OSError:
            writer.write(bytes([5, _REFUSED_SOCKS, 0, 1, *bytes(6)]))
            await writer.drain()
            return
        # As some proxies do, this one says by name from where it connected.
        writer.write(bytes([5, 0, 0, 3, 5]) + b"proxy" + bytes(2))
        await _join((reader, writer), far)

    async def _log_in(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, methods: bytes) -> bool:
        method = 2 if self._password else 0
        if method not in methods:
            writer.write(bytes([5, 255]))
            await writer.drain()
            return False
        writer.write(bytes([5, method]))
        if not self._password:
            return True
        assert await reader.readexactly(1) == b"\1"
        name = await reader.readexactly((await reader.readexactly(1))[0])
        password = await reader.readexactly((await reader.readexactly(1))[0])
        right = name + b":" + password == self._password.encode()
        writer.write(bytes([1, 0 if right else 1]))
        await writer.drain()
        return right


_Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _join(near: _Ends, far: _Ends) -> None:
    """Carry bytes both ways until both sides have ended."""
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_copy, near[0], far[1])
            tasks.start_soon(_copy, far[0], near[1])
    finally:
        far[1].close()


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(_CHUNK):
            target.write(data)
            await target.drain()
        if target.can_write_eof():
            target.write_eof()
        else:
            target.close()  # TLS has no half that is closed
    except ENDED:
        target.close()
