"""Cross-origin requests: none may be made, unless the operator opens everything for development."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

METHODS = ("GET", "OPTIONS")
HEADERS = ("Accept", "Content-Type", "X-LATENCY-CHECK", "X-CSRF-TOKEN")
_VARY = (b"vary", b"Origin, Access-Control-Request-Method, Access-Control-Request-Headers")
_ANY = (b"access-control-allow-origin", b"*")  # no credentials: browsers send no cookie to such an answer


def is_preflight(method: str, headers: Mapping[bytes, bytes]) -> bool:
    """Say whether a browser asks what it may do, before it does it."""
    return method == "OPTIONS" and b"origin" in headers and b"access-control-request-method" in headers


def permission(headers: Mapping[bytes, bytes]) -> Mapping[str, str]:
    """Answer a browser that asks; without the allowing headers it may not."""
    method = headers.get(b"access-control-request-method", b"").decode("latin-1").upper()
    wanted = headers.get(b"access-control-request-headers", b"").decode("latin-1").lower().split(",")
    known = {name.lower() for name in HEADERS}
    if method not in METHODS or not {name.strip() for name in wanted} <= known | {""}:
        return {}
    return {
        "Access-Control-Allow-Methods": ", ".join(METHODS),
        "Access-Control-Allow-Headers": ", ".join(HEADERS),
    }


def added(headers: Sequence[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Give the headers that let a page of another origin read an answer which does not speak of that itself."""
    return [] if any(name.lower() == _ANY[0] for name, _ in headers) else [_ANY, _VARY]
