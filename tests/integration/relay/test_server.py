from __future__ import annotations

import base64
import contextlib
import datetime
import os
import socket
import ssl
import struct
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from pathlib import Path
from types import TracebackType

import anyio
import anyio.to_thread
import pytest
import uvicorn
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.integration.relay.client import TIMEOUT_SECONDS, DERPClient
from warren._engine import Relay
from warren.net import derp
from warren.relay.server import relay_protocol

pytestmark = pytest.mark.anyio


async def application(
    scope: dict[str, object], receive: object, send: Callable[[dict[str, object]], Awaitable[None]]
) -> None:
    """Say which path was asked for, as any application behind the relay would."""
    assert scope["type"] == "http"
    body = str(scope["path"]).encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class QuietServer(uvicorn.Server):
    """uvicorn without its signal handlers."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


@pytest.fixture(params=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": request.param == "uvloop"}


@contextlib.asynccontextmanager
async def serve(relay: Relay, **options: str) -> AsyncGenerator[int]:
    config = uvicorn.Config(application, http=relay_protocol(relay), lifespan="off", log_config=None, **options)  # pyright: ignore[reportArgumentType] (paths as text)
    server = QuietServer(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(server.serve, [listener])
            yield listener.getsockname()[1]
            server.should_exit = True


class HTTPClient:
    """A raw HTTP connection, so that a test sees every byte."""

    def __init__(self, port: int, context: ssl.SSLContext | None = None) -> None:
        sock = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_SECONDS)
        self.sock = context.wrap_socket(sock, server_hostname="localhost") if context else sock
        self.buffer = b""

    def __enter__(self) -> HTTPClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.sock.close()

    def ask(self, *lines: str, extra: bytes = b"") -> None:
        head = "\r\n".join(("GET /derp HTTP/1.1" if not lines[0].startswith("GET ") else lines[0], "Host: x"))
        rest = [line for line in lines if not line.startswith("GET ")]
        self.sock.sendall("\r\n".join([head, *rest, "", ""]).encode() + extra)

    def answer(self) -> tuple[str, dict[str, str], bytes]:
        """Read status line, headers, and the body as far as its length is announced."""
        while b"\r\n\r\n" not in self.buffer:
            self._read()
        head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
        status, *lines = head.decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines)
        length = int(headers.get("content-length", "0"))
        while len(self.buffer) < length:
            self._read()
        body, self.buffer = self.buffer[:length], self.buffer[length:]
        return status.split(" ", 1)[1], headers, body

    def closed(self) -> bool:
        return not self.buffer and self.sock.recv(1) == b""

    def _read(self) -> None:
        data = self.sock.recv(1 << 16)
        assert data, f"closed after {self.buffer!r}"
        self.buffer += data


class UpgradedClient(DERPClient):
    """A DERP client on a connection whose HTTP answer was read already."""

    def __init__(self, http: HTTPClient) -> None:
        super().__init__(http.sock)
        self._first = http.buffer

    def read(self) -> bytes:
        first, self._first = self._first, b""
        return first or super().read()


class WebSocketClient(UpgradedClient):
    """A DERP client in WebSocket messages. Writes each piece of the stream as two fragments."""

    def __init__(self, http: HTTPClient) -> None:
        super().__init__(http)
        self._raw = b""

    def write(self, data: bytes) -> None:
        middle = len(data) // 2
        self.frame(0x02, data[:middle])
        self.frame(0x89, b"ping")
        self.frame(0x80, data[middle:])

    def frame(self, first: int, payload: bytes) -> None:
        mask = os.urandom(4)
        length = bytes([0x80 | len(payload)]) if len(payload) < 126 else b"\xfe" + struct.pack(">H", len(payload))
        masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
        super().write(bytes([first]) + length + mask + masked)

    def read(self) -> bytes:
        while True:
            first, payload = self.read_frame()
            if first == 0x82:
                return payload
            assert (first, payload) == (0x8A, b"ping")

    def read_frame(self) -> tuple[int, bytes]:
        first, length = self._take(2)
        if length > 125:
            length = int.from_bytes(self._take(2 if length == 126 else 8))
        return first, self._take(length)

    def _take(self, count: int) -> bytes:
        while len(self._raw) < count:
            data = super().read()
            assert data, "the relay closed"
            self._raw += data
        taken, self._raw = self._raw[:count], self._raw[count:]
        return taken


def upgrade(port: int, *headers: str, context: ssl.SSLContext | None = None) -> UpgradedClient:
    http = HTTPClient(port, context)
    http.ask("Upgrade: DERP", "Connection: Upgrade", *headers)
    status, answered, _ = http.answer()
    assert status == "101 Switching Protocols"
    assert answered["upgrade"] == "derp"
    assert answered["derp-version"] == "2"
    client = UpgradedClient(http).login()
    assert answered["derp-public-key"] == client.server_key.hex()
    return client


def websocket(port: int, context: ssl.SSLContext | None = None) -> WebSocketClient:
    http = HTTPClient(port, context)
    key = base64.b64encode(bytes(16)).decode()
    http.ask(
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Key: {key}",
        "Sec-WebSocket-Protocol: derp",
    )
    status, answered, _ = http.answer()
    assert status == "101 Switching Protocols"
    assert answered["sec-websocket-protocol"] == "derp"
    client = WebSocketClient(http)
    client.login()
    return client


def exchange(left: DERPClient, right: DERPClient) -> None:
    """Prove that both can send to each other, small and large."""
    with left, right:
        for packet in (b"hello", bytes(range(256)) * 256):
            left.send(derp.SendPacket(right.key, packet))
            assert right.receive() == derp.RecvPacket(left.key, packet)
            right.send(derp.SendPacket(left.key, packet))
            assert left.receive() == derp.RecvPacket(right.key, packet)


async def test_hands_native_connections_to_the_relay(relay: Relay) -> None:
    def story(port: int) -> None:
        exchange(upgrade(port), upgrade(port))

    async with serve(relay) as port:
        await anyio.to_thread.run_sync(story, port)


async def test_hands_over_bytes_behind_the_request(relay: Relay) -> None:
    def story(port: int) -> None:
        http = HTTPClient(port)
        client = UpgradedClient(http)
        extra = derp.encode(client.client_info(relay.public_key)) + derp.encode(derp.Ping(b"12345678"))
        with client:
            http.ask("Upgrade: DERP", "Connection: Upgrade", "Derp-Fast-Start: 1", extra=extra)
            client.server_key = client.expect(derp.ServerKey).key  # and no HTTP before it
            client.read_server_info()
            assert client.receive() == derp.Pong(b"12345678")

    async with serve(relay) as port:
        await anyio.to_thread.run_sync(story, port)


async def test_takes_a_request_in_any_pieces(relay: Relay) -> None:
    def story(port: int) -> None:
        http = HTTPClient(port)
        with UpgradedClient(http) as client:
            http.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            request = b"GET /derp HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUPGRADE: derp\r\n"
            request += b"Derp-Fast-Start: 1\r\n\r\n" + derp.encode(client.client_info(relay.public_key))
            for byte in request:
                http.sock.sendall(bytes([byte]))
            client.server_key = client.expect(derp.ServerKey).key
            client.read_server_info()
            assert client.sync() == []

    async with serve(relay) as port:
        await anyio.to_thread.run_sync(story, port)


async def test_speaks_websocket_with_those_that_do(relay: Relay) -> None:
    def story(port: int) -> None:
        exchange(websocket(port), upgrade(port))

    async with serve(relay) as port:
        await anyio.to_thread.run_sync(story, port)


@pytest.mark.parametrize(
    ("first", "payload", "code"),
    [
        pytest.param(0x81, b"text", 1003, id="text"),
        pytest.param(0xC2, b"x", 1002, id="compressed"),
        pytest.param(0x80, b"x", 1002, id="a continuation of nothing"),
        pytest.param(0x89, bytes(126), 1002, id="a long ping"),
        pytest.param(0x82, derp.encode(derp.WatchConns()), 1002, id="broken DERP"),
        pytest.param(0x88, struct.pack(">H", 1000), 1000, id="the end"),
    ],
)
async def test_closes_websockets_with_a_code(relay: Relay, first: int, payload: bytes, code: int) -> None:
    def story(port: int) -> None:
        with websocket(port) as client:
            client.frame(first, payload)
            answer = client.read_frame()
            while answer == (0x8A, b"ping"):
                answer = client.read_frame()
            assert answer == (0x88, struct.pack(">H", code))

    async with serve(relay) as port:
        await anyio.to_thread.run_sync(story, port)


async def test_refuses_what_is_no_upgrade(relay: Relay) -> None:
    def story(port: int) -> None:
        for headers in ([], ["Upgrade: h2c", "Connection: Upgrade"], ["Upgrade: DERP"]):
            with HTTPClient(port) as http:
                http.ask("GET /derp HTTP/1.1", *headers)
                status, _, body = http.answer()
                assert (status, body) == ("426 Upgrade Required", b"DERP requires connection upgrade")
                assert http.closed()

    async with serve(relay) as port:
        await anyio.to_thread.run_sync(story, port)


async def test_a_websocket_must_speak_derp(relay: Relay) -> None:
    def story(port: int) -> None:
        headers = ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Protocol: derper")
        with HTTPClient(port) as http:
            http.ask(*headers, "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: x")
            assert http.answer()[0] == "101 Switching Protocols"
            reason = b"\x03\xf0client must speak the derp subprotocol"
            while len(http.buffer) < 2 + len(reason):
                http.buffer += http.sock.recv(100)
            assert http.buffer == bytes([0x88, len(reason)]) + reason
        with HTTPClient(port) as http:
            http.ask(*headers)
            assert http.answer()[0] == "400 Bad Request"

    async with serve(relay) as port:
        await anyio.to_thread.run_sync(story, port)


async def test_answers_probes_and_leaves_the_rest_to_the_application(relay: Relay) -> None:
    def story(port: int) -> None:
        http = HTTPClient(port)
        for path, expected in [
            ("/derp/latency-check", ("200 OK", b"")),
            ("/derp/probe", ("200 OK", b"")),
            ("/generate_204", ("204 No Content", b"")),
            ("/derp/else", ("200 OK", b"/derp/else")),
            ("/api/v2/buildinfo", ("200 OK", b"/api/v2/buildinfo")),
        ]:
            http.ask(f"GET {path} HTTP/1.1")
            status, _, body = http.answer()
            assert (status, body) == expected
        # The same connection may become a relay's after all that.
        http.ask("Upgrade: DERP", "Connection: Upgrade")
        assert http.answer()[0] == "101 Switching Protocols"
        with UpgradedClient(http).login() as client:
            assert client.sync() == []

    async with serve(relay) as port:
        await anyio.to_thread.run_sync(story, port)


async def test_who_takes_too_long_over_a_request_is_closed(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("warren.relay.server.HEAD_SECONDS", 0.3)

    def story(port: int) -> None:
        with HTTPClient(port) as silent, HTTPClient(port) as slow, HTTPClient(port) as again:
            slow.sock.sendall(b"GET /derp HTTP/1.1\r\nHost:")
            again.ask("GET /first HTTP/1.1")
            assert again.answer()[0] == "200 OK"
            again.sock.sendall(b"GET /derp HT")
            for client in (silent, slow, again):
                assert client.closed()

    def patient(port: int) -> None:
        http = HTTPClient(port)
        http.ask("Upgrade: DERP", "Connection: Upgrade")
        assert http.answer()[0] == "101 Switching Protocols"
        with UpgradedClient(http).login() as client, HTTPClient(port) as other:
            assert other.closed(), "so much time has passed"
            assert client.sync() == []

    async with serve(relay) as port:
        await anyio.to_thread.run_sync(story, port)
        await anyio.to_thread.run_sync(patient, port)


async def test_survives_the_end_of_the_http_server(relay: Relay) -> None:
    async with serve(relay) as port:
        client = await anyio.to_thread.run_sync(upgrade, port)

    with client:
        assert client.sync() == []


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
async def test_leaves_nothing_behind(relay: Relay, tmp_path: Path, tls: bool) -> None:
    certificate, key = make_certificate(tmp_path)
    context = ssl.create_default_context(cafile=certificate) if tls else None
    options = {"ssl_certfile": certificate, "ssl_keyfile": key} if tls else {}

    def visit(port: int, count: int) -> None:
        for _ in range(count):
            with upgrade(port, context=context) as client:
                client.sync()

    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    async with serve(relay, **options) as port:
        await anyio.to_thread.run_sync(visit, port, 1)
        with anyio.fail_after(20):
            while relay.stats().connections:  # noqa: ASYNC110 (nothing tells when a socket is closed)
                await anyio.sleep(0.01)
            before = descriptors()
            await anyio.to_thread.run_sync(visit, port, 30)
            while relay.stats().connections or descriptors() > before:  # noqa: ASYNC110
                await anyio.sleep(0.01)
    assert relay.stats().accepts == 31


async def test_pumps_under_tls(relay: Relay, tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    context = ssl.create_default_context(cafile=certificate)

    def story(port: int) -> None:
        left = upgrade(port, context=context)
        right = upgrade(port, context=context)
        burst = [derp.SendPacket(right.key, bytes([number]) * 60_000) for number in range(60)]
        left.send(*burst)
        for frame in burst:
            assert right.receive() == derp.RecvPacket(left.key, frame.packet)
        exchange(right, left)

    async with serve(relay, ssl_certfile=certificate, ssl_keyfile=key) as port:
        with anyio.fail_after(15):
            await anyio.to_thread.run_sync(story, port)


def make_certificate(folder: Path) -> tuple[str, str]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=36500))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate_path, key_path = folder / "certificate.pem", folder / "key.pem"
    certificate_path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return str(certificate_path), str(key_path)
