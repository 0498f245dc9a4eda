"""Session tokens: `<id>-<secret>`, of which the database knows the id and a hash of the secret."""

from __future__ import annotations

import hashlib
import hmac
import string
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from warren.errors import Unauthenticated

ID_LENGTH = 10
SECRET_LENGTH = 22
ALPHABET = string.digits + string.ascii_letters
SLIDE_AFTER = timedelta(hours=1)  # a session in use is extended, but not written at every request
SIGNED_OUT = "You are signed out or your session has expired. Please sign in again to continue."


@dataclass(frozen=True, slots=True)
class Key:
    """A session or token as stored."""

    id: str
    hashed_secret: bytes
    user_id: UUID
    login_type: str
    token_name: str
    scopes: Sequence[str]
    allow_list: Sequence[str]
    lifetime_seconds: int
    last_used: datetime
    expires_at: datetime
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that is to be stored, and the token that its owner gets."""

    token: str
    key: Key


def refused(detail: str) -> Unauthenticated:
    """Make the error of a credential that is not accepted."""
    return Unauthenticated(SIGNED_OUT, detail=detail)


def split(token: str) -> tuple[str, str]:
    """Cut a token into id and secret.

    Raises:
        Unauthenticated: it is no token.
    """
    parts = token.split("-")
    if len(parts) != 2:
        raise refused(f"Invalid API key format: incorrect amount of API key parts, expected 2 got {len(parts)}")
    key_id, secret = parts
    if len(key_id) != ID_LENGTH:
        raise refused(f"Invalid API key format: invalid API key ID length, expected {ID_LENGTH} got {len(key_id)}")
    if len(secret) != SECRET_LENGTH:
        raise refused(
            f"Invalid API key format: invalid API key secret length, expected {SECRET_LENGTH} got {len(secret)}"
        )
    return key_id, secret


def hashed(secret: str) -> bytes:
    """Hash a secret; it is long and random, so that a plain hash is enough."""
    return hashlib.sha256(secret.encode()).digest()


def matches(secret: str, hashed_secret: bytes) -> bool:
    """Compare in constant time."""
    return hmac.compare_digest(hashed(secret), hashed_secret)


def text(random: bytes) -> tuple[str, str]:
    """Spell an id and a secret with random bytes, one for each character.

    256 is no multiple of 62, so the first eight letters come up a quarter more often: 5.94 instead of 5.95 bits each.
    """
    assert len(random) == ID_LENGTH + SECRET_LENGTH
    letters = "".join(ALPHABET[byte % len(ALPHABET)] for byte in random)
    return letters[:ID_LENGTH], letters[ID_LENGTH:]


@dataclass(frozen=True, slots=True)
class Use:
    """What to write when a key is used."""

    expires_at: datetime


def use(key: Key, now: datetime, *, sliding: bool) -> Use | None:
    """Decide what to write when a key is used; `None` when it was written lately."""
    lifetime = timedelta(seconds=key.lifetime_seconds)
    expires_at = key.expires_at
    if sliding and key.login_type != "token" and key.expires_at - now <= lifetime - SLIDE_AFTER:
        expires_at = now + lifetime
    if expires_at == key.expires_at and now - key.last_used < SLIDE_AFTER:
        return None
    return Use(expires_at)
