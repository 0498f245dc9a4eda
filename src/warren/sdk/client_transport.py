"""HTTP/1.1 and WebSocket to one server: connections kept alive, certificates, headers, time-outs.

A client of our own rather than a general one because a command must start fast: this imports in 10 ms what takes
`httpx2` 66 ms, and commands need little of HTTP. Parsing is `httptools` and `websockets`' sans-I/O core.
"""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode, urlsplit

import anyio
import httptools
from anyio.abc import ByteStream

from warren.errors import Invalid, RemoteProtocolError, Unavailable
from warren.sdk import connecting

if TYPE_CHECKING:
    import ssl

    from websockets.client import ClientProtocol

TIMEOUT_SECONDS = 60.0  # an answer takes long only when the server is in trouble: creating a build is the slowest call
CONNECT_SECONDS = 15.0  # three SYN retries
READ_SIZE = 65536
MAX_MESSAGE_BYTES = 4 << 20  # a log message is a line; this is what the server's own RPC allows

Query = Mapping[str, str | int | bool | Sequence[str] | None]


@dataclass(frozen=True, slots=True)
class TLSOptions:
    """Files in PEM form: an authority to trust besides the system's, and a certificate of our own."""

    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""

    def context(self) -> ssl.SSLContext:
        """Make the context for a connection.

        Raises:
            Invalid: a file cannot be read or is not what it should be.
        """
        import ssl

        context = ssl.create_default_context()
        try:
            if self.ca_file:
                context.load_verify_locations(cafile=self.ca_file)
            if self.cert_file:
                context.load_cert_chain(self.cert_file, self.key_file or None)
        except (OSError, ssl.SSLError) as error:
            raise Invalid(f"cannot use the TLS files: {error}") from error
        return context


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete HTTP response; header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class ResponseParser:
    """Cut a byte stream into the parts of one HTTP response."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.head_done = False
        self.done = False
        self.rest = b""
        self._keep_alive = False
        self._chunks: list[bytes] = []
        self._parser = httptools.HttpResponseParser(self)

    def feed(self, data: bytes) -> None:
        """Take what arrived.

        Raises:
            RemoteProtocolError: it is not HTTP.
        """
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self.rest = data[upgrade.args[0] :]
            self.done = True
        except httptools.HttpParserError as error:
            raise RemoteProtocolError(f"the server did not answer in HTTP: {error}") from error

    def feed_eof(self) -> None:
        """Take the end of the stream, which ends a body without a length.

        Raises:
            Unavailable: the response is not complete.
        """
        length_known = "content-length" in self.headers or "transfer-encoding" in self.headers
        if not self.head_done or length_known:
            raise Unavailable("the server closed the connection in the middle of an answer")
        self.done = True

    def take(self) -> bytes:
        """Return the part of the body that arrived since the last call."""
        body = b"".join(self._chunks)
        self._chunks.clear()
        return body

    @property
    def reusable(self) -> bool:
        """Whether the connection may carry another request."""
        return self.done and not self.rest and self._keep_alive

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; called by the parser."""
        self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """Note that the head is complete; called by the parser."""
        self.status = self._parser.get_status_code()
        self.head_done = True

    def on_body(self, body: bytes) -> None:
        """Take a part of the body; called by the parser."""
        self._chunks.append(body)

    def on_message_complete(self) -> None:
        """Note that the body is complete; called by the parser."""
        self.done = True
        self._keep_alive = self._parser.should_keep_alive()


@dataclass(slots=True)
class Transport:
    """Requests to one server."""

    url: str
    headers: dict[str, str] = field(default_factory=dict[str, str])
    tls: TLSOptions = field(default_factory=TLSOptions)
    _idle: list[ByteStream] = field(default_factory=list[ByteStream])
    _context: ssl.SSLContext | None = None

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise Invalid(f"`{self.url}` is not the URL of a server", hint="it looks like https://warren.example.com")

    @property
    def tls_context(self) -> ssl.SSLContext | None:
        """The TLS context of our connections; `None` for plain HTTP."""
        if self._context is None and self.url.startswith("https:"):
            self._context = self.tls.context()
        return self._context

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> Answer:
        """Send a request and read the whole answer.

        Raises:
            Unavailable: the server cannot be reached, or did not answer in time.
        """
        with self._deadline(timeout_seconds):
            async with self.exchange(method, path, query=query, body=body, headers=headers) as (parser, stream):
                while not parser.done:
                    await read_into(parser, stream)
                return Answer(parser.status, parser.headers, parser.take())

    async def lines(self, path: str, *, query: Query | None = None) -> AsyncGenerator[bytes]:
        """Follow an answer that does not end by itself, line by line (server-sent events).

        Raises:
            Unavailable: the server cannot be reached, or ended the stream in the middle.
        """
        async with self.exchange("GET", path, query=query) as (parser, stream):
            if parser.status != 200:
                raise Unavailable(f"the server answered {parser.status} for {path}")
            buffer = b""
            while True:
                *whole, buffer = (buffer + parser.take()).split(b"\n")
                for line in whole:
                    yield line
                if parser.done:
                    return
                await read_into(parser, stream)

    @asynccontextmanager
    async def exchange(
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
    ) -> AsyncGenerator[tuple[ResponseParser, ByteStream]]:
        """Send a request and read the head of its answer; the connection is kept when the body was read."""
        head = self._head(method, path, query, len(body), headers or {})
        stream, parser = await self._send(head + body)
        try:
            yield parser, stream
        finally:
            if parser.reusable:
                self._idle.append(stream)
            else:
                await anyio.aclose_forcefully(stream)

    async def messages(self, path: str, *, query: Query | None = None) -> AsyncGenerator[bytes]:
        """Follow a WebSocket that only the server speaks on; yield its messages until it closes normally.

        Raises:
            Unavailable: the server cannot be reached, or the connection broke.
            WarrenError: the server refused, as `client_errors.from_answer` maps it.
        """
        from warren.sdk import client_websocket

        stream = await self._connect()
        try:
            async for message in client_websocket.messages(stream, self.websocket_protocol(path, query), self.headers):
                yield message
        finally:
            await anyio.aclose_forcefully(stream)

    def websocket_protocol(self, path: str, query: Query | None) -> ClientProtocol:
        """Make the protocol state of a WebSocket to `path`."""
        from websockets.client import ClientProtocol
        from websockets.uri import parse_uri

        target = parse_uri("ws" + self.url.removeprefix("http").rstrip("/") + path + encode_query(query))
        return ClientProtocol(target, max_size=MAX_MESSAGE_BYTES)

    async def aclose(self) -> None:
        """Close the idle connections."""
        while self._idle:
            await anyio.aclose_forcefully(self._idle.pop())

    async def _send(self, request: bytes) -> tuple[ByteStream, ResponseParser]:
        """Send on a kept connection when it still lives, else on a new one; read the head of the answer."""
        while self._idle:
            stream = self._idle.pop()
            try:
                return stream, await _ask(stream, request)
            except Unavailable:
                await anyio.aclose_forcefully(stream)
        stream = await self._connect()
        try:
            return stream, await _ask(stream, request)
        except BaseException:
            await anyio.aclose_forcefully(stream)
            raise

    async def _connect(self) -> ByteStream:
        parts = urlsplit(self.url)
        host = parts.hostname or ""
        port = parts.port or (443 if parts.scheme == "https" else 80)
        with self._deadline(CONNECT_SECONDS):
            try:
                return await connecting.connect(host, port, self.tls_context, trust=self.tls.context)
            except OSError as error:  # includes ssl.SSLError
                cause = error.__cause__ or error
                raise Unavailable(f"cannot reach {self.url}: {_reason(cause)}", hint=_advice(cause)) from error

    def _deadline(self, seconds: float) -> _Deadline:
        return _Deadline(self.url, seconds)

    def _head(self, method: str, path: str, query: Query | None, body_bytes: int, headers: Mapping[str, str]) -> bytes:
        parts = urlsplit(self.url)
        target = parts.path.rstrip("/") + quote(path, safe="/%:@!$&'()*+,;=~") + encode_query(query)
        fields = {"Host": parts.netloc.rpartition("@")[2], "Accept": "*/*", **self.headers, **headers}
        if body_bytes or method in {"POST", "PUT", "PATCH"}:
            fields["Content-Length"] = str(body_bytes)
        lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
        return "\r\n".join(lines).encode("latin-1", "replace")


def _reason(error: BaseException) -> str:
    """Say why a connection failed; OpenSSL's own text names a line of its C code."""
    if not isinstance(error, OSError) or not (reason := getattr(error, "verify_message", "")):
        return str(error)
    return f"its certificate is not trusted: {reason}"


def _advice(error: BaseException) -> str:
    """Say what to do about it."""
    match getattr(error, "reason", ""), getattr(error, "verify_message", ""):
        case _, str(reason) if "expired" in reason or "not yet valid" in reason:
            return "the operator of the server must renew its certificate, unless this machine's clock is wrong"
        case _, str(reason) if "mismatch" in reason:
            return "use the name that the certificate is for"
        case _, str(reason) if reason:
            return "pass the file of its authority: --client-tls-ca-file FILE, or WARREN_CLIENT_TLS_CA_FILE"
        case "WRONG_VERSION_NUMBER" | "RECORD_LAYER_FAILURE", _:
            return "the server does not speak TLS there; try http://"
        case _:
            return "is the server running, and is the URL right?"


class _Deadline:
    """Turn running out of time into `Unavailable`."""

    def __init__(self, url: str, seconds: float) -> None:
        self._url = url
        self._seconds = seconds
        self._scope = anyio.CancelScope()

    def __enter__(self) -> None:
        if not math.isinf(self._seconds):
            self._scope.deadline = anyio.current_time() + self._seconds
        self._scope.__enter__()

    def __exit__(self, *exc_info: object) -> bool | None:
        # The triple of the protocol, passed through unchanged.
        swallowed = self._scope.__exit__(*exc_info)  # pyright: ignore[reportArgumentType]
        if self._scope.cancelled_caught:
            raise Unavailable(f"{self._url} did not answer within {self._seconds:.0f} s")
        return swallowed


def encode_query(query: Query | None) -> str:
    """Write a query string with its question mark; `None` values are left out, booleans are `true` and `false`."""
    pairs: list[tuple[str, str]] = []
    for name, value in (query or {}).items():
        match value:
            case None:
                continue
            case bool():
                pairs.append((name, "true" if value else "false"))
            case str() | int():
                pairs.append((name, str(value)))
            case _:
                pairs.extend((name, item) for item in value)
    return "?" + urlencode(pairs) if pairs else ""


async def _ask(stream: ByteStream, request: bytes) -> ResponseParser:
    parser = ResponseParser()
    try:
        await stream.send(request)
        while not parser.head_done:
            parser.feed(await stream.receive(READ_SIZE))
    except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError, OSError) as error:
        raise Unavailable("the server closed the connection", detail=str(error)) from error
    return parser


async def read_into(parser: ResponseParser, stream: ByteStream) -> None:
    """Read more of an answer.

    Raises:
        Unavailable: the connection broke, or ended too early.
    """
    try:
        parser.feed(await stream.receive(READ_SIZE))
    except anyio.EndOfStream:
        parser.feed_eof()
    except (anyio.BrokenResourceError, OSError) as error:
        raise Unavailable(f"the connection to the server broke: {error.__cause__ or error}") from error
