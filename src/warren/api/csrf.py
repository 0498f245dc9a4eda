"""Cross-site request forgery: a request that a browser sends with the cookie alone must prove where it comes from.

The proof is the double-submit cookie: `csrf_token` holds a secret, the header `X-CSRF-TOKEN` the same secret under a
one-time mask, which another site can neither read nor set.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
import secrets
from collections.abc import Mapping

COOKIE = "csrf_token"
HEADER = b"x-csrf-token"
LENGTH = 32
_SAFE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
_EXEMPT = re.compile(
    r"/api/v2/(csp/reports$|users/first$|workspaceagents/|workspaceproxies/me/|scim/|organizations/[^/]+/provisionerdaemons/)"
    r"|/derp|/scim/"
)
FAILED = (
    "Something is wrong with your CSRF token. Please refresh the page. If this error persists, try clearing your"
    " cookies."
)


def needs_proof(
    method: str, path: str, headers: Mapping[bytes, bytes], query_token: str, session_cookie: str | None
) -> bool:
    """Say whether a request could have been forged by another site."""
    if method in _SAFE or not path.startswith(("/api", "/oauth2/authorize")) or _EXEMPT.match(path):
        return False
    if session_cookie is None:
        return False
    if session_cookie in (headers.get(b"coder-session-token", b"").decode("latin-1"), query_token):
        return False
    if b"coder-provisioner-daemon-key" in headers or b"coder-provisioner-daemon-psk" in headers:
        return False
    return not headers.get(b"authorization", b"").lower().startswith(b"bearer ")


def new_cookie() -> str:
    """Make the value of a cookie."""
    return base64.b64encode(secrets.token_bytes(LENGTH)).decode()


def masked(cookie: str) -> str:
    """Make a token for the header: a mask, and the secret under it."""
    secret = _decoded(cookie)
    mask = secrets.token_bytes(LENGTH)
    return base64.b64encode(mask + bytes(a ^ b for a, b in zip(mask, secret, strict=True))).decode()


def proves(token: str, cookie: str) -> bool:
    """Say whether the token of the header belongs to the cookie."""
    try:
        secret, sent = _decoded(cookie), base64.b64decode(token, validate=True)
    except (ValueError, binascii.Error):
        return False
    if len(sent) != 2 * LENGTH:
        return False
    found = bytes(a ^ b for a, b in zip(sent[:LENGTH], sent[LENGTH:], strict=True))
    return hmac.compare_digest(found, secret)


def _decoded(cookie: str) -> bytes:
    secret = base64.b64decode(cookie, validate=True)
    if len(secret) != LENGTH:
        raise ValueError("the cookie has the wrong length")
    return secret
