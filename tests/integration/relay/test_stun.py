from __future__ import annotations

import socket

import anyio
import anyio.to_thread
import pytest

from warren.net import stun
from warren.relay.stun import StunServer

pytestmark = pytest.mark.anyio
TXID = b"transaction1"


def ask(host: str, port: int, *packets: bytes) -> tuple[bytes, tuple[str, int]]:
    """Send packets to a server; return its first answer, and where we sent them from."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.settimeout(20)
        sock.connect((host, port))
        for packet in packets:
            sock.send(packet)
        return sock.recv(1500), sock.getsockname()[:2]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_tells_where_a_request_came_from(host: str) -> None:
    async with StunServer.open(port=0) as server:
        answer, source = await anyio.to_thread.run_sync(ask, host, server.port, stun.request(TXID))

    assert server.warning == ""
    assert stun.parse_answer(answer) == stun.Answer(TXID, *source)


async def test_answers_any_client_and_nothing_but_requests() -> None:
    bare = bytes.fromhex("000100002112a442") + TXID
    noise = [b"", b"x", bytes(1400), stun.answer(TXID, "192.0.2.1", 1), bare[:-1]]

    async with StunServer.open(port=0, host="127.0.0.1") as server:
        answer, source = await anyio.to_thread.run_sync(ask, "127.0.0.1", server.port, *noise, bare)

    assert stun.parse_answer(answer) == stun.Answer(TXID, *source)


async def test_a_taken_port_is_a_warning() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("0.0.0.0", 0))
        port = taken.getsockname()[1]

        async with StunServer.open(port=port) as server:
            assert server.port == 0
            assert str(port) in server.warning
            assert "in use" in server.warning


async def test_lets_its_port_go() -> None:
    async with StunServer.open(port=0) as first:
        pass
    async with StunServer.open(port=first.port) as second:
        assert second.port == first.port
