"""Damaged requests, from `engine/fuzz-corpus`, to the port that relay connections come in by."""

from __future__ import annotations

import contextlib
import random
import socket
import ssl
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from tests.certificates import Authority
from tests.integration.relay.client import TIMEOUT_SECONDS
from tests.integration.relay.test_server import HTTPClient, exchange, serve, upgrade
from tests.integration.relay.test_tls import serve as serve_tls
from tests.integration.relay.test_tls import settings
from warren._engine import Relay

pytestmark = pytest.mark.anyio

CORPUS = sorted((Path(__file__).parents[3] / "engine/fuzz-corpus/http-upgrade").iterdir())
CASES = 400


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": True}


def damage(noise: random.Random, data: bytes) -> bytes:
    out = bytearray(data)
    for _ in range(noise.randint(1, 4)):
        at = noise.randrange(len(out) + 1)
        match noise.randrange(5):
            case 0:
                out[at : at + 1] = bytes([noise.randrange(256)])
            case 1:
                del out[at : at + noise.randrange(20)]
            case 2:
                out[at:at] = noise.randbytes(noise.randrange(20))
            case 3:
                out[at:at] = out[at : at + noise.randrange(60)]
            case _:
                out[at:at] = b"\r\n" * noise.randrange(3)
    return bytes(out)


def send(port: int, data: bytes, noise: random.Random, context: ssl.SSLContext | None) -> bytes:
    """Send in up to three pieces, end, and read what is answered; it may be nothing, but it must end."""
    sock = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_SECONDS)
    if context:
        sock = context.wrap_socket(sock, server_hostname="localhost")
    answer = b""
    with sock, contextlib.suppress(OSError):  # reset, or closed before we are done
        cuts = sorted(noise.randrange(len(data) + 1) for _ in range(2))
        for piece in (data[: cuts[0]], data[cuts[0] : cuts[1]], data[cuts[1] :]):
            sock.sendall(piece)
        if not context:
            sock.shutdown(socket.SHUT_WR)
        else:
            sock.settimeout(0.05)  # TLS has no end of one side only: what is answered, is answered at once
        with contextlib.suppress(TimeoutError):
            while part := sock.recv(1 << 16):
                answer += part
    return answer


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
async def test_no_request_harms_the_others(relay: Relay, tmp_path: Path, tls: bool) -> None:
    authority = Authority(tmp_path)
    context = authority.client_context() if tls else None

    def story(port: int) -> None:
        noise = random.Random(1)
        bystander = upgrade(port, context=context)
        for number in range(CASES // 4 if tls else CASES):
            data = damage(noise, CORPUS[number % len(CORPUS)].read_bytes())
            answer = send(port, data, noise, context)
            assert not answer or answer.startswith(b"HTTP/1.1 ") or answer[:1] == b"\x01", (number, data, answer)
        assert bystander.sync() == []
        exchange(bystander, upgrade(port, context=context))
        with HTTPClient(port, context) as http:
            http.ask("GET /derp/latency-check HTTP/1.1")
            assert http.answer()[0] == "200 OK"

    if tls:
        async with serve_tls(relay, settings(authority.issue("server"))) as (port, _):
            with anyio.fail_after(60):
                await anyio.to_thread.run_sync(story, port)
    else:
        async with serve(relay) as port:
            with anyio.fail_after(60):
                await anyio.to_thread.run_sync(story, port)
    with anyio.fail_after(10):
        while relay.stats().connections:  # noqa: ASYNC110 (nothing tells when a socket is closed)
            await anyio.sleep(0.01)
