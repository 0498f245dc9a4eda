"""Real parts around engines: a relay that speaks HTTP on loopback, nodes, and waiting for their events."""

import base64
import contextlib
import functools
import hashlib
import json
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self, TypeVar

import pytest

from warren import _engine

REGION = 999
_WEBSOCKET_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

Found = TypeVar("Found")


def _splice(wrapped: ssl.SSLSocket, outer: socket.socket) -> None:
    """Copy both ways between a TLS connection and a socket until one of them ends; `OSError` when it breaks."""
    wrapped.setblocking(False)
    while True:
        if not wrapped.pending():
            select.select([wrapped, outer], [], [])
        with contextlib.suppress(ssl.SSLWantReadError):
            data = wrapped.recv(1 << 16)
            if not data:
                return
            outer.sendall(data)
        try:
            back = outer.recv(1 << 14, socket.MSG_DONTWAIT)
        except BlockingIOError:
            continue
        if not back:
            return
        wrapped.setblocking(True)
        wrapped.sendall(back)
        wrapped.setblocking(False)


class RelayServer:
    """A DERP relay of one region: HTTP by a thread here, frames by the engine's `Relay`."""

    def __init__(
        self,
        *,
        port: int = 0,
        refuse_upgrade: bool = False,
        tls: ssl.SSLContext | None = None,
        host: str = "127.0.0.1",
    ) -> None:
        self.relay = _engine.Relay(_engine.generate_key())
        self.refuse_upgrade = refuse_upgrade
        self.tls = tls
        self.fast_start = False
        self.requests: list[str] = []
        self._listener = socket.create_server((host, port))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        # Closing alone does not wake the thread that accepts, and the port stays taken until it wakes.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()
        self.relay.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            if self.tls is None:
                self._answer(connection)
            else:
                threading.Thread(target=self._unwrap, args=(connection, self.tls), daemon=True).start()

    def _unwrap(self, connection: socket.socket, context: ssl.SSLContext) -> None:
        """Take TLS off a connection and go on with what is inside."""
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            wrapped = context.wrap_socket(connection, server_side=True)
        except OSError:
            connection.close()  # the client does not trust us
            return
        outer, inner = socket.socketpair()
        threading.Thread(target=self._answer, args=(inner,), daemon=True).start()
        with wrapped, outer, contextlib.suppress(OSError):  # either side may leave at any moment, in mid-write too
            _splice(wrapped, outer)

    def _answer(self, connection: socket.socket) -> None:
        try:
            self._answer_request(connection)
        except (OSError, _engine.EngineClosed):
            connection.close()  # the client left (one that measures relays opens connections to spare), or we did

    def _answer_request(self, connection: socket.socket) -> None:
        connection.settimeout(20)
        data = b""
        while b"\r\n\r\n" not in data:
            more = connection.recv(4096)
            if not more:
                connection.close()
                return
            data += more
            if not data[:1].isalpha():  # no method of HTTP begins like that; what speaks TLS is told so at once
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
                connection.close()
                return
        head, _, rest = data.partition(b"\r\n\r\n")
        text = head.decode()
        self.requests.append(text)
        headers = {
            name.strip().lower(): value.strip()
            for name, value in (line.split(":", 1) for line in text.split("\r\n")[1:])
        }
        connection.settimeout(None)
        if text.startswith("GET /derp/latency-check "):
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            connection.close()
        elif headers.get("upgrade") == "websocket":
            digest = hashlib.sha1((headers["sec-websocket-key"] + _WEBSOCKET_GUID).encode()).digest()
            accept = base64.b64encode(digest).decode()
            connection.sendall(
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                f"Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: derp\r\n\r\n".encode()
            )
            self.relay.add(connection.detach(), initial=rest, websocket=True)
        elif self.fast_start and headers.get("derp-fast-start") == "1":
            self.relay.add(connection.detach(), initial=rest)
        elif self.refuse_upgrade:
            connection.sendall(b'HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\nInvalid "Upgrade" header: DERP')
            connection.close()
        else:
            connection.sendall(
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: DERP\r\nConnection: Upgrade\r\nDerp-Version: 2\r\n"
                b"Derp-Public-Key: " + self.relay.public_key.hex().encode() + b"\r\n\r\n"
            )
            self.relay.add(connection.detach(), initial=rest)


class StunServer:
    """Answers binding requests on loopback, saying the address it sees or the one it was told to say."""

    def __init__(self, *, says: tuple[str, int] | None = None, host: str = "127.0.0.1") -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((host, 0))
        self.port: int = self._socket.getsockname()[1]
        self.host = host
        self._says = says
        self.requests = 0
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as wake:
            wake.sendto(b"", (self.host, self.port))
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        while True:
            request, source = self._socket.recvfrom(2048)
            if not request:
                return
            self.requests += 1
            host, port = self._says or source
            mask = bytes.fromhex("2112a442")
            address = bytes(left ^ right for left, right in zip(socket.inet_aton(host), mask, strict=True))
            value = b"\0\x01" + (port ^ 0x2112).to_bytes(2, "big") + address
            self._socket.sendto(b"\x01\x01" + (12).to_bytes(2, "big") + request[4:20] + b"\0\x20\0\x08" + value, source)


def derp_map(
    port: int, *, stun_port: int = -1, region: int = REGION, host: str = "127.0.0.1", force_http: bool = True
) -> bytes:
    """Write a map of one region whose relay is on loopback."""
    node = {
        "Name": f"{region}a",
        "RegionID": region,
        "HostName": host,
        "DERPPort": port,
        "STUNPort": stun_port,
        "ForceHTTP": force_http,
    }
    described = {"RegionID": region, "RegionCode": "t", "RegionName": "Test", "EmbeddedRelay": True, "Nodes": [node]}
    return json.dumps({"Regions": {str(region): described}}).encode()


@functools.cache
def _kernel_refusal() -> str:
    try:
        Node("fd7a:115c:a1e0::1", stack="kernel").engine.close()
    except _engine.InvalidConfig as error:
        return str(error)
    return ""


def need_kernel_stack() -> None:
    """Skip a test where this system refuses the kernel's TCP, with its reason."""
    if refusal := _kernel_refusal():
        pytest.skip(refusal)


class Node:
    """An engine with its events kept for whoever waits for them."""

    def __init__(
        self,
        address: str,
        *,
        forward_to_loopback: bool = False,
        block_direct: bool = False,
        force_websockets: bool = False,
        relay_headers: dict[str, str] | None = None,
        proxies: dict[str, str] | None = None,
        port_mapping: bool = False,
        listen_port: int = 0,
        private_key: bytes | None = None,
        tls_ca_pem: bytes | None = None,
        stack: str = "auto",
    ) -> None:
        self.address = address
        self.engine = _engine.Engine(
            private_key or _engine.generate_key(),
            _engine.generate_key(),
            [address],
            forward_to_loopback=forward_to_loopback,
            block_direct=block_direct,
            force_websockets=force_websockets,
            relay_headers=relay_headers,
            proxies=proxies,
            port_mapping=port_mapping,
            listen_port=listen_port,
            tls_ca_pem=tls_ca_pem,
            stack=stack,
        )
        self.seen: list[_engine.Event] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.engine.close()

    def know(
        self, peer: "Node", *, home_region: int = REGION, endpoints: list[str] | None = None, keepalive: bool = False
    ) -> None:
        """Introduce a peer; by default at its UDP port on loopback."""
        self.engine.set_peer(
            peer.engine.public_key,
            disco_key=peer.engine.disco_public_key,
            allowed_ips=[peer.address + "/128"],
            home_region=home_region,
            endpoints=[f"127.0.0.1:{peer.engine.local_port}"] if endpoints is None else endpoints,
            keepalive=keepalive,
        )

    def wait(self, wanted: Callable[[_engine.Event], Found | None], *, within: float = 10) -> Found:
        """Return what `wanted` makes of the first event for which it makes something."""
        deadline = time.monotonic() + within
        while True:
            for index, event in enumerate(self.seen):
                found = wanted(event)
                if found is not None:
                    del self.seen[index]
                    return found
            left = deadline - time.monotonic()
            assert left > 0, f"not seen within {within} s"
            select.select([self.engine.fileno()], [], [], left)
            self.seen.extend(self.engine.events())

    def dial(self, address: str, port: int, *, within: float = 10) -> socket.socket:
        """Connect through the tunnel."""
        token = self.engine.dial(address, port, timeout_seconds=within)

        def mine(event: _engine.Event) -> socket.socket | None:
            match event:
                case _engine.Dialed(of, fd) if of == token:
                    return socket.socket(fileno=fd)
                case _engine.DialFailed(of, code, reason) if of == token:
                    raise ConnectionError(code, reason)
                case _:
                    return None

        return self.wait(mine, within=within + 10)

    def accept(self, *, within: float = 10) -> socket.socket:
        """Take the next connection to a listener."""
        return self.wait(
            lambda event: socket.socket(fileno=event.fd) if isinstance(event, _engine.Accepted) else None,
            within=within,
        )

    def until_direct(self, *, within: float = 10) -> _engine.PathChanged:
        return self.wait(
            lambda event: event if isinstance(event, _engine.PathChanged) and event.direct else None, within=within
        )
