"""Credentials: where a request carries them, and whom they stand for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl
from uuid import UUID

from litestar.types import Scope

from warren.api.exchange import exchange_of
from warren.authz.policy import Actor
from warren.domain import token as tokens
from warren.errors import Unauthenticated
from warren.services.sessions import Session

COOKIE = "coder_session_token"
HOST_PREFIX = "__Host-"
"""A browser takes such a cookie only from the very host, over HTTPS, for all paths."""
HEADER = b"coder-session-token"
NO_CREDENTIAL = f'Cookie "{COOKIE}" or query parameter must be provided.'


def headers_of(scope: Scope) -> Mapping[bytes, bytes]:
    """Read the headers of a request; of one sent twice the last counts."""
    return dict(scope["headers"])


def cookies_of(headers: Mapping[bytes, bytes]) -> Mapping[str, str]:
    """Read the cookies of a request; malformed ones count as none."""
    if b"cookie" not in headers:
        return {}
    try:
        return {name: morsel.value for name, morsel in SimpleCookie(headers[b"cookie"].decode("latin-1")).items()}
    except CookieError:
        return {}


def without_prefix(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Take the prefix from the session cookie; one without it, which any neighbouring host may have set, is dropped."""
    return [(name, _unprefixed(value) if name == b"cookie" else value) for name, value in headers]


def _unprefixed(cookies: bytes) -> bytes:
    plain, prefixed = f"{COOKIE}=".encode(), f"{HOST_PREFIX}{COOKIE}=".encode()
    pairs = [pair.strip() for pair in cookies.split(b";")]
    kept = [pair for pair in pairs if not pair.startswith(plain)]
    return b"; ".join(pair.removeprefix(HOST_PREFIX.encode()) if pair.startswith(prefixed) else pair for pair in kept)


def query_of(scope: Scope) -> Mapping[str, str]:
    """Read the query parameters of a request; of one sent twice the last counts."""
    raw = scope["query_string"]
    return dict(parse_qsl(raw.decode("latin-1"), keep_blank_values=True)) if raw else {}


def find_token(scope: Scope) -> str:
    """Find the session or agent token of a request: the first place that has one wins."""
    headers = headers_of(scope)
    query = query_of(scope)
    bearer = headers.get(b"authorization", b"").decode("latin-1")
    return (
        cookies_of(headers).get(COOKIE, "")
        or query.get(COOKIE, "")
        or headers.get(HEADER, b"").decode("latin-1")
        or (bearer[7:].strip() if bearer[:7].lower() == "bearer " else "")
        or query.get("access_token", "")
    )


def is_agent_token(token: str) -> bool:
    """Say whether a token has the form of an agent's."""
    return len(token) == 36 and token.count("-") == 4


def session(scope: Scope) -> Session:
    """Give the session of a request.

    Raises:
        Unauthenticated: it has none that is valid.
        Unavailable: the database could not be asked.
    """
    exchange = exchange_of(scope)
    if exchange.session is None:
        raise exchange.refusal or tokens.refused(NO_CREDENTIAL)
    return exchange.session


def actor(scope: Scope) -> Actor:
    """Give the user who asks; the dependency `actor` of handlers."""
    return session(scope).actor


def agent_token(scope: Scope) -> UUID:
    """Give the token of the agent that asks; whose it is, is for the service to find out.

    Raises:
        Unauthenticated: there is none.
    """
    token = exchange_of(scope).token
    if not token:
        raise Unauthenticated(f'Cookie "{COOKIE}" must be provided.')
    try:
        return UUID(token)
    except ValueError as error:
        raise Unauthenticated(
            "Workspace agent token invalid.", detail=f"An agent token must be a valid UUIDv4. (len {len(token)})"
        ) from error
