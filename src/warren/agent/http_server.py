"""A small HTTP/1.1 server on sockets that somebody else accepted: enough for the agent's own API."""

from __future__ import annotations

import re
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import parse_qsl, unquote, urlsplit

import anyio
import httptools
import msgspec
import structlog

from warren.agent import sockets
from warren.errors import Conflict, Forbidden, Invalid, NotFound, TooLarge, Unavailable, WarrenError

log = structlog.get_logger()

TIMEOUT_SECONDS = 20.0
READ_BYTES = 64 * 1024
MAX_HEAD_BYTES = 64 * 1024
MAX_BODY_BYTES = 64 * 1024 * 1024

_STATUS_OF: tuple[tuple[type[WarrenError], HTTPStatus], ...] = (
    (NotFound, HTTPStatus.NOT_FOUND),
    (Forbidden, HTTPStatus.FORBIDDEN),
    (Conflict, HTTPStatus.CONFLICT),
    (Invalid, HTTPStatus.BAD_REQUEST),
    (TooLarge, HTTPStatus.REQUEST_ENTITY_TOO_LARGE),
    (Unavailable, HTTPStatus.SERVICE_UNAVAILABLE),
)


class ErrorBody(msgspec.Struct, frozen=True, omit_defaults=True):
    """What went wrong, as all of Warren's APIs say it."""

    message: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Request:
    """One request, complete."""

    method: str
    path: str
    query: Mapping[str, str]
    body: bytes
    arguments: Mapping[str, str] = field(default_factory=dict[str, str])
    """The parts of the path that the route names."""


@dataclass(frozen=True, slots=True)
class Response:
    """One answer."""

    body: bytes = b""
    status: int = HTTPStatus.OK
    content_type: str = "application/json; charset=utf-8"

    @classmethod
    def json(cls, value: object, status: int = HTTPStatus.OK) -> Response:
        """Answer with JSON."""
        return cls(msgspec.json.encode(value) + b"\n", status)

    @classmethod
    def text(cls, text: str, status: int = HTTPStatus.OK) -> Response:
        """Answer with plain text."""
        return cls(text.encode(errors="replace"), status, "text/plain; charset=utf-8")


Handler = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Route:
    """A method and a path, whose `{parts}` become arguments, and who answers."""

    method: str
    path: str
    handler: Handler

    def match(self, path: str) -> dict[str, str] | None:
        """Return the arguments in `path` when it is this route's."""
        pattern = re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/]+)", re.escape(self.path))
        found = re.fullmatch(pattern, path)
        return None if found is None else found.groupdict()


class Router:
    """Finds who answers a request."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self._routes = routes

    async def answer(self, request: Request) -> Response:
        """Answer a request; errors become their status and body."""
        path = request.path.rstrip("/") or "/"
        allowed = False
        for route in self._routes:
            arguments = route.match(path)
            if arguments is None:
                continue
            allowed = True
            if route.method in {request.method, "*"}:
                return await self._call(route, request, arguments)
        if allowed:
            return Response.json(ErrorBody("Method not allowed."), HTTPStatus.METHOD_NOT_ALLOWED)
        return Response.json(ErrorBody("Route not found."), HTTPStatus.NOT_FOUND)

    async def _call(self, route: Route, request: Request, arguments: Mapping[str, str]) -> Response:
        complete = Request(request.method, request.path, request.query, request.body, arguments)
        try:
            return await route.handler(complete)
        except WarrenError as error:
            status = next((status for kind, status in _STATUS_OF if isinstance(error, kind)), 500)
            return Response.json(ErrorBody(error.message, error.detail), status)
        except Exception:  # the top of a serving loop
            log.exception("request.failed", path=request.path)
            return Response.json(ErrorBody("Internal error."), HTTPStatus.INTERNAL_SERVER_ERROR)


class _Parsed:
    """What the parser calls; holds one request at a time."""

    def __init__(self) -> None:
        self.complete: list[tuple[str, bytes]] = []
        self._target = bytearray()
        self._body = bytearray()
        self._in_head = True
        self._head_bytes = 0

    def check_head(self, received: int) -> None:
        """Count what was received of a request's head, which must not grow for ever."""
        self._head_bytes = self._head_bytes + received if self._in_head and not self.complete else 0
        if self._head_bytes > MAX_HEAD_BYTES:
            raise TooLarge("request head too large")

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_headers_complete(self) -> None:
        self._in_head = False

    def on_body(self, body: bytes) -> None:
        self._body += body
        if len(self._body) > MAX_BODY_BYTES:
            raise TooLarge("request body too large")

    def on_message_complete(self) -> None:
        self.complete.append((self._target.decode("latin-1"), bytes(self._body)))
        self._target.clear()
        self._body.clear()
        self._in_head = True


async def serve_http(connection: socket.socket, router: Router) -> None:
    """Serve the requests of one connection until it ends or idles; takes the socket."""
    parsed = _Parsed()
    parser = httptools.HttpRequestParser(parsed)
    try:
        while True:
            data = b""
            with anyio.move_on_after(TIMEOUT_SECONDS):
                data = await sockets.receive(connection, READ_BYTES)
            if not data:
                return
            parser.feed_data(data)
            parsed.check_head(len(data))
            for target, body in parsed.complete:
                request = _request(parser.get_method().decode(), target, body)
                keep = parser.should_keep_alive()
                with anyio.fail_after(TIMEOUT_SECONDS):
                    await sockets.send_all(connection, _encode(await router.answer(request), keep_alive=keep))
                if not keep:
                    return
            parsed.complete.clear()
    except (httptools.HttpParserError, TooLarge):
        refusal = Response.json(ErrorBody("Bad request."), HTTPStatus.BAD_REQUEST)
        with anyio.move_on_after(1):
            await sockets.send_all(connection, _encode(refusal, keep_alive=False))
    except (OSError, TimeoutError):
        return
    finally:
        sockets.close(connection)


def _request(method: str, target: str, body: bytes) -> Request:
    parts = urlsplit(target)
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    return Request(method, unquote(parts.path), query, body)


def _encode(response: Response, *, keep_alive: bool) -> bytes:
    phrase = HTTPStatus(response.status).phrase
    head = (
        f"HTTP/1.1 {int(response.status)} {phrase}\r\n"
        f"Content-Type: {response.content_type}\r\n"
        f"Content-Length: {len(response.body)}\r\n"
        f"Connection: {'keep-alive' if keep_alive else 'close'}\r\n\r\n"
    )
    return head.encode() + response.body
