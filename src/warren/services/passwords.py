"""Hashing of passwords: argon2id, and the hashes of databases that came from upstream."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac

import anyio.to_thread
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

# RFC 9106's second choice with less memory: a login costs 40 ms of one core and 19 MiB.
_HASHER = PasswordHasher(time_cost=2, memory_cost=19456, parallelism=1)
_AT_ONCE = 2  # more logins at a time only make each slower, and the memory adds up

NOBODYS = "$argon2id$v=19$m=19456,t=2,p=1$KdaoaF1YKNjV8cv6u5yrGw$NgVU80M1YcRK2iCoeBSimKpfEPMAOSFDS+w8RGu7xTU"
"""A hash that no password has, to spend the same time on users who do not exist."""


class Passwords:
    """Hashes and compares passwords beside the event loop, a few at a time."""

    def __init__(self) -> None:
        self._limiter = anyio.CapacityLimiter(_AT_ONCE)

    async def hashed(self, password: str) -> str:
        """Hash a password."""
        return await anyio.to_thread.run_sync(_HASHER.hash, password, limiter=self._limiter)

    async def matches(self, password: str, hashed: str) -> bool:
        """Say whether a password is the one that was hashed; nobody's when `hashed` is empty."""
        right = await anyio.to_thread.run_sync(_matches, password, hashed or NOBODYS, limiter=self._limiter)
        return right and bool(hashed)


def outdated(hashed: str) -> bool:
    """Say whether a hash should be replaced when the password is known next."""
    return not hashed.startswith("$argon2") or _HASHER.check_needs_rehash(hashed)


def _matches(password: str, hashed: str) -> bool:
    if hashed.startswith("$pbkdf2-sha256$"):
        return _matches_pbkdf2(password, hashed)
    try:
        return _HASHER.verify(hashed, password)
    except (VerificationError, InvalidHashError):
        return False


def _matches_pbkdf2(password: str, hashed: str) -> bool:
    try:
        _, _, iterations, salt, wanted = hashed.split("$")
        expected = _decoded(wanted)
        found = hashlib.pbkdf2_hmac("sha256", password.encode(), _decoded(salt), int(iterations), len(expected))
    except (ValueError, binascii.Error):
        return False
    return hmac.compare_digest(found, expected)


def _decoded(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
