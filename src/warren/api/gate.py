"""What every request passes before its route, and every answer on its way back.

Repeated slashes, who asks, rate limits, CSRF, the headers of every answer, refusals of WebSockets as real answers, the
access log.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import structlog
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from warren.api import auth, cors, csrf
from warren.api.errors import answer
from warren.api.exchange import Exchange, attach
from warren.api.rate_limit import Counter, Limits, Verdict
from warren.clock import Clock
from warren.errors import WarrenError
from warren.services.sessions import Sessions

log = structlog.get_logger()

_SLASHES = re.compile("//+")
BYPASS = b"x-coder-bypass-ratelimit"
Observe = Callable[[str, str, int, float], None]
"""Takes method, route, status and seconds of an answered request."""


@dataclass(frozen=True, slots=True)
class GateSettings:
    """What an operator says about requests as such."""

    version: str
    limits: Limits = field(default_factory=Limits)
    secure_cookies: bool = False
    same_site: str = "lax"
    trusted_headers: Sequence[str] = ()
    trusted_origins: Sequence[str] = ()
    redirect_to: str = ""
    """URL that requests for another scheme or host are sent to; empty for none."""
    transport_security: str = ""
    """Value of the Strict-Transport-Security header; empty for none."""
    host_prefix: bool = False
    """Name the session cookie `__Host-…`, and believe no other."""
    any_origin: bool = False
    """Let pages of any origin read answers."""


class Gate:
    """The outermost ASGI application."""

    def __init__(
        self, app: ASGIApp, sessions: Sessions, clock: Clock, settings: GateSettings, observe: Observe
    ) -> None:
        self._app = app
        self._sessions = sessions
        self._clock = clock
        self._settings = settings
        self._observe = observe
        self._counter = Counter(settings.limits)
        self._trusted = [ipaddress.ip_network(origin, strict=False) for origin in settings.trusted_origins]
        self._headers = [
            (b"x-coder-build-version", settings.version.encode()),
            (b"x-content-type-options", b"nosniff"),
        ]
        if settings.transport_security:
            self._headers.append((b"strict-transport-security", settings.transport_security.encode()))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        path = scope["path"]
        if "//" in path:
            scope["path"] = path = _SLASHES.sub("/", path)
        if self._settings.host_prefix:
            scope["headers"] = auth.without_prefix(scope["headers"])
        headers = auth.headers_of(scope)
        exchange = Exchange(ip_address=self._client_ip(scope, headers))
        attach(scope, exchange)
        answered = _Answer(scope, exchange, send, self._headers, self._new_cookie(path, headers))
        answered.any_origin = self._settings.any_origin
        started = self._clock.monotonic()
        try:
            if target := self._elsewhere(scope, headers):
                await answered.refuse(307, f"Use {target}", {"Location": target})
                return
            if self._settings.any_origin and cors.is_preflight(_method(scope, ""), headers):
                await answered.refuse(200, "", cors.permission(headers))
                return
            if path.startswith(("/api/", "/external-auth", "/@")):
                await self._identify(scope, exchange)
                if await self._refused(scope, exchange, headers, answered):
                    return
            await self._app(scope, receive, answered)
        finally:
            took = self._clock.monotonic() - started
            self._observe(_method(scope, "WS"), _route(scope), answered.status, took)
            log.debug(
                "request.answered",
                method=_method(scope, "WS"),
                path=path,
                status=answered.status,
                took_ms=round(took * 1000, 2),
                ip=exchange.ip_address,
                request_id=str(exchange.request_id),
            )

    async def _identify(self, scope: Scope, exchange: Exchange) -> None:
        """Find out who asks; a bad credential matters only to routes that need one."""
        exchange.token = auth.find_token(scope)
        if not exchange.token or auth.is_agent_token(exchange.token):
            return
        try:
            exchange.session = await self._sessions.authenticate(exchange.token, exchange.ip_address)
        except WarrenError as error:
            exchange.refusal = error

    async def _refused(
        self, scope: Scope, exchange: Exchange, headers: Mapping[bytes, bytes], answered: _Answer
    ) -> bool:
        method, path = _method(scope, "GET"), scope["path"]
        bypass = headers.get(BYPASS, b"").lower() in (b"true", b"1", b"t") and exchange.session is not None
        if bypass and exchange.session is not None and not exchange.session.actor.has_site_role("owner"):
            text = '"X-Coder-Bypass-Ratelimit" provided but user is not owner'
            await answered.refuse(428, text, {})
            return True
        if not bypass:
            caller = str(exchange.session.actor.user_id) if exchange.session else exchange.ip_address or ""
            verdict = self._counter.count(caller, method, path.rstrip("/"), self._clock.monotonic())
            if verdict is not None and not verdict.allowed:
                await answered.refuse(429, _limited(verdict), _limit_headers(verdict), json=True)
                return True
        if not self._proven(scope, method, headers):
            await answered.refuse(400, csrf.FAILED, {})
            return True
        return False

    def _proven(self, scope: Scope, method: str, headers: Mapping[bytes, bytes]) -> bool:
        cookies = auth.cookies_of(headers)
        query_token = auth.query_of(scope).get(auth.COOKIE, "")
        if not csrf.needs_proof(method, scope["path"], headers, query_token, cookies.get(auth.COOKIE)):
            return True
        return csrf.proves(headers.get(csrf.HEADER, b"").decode("latin-1"), cookies.get(csrf.COOKIE, ""))

    def _new_cookie(self, path: str, headers: Mapping[bytes, bytes]) -> bytes | None:
        """Make the CSRF cookie that a browser will need, once."""
        if not path.startswith("/api/") or csrf.COOKIE in auth.cookies_of(headers):
            return None
        secure = "; Secure" if self._settings.secure_cookies else ""
        same_site = self._settings.same_site.capitalize()
        return f"{csrf.COOKIE}={csrf.new_cookie()}; Path=/; HttpOnly{secure}; SameSite={same_site}".encode()

    def _elsewhere(self, scope: Scope, headers: Mapping[bytes, bytes]) -> str:
        """Tell where a request is to go instead; empty where it is right here.

        Only requests: a WebSocket's client would not follow, and a probe of the load balancer knows no name.
        """
        wanted = self._settings.redirect_to
        if not wanted or scope["type"] != "http" or scope["path"] == "/healthz":
            return ""
        scheme, _, host = wanted.partition("://")
        came_by = scope["scheme"]
        client = scope["client"]
        if client and self._is_trusted(client[0]):
            came_by = headers.get(b"x-forwarded-proto", b"").decode("latin-1") or came_by
        if headers.get(b"host", b"").decode("latin-1").lower() == host.partition("/")[0].lower() and came_by == scheme:
            return ""
        # The raw path, so that what was escaped stays so, with no line break to break out of the header.
        path = "/" + scope["raw_path"].decode("latin-1").lstrip("/")
        query = scope["query_string"].decode("latin-1")
        return wanted + path + (f"?{query}" if query else "")

    def _client_ip(self, scope: Scope, headers: Mapping[bytes, bytes]) -> str | None:
        client = scope["client"]
        address = client[0] if client else None
        if address is None or not self._is_trusted(address):
            return address
        for name in self._settings.trusted_headers:
            if value := headers.get(name.lower().encode(), b"").decode("latin-1"):
                found = value.split(",")[0].strip()
                if _is_address(found):
                    return found
        return address

    def _is_trusted(self, address: str) -> bool:
        return _is_address(address) and any(ipaddress.ip_address(address) in network for network in self._trusted)


class _Answer:
    """The `send` of one exchange: adds headers, and turns the refusal of a WebSocket into a real answer."""

    def __init__(
        self,
        scope: Scope,
        exchange: Exchange,
        send: Send,
        headers: Sequence[tuple[bytes, bytes]],
        cookie: bytes | None,
    ) -> None:
        self._scope = scope
        self._exchange = exchange
        self._send = send
        self._headers = headers
        self._cookie = cookie
        self._accepted = scope["type"] != "websocket"
        self.status = 0
        self.any_origin = False

    async def __call__(self, message: Message) -> None:
        """Pass a message on."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message.get("headers", ()), *self._headers]
            if self.any_origin:
                message["headers"] += cors.added(message["headers"])
            if self._cookie is not None:
                message["headers"].append((b"set-cookie", self._cookie))
        elif message["type"] == "websocket.accept":
            self._accepted = True
            self.status = 101
            message["headers"] = [*message.get("headers", ()), *self._headers]
        elif message["type"] == "websocket.close" and not self._accepted:
            await self._deny(self._exchange.error)
            return
        await self._send(message)

    async def _deny(self, error: Exception | None) -> None:
        if error is None:
            await self.refuse(403, "", {})
            return
        response = answer(error, self._scope)
        body = response.render(response.content, response.media_type or "")
        await self._respond(
            response.status_code or 500,
            body,
            {"content-type": str(response.media_type or "text/plain"), **response.headers},
        )

    async def refuse(self, status: int, text: str, headers: Mapping[str, str], *, json: bool = False) -> None:
        """Answer instead of the route."""
        body = b'{"message":"%s"}\n' % text.encode() if json else text.encode() + b"\n"
        kind = "application/json; charset=utf-8" if json else "text/plain; charset=utf-8"
        await self._respond(status, body, {"content-type": kind, **headers})

    async def _respond(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.status = status
        lines = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        lines += [(b"content-length", str(len(body)).encode()), *self._headers]
        if self.any_origin:
            lines += cors.added(lines)
        if self._scope["type"] == "websocket":
            # ASGI's "WebSocket Denial Response" extension, which uvicorn has.
            await self._send({"type": "websocket.http.response.start", "status": status, "headers": lines})  # pyright: ignore[reportArgumentType]
            await self._send({"type": "websocket.http.response.body", "body": body, "more_body": False})  # pyright: ignore[reportArgumentType]
        else:
            await self._send({"type": "http.response.start", "status": status, "headers": lines})
            await self._send({"type": "http.response.body", "body": body, "more_body": False})


def _method(scope: Scope, of_socket: str) -> str:
    """Tell the method of a request; a WebSocket has none."""
    return scope["method"] if scope["type"] == "http" else of_socket


def _route(scope: Scope) -> str:
    """Tell the pattern of the route that was taken, which Litestar notes; empty when there was none."""
    return str(scope.get("path_template", ""))  # pyright: ignore[reportUnknownMemberType]


def _limited(verdict: Verdict) -> str:
    return f"You've been rate limited for sending more than {verdict.limit} requests in 1m0s."


def _limit_headers(verdict: Verdict) -> Mapping[str, str]:
    return {
        "X-RateLimit-Limit": str(verdict.limit),
        "X-RateLimit-Remaining": str(verdict.remaining),
        "X-RateLimit-Reset": str(verdict.reset_seconds),
        "Retry-After": str(verdict.reset_seconds),
    }


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
