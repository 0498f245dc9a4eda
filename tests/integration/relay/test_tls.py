"""TLS in the engine, over real sockets: HTTP through Python, relay connections around it."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import ssl
import struct
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from tests.certificates import Authority, Issued
from tests.integration.relay.client import TIMEOUT_SECONDS
from tests.integration.relay.test_server import HTTPClient, UpgradedClient, exchange, upgrade, websocket
from warren._engine import InvalidConfig, Relay
from warren.net import derp
from warren.relay.server import relay_protocol
from warren.server.certificates import TLSSettings, engine_config
from warren.server.listeners import Server, serving

pytestmark = pytest.mark.anyio

_Message = dict[str, Any]  # ASGI's own shapes


@pytest.fixture(params=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": request.param == "uvloop"}


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


async def application(
    scope: _Message, receive: Callable[[], Awaitable[_Message]], send: Callable[[_Message], Awaitable[None]]
) -> None:
    """Answer with what is known of the request, or echo its body, or echo a WebSocket."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "bytes": message["bytes"]})
        return
    body = b""
    while (message := await receive())["type"] == "http.request":
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    answer = body or f"{scope['scheme']} {scope['client'][0]} {scope['client'][1]} {scope['server'][1]}".encode()
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", str(len(answer)).encode())]}
    )
    await send({"type": "http.response.body", "body": answer})


@contextlib.asynccontextmanager
async def serve(relay: Relay, settings: TLSSettings) -> AsyncGenerator[tuple[int, Server]]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        protocol = relay_protocol(relay)
        async with serving(application, listening, protocol=protocol, tls=engine_config(settings)) as server:
            yield port, server


def settings(*pairs: Issued, **others: Any) -> TLSSettings:
    return TLSSettings([str(it.certificate) for it in pairs], [str(it.key) for it in pairs], **others)


def connect(port: int, context: ssl.SSLContext, name: str = "localhost") -> ssl.SSLSocket:
    sock = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_SECONDS)
    return context.wrap_socket(sock, server_hostname=name)


def stats(server: Server) -> dict[str, int]:
    assert server.tls
    return server.tls.stats()


async def test_relay_connections_work_in_both_forms(relay: Relay, authority: Authority) -> None:
    context = authority.client_context()

    def story(port: int) -> None:
        left, right = upgrade(port, context=context), upgrade(port, context=context)
        burst = [derp.SendPacket(right.key, bytes([number]) * 60_000) for number in range(60)]
        left.send(*burst)
        for frame in burst:
            assert right.receive() == derp.RecvPacket(left.key, frame.packet)
        exchange(right, left)
        exchange(websocket(port, context), upgrade(port, context=context))

    async with serve(relay, settings(authority.issue("server"))) as (port, server):
        with anyio.fail_after(30):
            await anyio.to_thread.run_sync(story, port)
        assert stats(server)["handed_over"] == 4


async def test_what_a_client_says_on_top_of_its_request_reaches_the_relay(relay: Relay, authority: Authority) -> None:
    """In the same record, in later ones, cut anywhere; with a request before it on the same connection."""
    context = authority.client_context()

    def story(port: int) -> None:
        with HTTPClient(port, context) as http:
            http.ask("GET /first HTTP/1.1")
            assert http.answer()[0] == "200 OK"
            client = UpgradedClient(http)
            login = derp.encode(client.client_info(relay.public_key))
            http.ask("Upgrade: DERP", "Connection: Upgrade", "Derp-Fast-Start: 1", extra=login[:9])
            for byte in login[9:]:
                http.sock.sendall(bytes([byte]))
            http.sock.sendall(derp.encode(derp.Ping(b"12345678")) * 1)
            client.server_key = client.expect(derp.ServerKey).key
            client.read_server_info()
            assert client.receive() == derp.Pong(b"12345678")

    async with serve(relay, settings(authority.issue("server"))) as (port, _):
        await anyio.to_thread.run_sync(story, port)


async def test_a_request_knows_its_client_and_large_bodies_pass(relay: Relay, authority: Authority) -> None:
    context = authority.client_context()
    body = bytes(range(256)) * 32_768  # 8 MiB

    def story(port: int) -> None:
        with HTTPClient(port, context) as http:
            http.ask("GET / HTTP/1.1")
            _, _, answer = http.answer()
            host, own_port = http.sock.getsockname()[:2]
            assert answer.decode() == f"https {host} {own_port} {port}"
            http.ask("GET /echo HTTP/1.1", f"Content-Length: {len(body)}", extra=body)
            assert http.answer()[2] == body

    async with serve(relay, settings(authority.issue("server"))) as (port, _):
        with anyio.fail_after(30):
            await anyio.to_thread.run_sync(story, port)


async def test_a_websocket_of_the_application_works(relay: Relay, authority: Authority) -> None:
    context = authority.client_context()

    def story(port: int) -> None:
        with HTTPClient(port, context) as http:
            headers = ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13")
            http.ask("GET /socket HTTP/1.1", *headers, "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==")
            assert http.answer()[0] == "101 Switching Protocols"
            http.sock.sendall(b"\x82\x84" + bytes(4) + b"echo")
            while len(http.buffer) < 6:
                http.buffer += http.sock.recv(100)
            assert http.buffer == b"\x82\x04echo"

    async with serve(relay, settings(authority.issue("server"))) as (port, _):
        await anyio.to_thread.run_sync(story, port)


async def test_protocols_and_versions_are_agreed_on_as_openssl_does(relay: Relay, authority: Authority) -> None:
    def story(port: int) -> None:
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            for offered, agreed in (["http/1.1"], "http/1.1"), (["h2", "http/1.1"], "http/1.1"), (["h2"], None):
                context = authority.client_context()
                context.minimum_version = context.maximum_version = version
                context.set_alpn_protocols(offered)
                with connect(port, context) as sock:
                    assert sock.version() == version.name.replace("_", ".").replace("TLSv1.", "TLSv1.")
                    assert sock.selected_alpn_protocol() == agreed

    async with serve(relay, settings(authority.issue("server"))) as (port, _):
        await anyio.to_thread.run_sync(story, port)


async def test_the_oldest_version_and_the_suites_are_the_operators(relay: Relay, authority: Authority) -> None:
    pair = authority.issue("server")
    old = authority.client_context()
    old.maximum_version = ssl.TLSVersion.TLSv1_2

    def refused(port: int) -> None:
        with pytest.raises(ssl.SSLError, match="protocol version"):
            connect(port, old)
        with connect(port, authority.client_context()) as sock:
            assert sock.version() == "TLSv1.3"

    def suite(port: int) -> None:
        with connect(port, old) as sock:
            cipher = sock.cipher()
        assert cipher
        assert cipher[0] == "ECDHE-ECDSA-CHACHA20-POLY1305"

    async with serve(relay, settings(pair, min_version="tls13")) as (port, _):
        await anyio.to_thread.run_sync(refused, port)
    async with serve(relay, settings(pair, ciphers=["ECDHE-ECDSA-CHACHA20-POLY1305"])) as (port, _):
        await anyio.to_thread.run_sync(suite, port)


async def test_each_name_gets_its_certificate(relay: Relay, authority: Authority) -> None:
    first = authority.issue("first", "localhost")
    second = authority.issue("second", "other.example", "*.apps.example")
    context = authority.client_context()
    context.check_hostname = False

    def shown(port: int, name: str) -> str:
        with connect(port, context, name) as sock:
            certificate = sock.getpeercert()
        assert certificate
        subject: Any = certificate["subject"]
        return subject[0][0][1]

    def story(port: int) -> None:
        assert shown(port, "localhost") == "first"
        assert shown(port, "Other.example") == "second"
        assert shown(port, "a.apps.example") == "second"
        assert shown(port, "a.b.apps.example") == "first"
        assert shown(port, "unknown.example") == "first"

    async with serve(relay, settings(first, second)) as (port, _):
        await anyio.to_thread.run_sync(story, port)


async def test_certificates_change_without_a_pause(relay: Relay, authority: Authority) -> None:
    context = authority.client_context()

    def shown(sock: ssl.SSLSocket) -> int:
        certificate = sock.getpeercert()
        assert certificate
        serial: Any = certificate["serialNumber"]
        return int(serial, 16)

    async with serve(relay, settings(authority.issue("old"))) as (port, server):
        old = await anyio.to_thread.run_sync(connect, port, context)
        server.reload(engine_config(settings(authority.issue("new"))))
        with old, await anyio.to_thread.run_sync(connect, port, context) as new:
            assert shown(new) != shown(old)
            old.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await anyio.to_thread.run_sync(old.recv, 15)) == b"HTTP/1.1 200 OK"


@pytest.mark.parametrize("mode", ["request", "verify-if-given", "require-any", "require-and-verify"])
async def test_clients_show_certificates_where_the_operator_wants_it(
    relay: Relay, authority: Authority, tmp_path: Path, mode: str
) -> None:
    (tmp_path / "other").mkdir()
    known, stranger = authority.issue("client"), Authority(tmp_path / "other").issue("stranger")

    def ask(port: int, shown: Issued | None) -> bool:
        context = authority.client_context()
        if shown:
            context.load_cert_chain(shown.certificate, shown.key)
        try:
            with HTTPClient(port, context) as http:
                http.ask("GET / HTTP/1.1")
                return http.answer()[0] == "200 OK"
        except (ssl.SSLError, ConnectionError, AssertionError):
            return False

    def story(port: int) -> None:
        assert ask(port, known)
        assert not ask(port, stranger)
        assert ask(port, None) is not mode.startswith("require")

    wanted = settings(authority.issue("server"), client_auth=mode, client_ca_file=str(authority.file))
    async with serve(relay, wanted) as (port, _):
        await anyio.to_thread.run_sync(story, port)


def test_what_only_openssl_can_do_is_said(authority: Authority, tmp_path: Path) -> None:
    pair = authority.issue("server")
    with pytest.raises(InvalidConfig, match="no cipher suite ECDHE-ECDSA-AES256-SHA384"):
        engine_config(settings(pair, ciphers=["ECDHE-ECDSA-AES256-SHA384"]))
    with pytest.raises(InvalidConfig, match="client certificates"):
        engine_config(settings(pair, client_auth="require-any"))


async def test_who_does_not_speak_tls_is_told_or_closed(relay: Relay, authority: Authority) -> None:
    context = authority.client_context()

    def say(port: int, first: bytes) -> bytes:
        with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_SECONDS) as sock:
            sock.sendall(first)
            sock.shutdown(socket.SHUT_WR)
            said = b""
            with contextlib.suppress(ConnectionResetError):
                while data := sock.recv(1000):
                    said += data
            return said

    def story(port: int) -> None:
        assert say(port, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").endswith(
            b"This port speaks HTTPS. Use https:// instead of http://"
        )
        for garbage in (b"\x00" * 100, b"\x16\x03\x01\xff\xff" + bytes(70_000), b"\x16\x03\x01\x00\x05hello", b"\x80"):
            assert not say(port, garbage).startswith(b"HTTP")
        with connect(port, context):  # others are served
            pass

    async with serve(relay, settings(authority.issue("server"))) as (port, server):
        await anyio.to_thread.run_sync(story, port)
        with anyio.fail_after(10):
            while stats(server)["open"]:  # noqa: ASYNC110 (nothing tells when a socket is closed)
                await anyio.sleep(0.01)
        assert stats(server)["handshakes_failed"] == 5


async def test_half_open_connections_make_room_for_new_ones(relay: Relay, authority: Authority) -> None:
    limit = 1024
    context = authority.client_context()

    def story(port: int) -> None:
        with contextlib.ExitStack() as stack:
            idle = [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(limit + 10)]
            with connect(port, context):
                pass
            idle[0].settimeout(TIMEOUT_SECONDS)
            assert idle[0].recv(1) == b"", "the oldest was closed"

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard if hard > 0 and hard < 8192 else 8192, hard))
    try:
        async with serve(relay, settings(authority.issue("server"))) as (port, server):
            with anyio.fail_after(30):
                await anyio.to_thread.run_sync(story, port)
            assert stats(server)["handshakes_dropped"] >= 10
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_when_descriptors_run_out_those_connected_are_served_and_the_others_wait(
    relay: Relay, authority: Authority
) -> None:
    context = authority.client_context()

    def story(port: int, server: Server) -> None:
        good = upgrade(port, context=context)
        late = socket.socket()
        late.settimeout(30)
        with good:
            with descriptors_used_up():
                late.connect(("127.0.0.1", port))
                while not stats(server)["accept_pauses"]:
                    good.sync()
            with context.wrap_socket(late, server_hostname="localhost") as secure:
                secure.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                assert secure.recv(15) == b"HTTP/1.1 200 OK"
            assert good.sync() == []

    async with serve(relay, settings(authority.issue("server"))) as (port, server):
        with anyio.fail_after(30):
            await anyio.to_thread.run_sync(story, port, server)


@contextlib.contextmanager
def descriptors_used_up() -> Generator[None]:
    """Let this process open no more."""
    taken: list[int] = []
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(entry.name) for entry in Path("/proc/self/fd").iterdir())
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, hard))
    try:
        while True:
            try:
                taken.append(os.dup(0))
            except OSError:
                break
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for each in taken:
            os.close(each)


async def test_leaves_nothing_behind(relay: Relay, authority: Authority) -> None:
    context = authority.client_context()

    def visit(port: int, count: int) -> None:
        for _ in range(count):
            with upgrade(port, context=context) as client:
                client.sync()
            with HTTPClient(port, context) as http:
                http.ask("GET / HTTP/1.1")
                http.answer()

    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    async with serve(relay, settings(authority.issue("server"))) as (port, server):
        await anyio.to_thread.run_sync(visit, port, 1)
        with anyio.fail_after(20):
            while relay.stats().connections or stats(server)["open"]:  # noqa: ASYNC110
                await anyio.sleep(0.01)
            before = descriptors()
            await anyio.to_thread.run_sync(visit, port, 30)
            while relay.stats().connections or stats(server)["open"] or descriptors() > before:  # noqa: ASYNC110
                await anyio.sleep(0.01)
    assert relay.stats().accepts == 31


async def test_relay_connections_outlive_the_http_server(relay: Relay, authority: Authority) -> None:
    async with serve(relay, settings(authority.issue("server"))) as (port, _):
        client = await anyio.to_thread.run_sync(lambda: upgrade(port, context=authority.client_context()))

    with client:
        assert client.sync() == []
        relay.close(restarting_in_seconds=1)
        assert isinstance(client.receive(), derp.Restarting)
        assert client.receive() is None


async def test_a_broken_record_ends_only_its_connection(relay: Relay, authority: Authority) -> None:
    context = authority.client_context()

    def story(port: int) -> None:
        good = upgrade(port, context=context)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_SECONDS) as raw:
            inner = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
            while True:
                try:
                    inner.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    raw.sendall(outgoing.read())
                    incoming.write(raw.recv(1 << 16))
            inner.write(b"GET /derp HTTP/1.1\r\nHost: x\r\nUpgrade: DERP\r\nConnection: Upgrade\r\n\r\n")
            raw.sendall(outgoing.read())
            assert raw.recv(1 << 16)
            raw.sendall(b"\x17\x03\x03" + struct.pack(">H", 64) + bytes(64))
            with contextlib.suppress(ConnectionResetError):
                while raw.recv(1 << 16):
                    pass
        with good:
            assert good.sync() == []

    async with serve(relay, settings(authority.issue("server"))) as (port, _):
        await anyio.to_thread.run_sync(story, port)
