"""Hand DERP connections from the HTTP server's port to the relay.

A relay's clients come as HTTP requests that ask for an upgrade. `relay_protocol` makes uvicorn's HTTP protocol take
those out before the application sees them: the socket goes to the engine's relay, with any bytes that the client sent
on top of its request. Where the engine ends TLS, the connection goes from there to the relay with its TLS; where Python
does, because only OpenSSL can do what an operator asks for, the bytes are pumped through a socket pair.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import socket
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import httptools
import structlog
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from warren._engine import EngineClosed, Relay
from warren.relay.pump import Pump

log = structlog.get_logger()

DERP_PATH = b"/derp"
HEAD_SECONDS = 30.0
"""How long a client may take over a request's head, which costs it a packet and us a connection."""
_WEBSOCKET_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_NEEDS_UPGRADE = b"DERP requires connection upgrade"
_WRONG_SUBPROTOCOL = b"client must speak the derp subprotocol"
_CLOSE_POLICY_VIOLATION = 1008


_Scope = dict[str, Any]  # ASGI's own shapes are dictionaries of anything
_Application = Callable[[Any, Callable[[], Awaitable[Any]], Callable[[Any], Awaitable[None]]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Accept:
    """Answer with `response` and hand the connection over."""

    response: bytes
    websocket: bool


@dataclass(frozen=True, slots=True)
class Refuse:
    """Answer with `response` and close."""

    response: bytes


def answer_upgrade(headers: Iterable[tuple[bytes, bytes]], public_key: bytes) -> Accept | Refuse:
    """Decide on a `GET /derp` with these headers, whose names are in lower case."""
    values = {name: value.strip() for name, value in headers}
    upgrade = values.get(b"upgrade", b"").lower()
    if upgrade not in (b"derp", b"websocket"):
        return Refuse(_plain(b"426 Upgrade Required", _NEEDS_UPGRADE))
    # Old clients ask for a WebSocket, name no subprotocol and mean the native upgrade.
    if upgrade == b"websocket" and b"derp" in values.get(b"sec-websocket-protocol", b"").lower():
        return _answer_websocket(values)
    if values.get(b"derp-fast-start") == b"1":
        # The client knows our key already and speaks DERP at once: not a word of HTTP.
        return Accept(b"", websocket=False)
    response = (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: DERP\r\nConnection: Upgrade\r\n"
        b"Derp-Version: 2\r\nDerp-Public-Key: " + public_key.hex().encode() + b"\r\n\r\n"
    )
    return Accept(response, websocket=False)


def _answer_websocket(headers: Mapping[bytes, bytes]) -> Accept | Refuse:
    key = headers.get(b"sec-websocket-key", b"")
    if headers.get(b"sec-websocket-version") != b"13" or not key:
        return Refuse(_plain(b"400 Bad Request", b"WebSocket version 13 and a key are required"))
    accept = base64.b64encode(hashlib.sha1(key + _WEBSOCKET_GUID, usedforsecurity=False).digest())
    response = (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept + b"\r\n"
    )
    offered = [name.strip() for name in headers[b"sec-websocket-protocol"].split(b",")]
    if b"derp" not in offered:
        reason = _CLOSE_POLICY_VIOLATION.to_bytes(2) + _WRONG_SUBPROTOCOL
        return Refuse(response + b"\r\n" + bytes([0x88, len(reason)]) + reason)
    return Accept(response + b"Sec-WebSocket-Protocol: derp\r\n\r\n", websocket=True)


def _plain(status: bytes, body: bytes) -> bytes:
    head = b"HTTP/1.1 %b\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
    return head % (status, len(body)) + body


_BUSY = _plain(b"400 Bad Request", b"an upgrade may not be sent before the last answer was complete")


def relay_protocol(relay: Relay) -> type[HttpToolsProtocol]:
    """Make the HTTP protocol of a server whose DERP connections go to `relay`; give it to uvicorn as `http=`."""

    class DERPProtocol(_DERPProtocol):
        """uvicorn's HTTP protocol, with this relay behind `/derp`."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:  # uvicorn's own arguments, passed through
            super().__init__(*args, **kwargs)
            self.relay = relay

    return DERPProtocol


class _DERPProtocol(HttpToolsProtocol):
    """Everything but which relay. uvicorn makes the objects, so they cannot be given one."""

    relay: Relay
    _derp: Accept | Refuse | None = None
    _head_late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_came()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        self._await_head()
        super().on_message_begin()

    def _await_head(self) -> None:
        self._head_came()
        self._head_late = self.loop.call_later(HEAD_SECONDS, self.transport.abort)

    def _head_came(self) -> None:
        if self._head_late is not None:
            self._head_late.cancel()
            self._head_late = None

    def on_headers_complete(self) -> None:
        self._head_came()
        assert self.parser is not None  # it is calling us
        path = httptools.parse_url(self.url).path
        method = self.parser.get_method()
        if path == DERP_PATH and method == b"GET":
            # Without `Connection: Upgrade` the parser takes an `Upgrade` header for nothing, and so do we.
            headers = self.headers if self.parser.should_upgrade() else []
            self._derp = answer_upgrade(headers, self.relay.public_key)
            return
        application = _PROBES.get(path) if method in (b"GET", b"HEAD") else None
        if application is None:
            super().on_headers_complete()
            return
        # uvicorn starts what `app` is at this moment: so probes keep its keep-alive and pipelining.
        whole: _Application = self.app
        self.app = application
        try:
            super().on_headers_complete()
        finally:
            self.app = whole

    def on_body(self, body: bytes) -> None:
        if self._derp is None:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if self._derp is None:
            super().on_message_complete()

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        if self.parser is None:
            return
        rest = b""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            rest = data[upgrade.args[0] :]
            if self._derp is None:
                self._upgrade_other()
                return
        except httptools.HttpParserError:
            if self._derp is None:
                self.logger.warning("Invalid HTTP request received.")
                self.send_400_response("Invalid HTTP request received.")
                return
        if self._derp is not None:
            self._conclude(self._derp, rest)

    def _upgrade_other(self) -> None:
        if self._should_upgrade():
            self.handle_websocket_upgrade()
        else:
            self._unsupported_upgrade_warning()

    def _conclude(self, decision: Accept | Refuse, rest: bytes) -> None:
        self.connections.discard(self)  # or a graceful stop waits for it
        # uvicorn's annotation hides that there is no cycle before the first request.
        cycle: RequestResponseCycle | None = self.cycle
        if isinstance(decision, Refuse) or (cycle and not cycle.response_complete):
            self.transport.write(decision.response if isinstance(decision, Refuse) else _BUSY)
            self.transport.close()
            return
        try:
            self._hand_over(decision, rest)
        except (OSError, EngineClosed) as error:
            log.warning("relay.refused", remote=self._remote(), error=str(error))
            self.transport.abort()

    def _hand_over(self, decision: Accept, rest: bytes) -> None:
        if hand_over := self.transport.get_extra_info("hand_over"):
            # The engine ends TLS itself, and keeps the connection.
            hand_over(self.relay, decision.response, rest, websocket=decision.websocket)
            return
        if self.transport.get_extra_info("ssl_object") is not None:
            self._hand_over_tls(decision, rest)
            return
        self.transport.pause_reading()
        if self.transport.get_write_buffer_size():
            raise OSError("the connection does not take the end of its last answer")
        # The transport keeps its own descriptor until it is closed, so the relay gets another of the same socket.
        sock = self.transport.get_extra_info("socket")
        with socket.socket(fileno=socket.dup(sock.fileno())) as own:
            if decision.response and own.send(decision.response) != len(decision.response):
                raise OSError("the connection does not take our answer")
            self.relay.add(own.detach(), initial=rest, websocket=decision.websocket, remote=self._remote())
        self.transport.abort()  # closes its descriptor only: nothing is unsent

    def _hand_over_tls(self, decision: Accept, rest: bytes) -> None:
        near, far = socket.socketpair()
        pump = Pump(self.loop, self.transport, near)
        self.transport.write(decision.response)
        self.transport.set_protocol(pump)
        pump.start()
        self.relay.add(far.detach(), initial=rest, websocket=decision.websocket, remote=self._remote())

    def _remote(self) -> str:
        return f"{self.client[0]}:{self.client[1]}" if self.client else ""


def _probe(status: int) -> _Application:
    """Make the application that answers a probe: at once, with nothing, to anyone."""

    async def application(scope: _Scope, receive: object, send: Callable[[_Scope], Awaitable[None]]) -> None:
        headers = [(b"access-control-allow-origin", b"*"), (b"cache-control", b"no-store")]
        if status != 204:
            headers.append((b"content-length", b"0"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    return application


# A client's home region is the one whose first byte comes fastest, so these go around the application.
_PROBES: dict[bytes, _Application] = {
    b"/derp/latency-check": _probe(200),
    b"/derp/probe": _probe(200),
    b"/generate_204": _probe(204),
}
