"""A STUN server: tells nodes which address their packets come from, so that direct paths need no third party."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncGenerator
from dataclasses import dataclass

import structlog

from warren.errors import RemoteProtocolError
from warren.net import stun

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class StunServer:
    """A running STUN server; `port` is 0 and `warning` says why when it could not start."""

    port: int
    warning: str = ""

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, port: int = stun.DEFAULT_PORT, host: str = "") -> AsyncGenerator[StunServer]:
        """Serve on UDP `port` (0: any free one) of `host`, or of every IPv4 and IPv6 address.

        A port that cannot be had is a warning, not a failure: without STUN connections are relayed, and work.
        """
        async with contextlib.AsyncExitStack() as stack:
            try:
                sockets = _bind(host, port)
            except OSError as error:
                warning = f"cannot listen on UDP port {port} for STUN: {error.strerror or error}"
                log.warning("stun.unavailable", port=port, error=str(error))
                yield cls(port=0, warning=warning)
                return
            loop = asyncio.get_running_loop()
            for each in sockets:
                stack.callback(each.close)
            for each in sockets:
                transport, _ = await loop.create_datagram_endpoint(_Responder, sock=each)
                stack.callback(transport.close)
            yield cls(port=sockets[0].getsockname()[1])


class _Responder(asyncio.DatagramProtocol):
    """Answer each request where it came from. Answers are hardly longer than requests: nothing to amplify."""

    def __init__(self) -> None:
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int] | tuple[str, int, int, int]) -> None:
        if self._transport is None:
            return
        try:
            txid = stun.parse_request(data)
        except RemoteProtocolError:
            return
        self._transport.sendto(stun.answer(txid, addr[0], addr[1]), addr)

    def error_received(self, exc: Exception) -> None:
        # An answer that could not be delivered is the asker's loss: it asks again.
        log.debug("stun.send_failed", error=str(exc))


def _bind(host: str, port: int) -> list[socket.socket]:
    """Bind one socket for each family that the system has; the same port for all.

    Raises:
        OSError: the port is taken, or the address is not ours.
    """
    with contextlib.ExitStack() as stack:
        sockets: list[socket.socket] = []
        for family, address in _addresses(host):
            try:
                sock = stack.enter_context(socket.socket(family, socket.SOCK_DGRAM))
            except OSError:
                # The system has no such family.
                continue
            if family is socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.setblocking(False)
            sock.bind((address, port))
            port = port or sock.getsockname()[1]
            sockets.append(sock)
        if not sockets:
            raise OSError("the system has neither IPv4 nor IPv6")
        stack.pop_all()
        return sockets


def _addresses(host: str) -> list[tuple[socket.AddressFamily, str]]:
    if not host:
        return [(socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")]  # noqa: S104 (nodes ask from anywhere)
    return [(socket.AF_INET6 if ":" in host else socket.AF_INET, host)]
