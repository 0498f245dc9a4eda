"""Tokens by which a client keeps its peer id when it connects again.

A compact JWS (RFC 7515) by HS512, whose `kid` is the number of the signing key. Keys are in the database, so that any
replica can verify; a new one is made every 30 days.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import OctKey
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from warren.clock import Clock
from warren.errors import Unauthenticated, Violation
from warren.storage import crypto_keys
from warren.storage.crypto_keys import CryptoKey

FEATURE = "tailnet_resume"
LIFETIME = timedelta(hours=24)
REFRESH_IN = LIFETIME / 2
KEY_LIFETIME = timedelta(days=30)
OLD_KEY_LIFETIME = LIFETIME + timedelta(hours=1)
KEY_BYTES = 64
ALGORITHM = "HS512"


@dataclass(frozen=True, slots=True)
class ResumeToken:
    """A token, and until when it counts."""

    token: str
    expires_at: datetime


class ResumeTokens:
    """Issues and verifies resume tokens."""

    def __init__(self, pool: AsyncConnectionPool, clock: Clock) -> None:
        self._pool, self._clock = pool, clock

    async def issue(self, peer_id: UUID) -> ResumeToken:
        """Make a token for a peer id."""
        now = self._clock.now()
        key = await self._signing_key(now)
        expires_at = now + LIFETIME
        claims = json.dumps({"sub": str(peer_id), "exp": int(expires_at.timestamp())})
        header = {"alg": ALGORITHM, "kid": str(key.sequence)}
        token = jws.serialize_compact(header, claims.encode(), OctKey.import_key(key.secret), algorithms=[ALGORITHM])
        return ResumeToken(token, expires_at)

    async def verify(self, token: str) -> UUID | None:
        """Return the peer id of a token; None for one of the old form, which names no key.

        Raises:
            Unauthenticated: it is forged, expired, or of a key that is gone.
        """
        try:
            header = jws.extract_compact(token.encode()).headers()
        except (JoseError, ValueError) as error:
            raise _invalid(str(error)) from error
        if "kid" not in header:
            return None
        now = self._clock.now()
        key = await self._key(str(header["kid"]), now)
        try:
            payload = jws.deserialize_compact(token, OctKey.import_key(key.secret), algorithms=[ALGORITHM]).payload
            claims = json.loads(payload)
            peer_id, expires = UUID(claims["sub"]), int(claims["exp"])
        except (JoseError, ValueError, KeyError, TypeError) as error:
            raise _invalid(str(error)) from error
        if expires <= now.timestamp():
            raise _invalid("the token has expired")
        return peer_id

    async def _key(self, kid: str, now: datetime) -> CryptoKey:
        async with self._pool.connection() as db:
            keys = await crypto_keys.list_of_feature(db, FEATURE)
        found = next((key for key in keys if str(key.sequence) == kid and _counts(key, now)), None)
        if found is None:
            raise _invalid("the token was signed with an unknown key")
        return found

    async def _signing_key(self, now: datetime) -> CryptoKey:
        async with self._pool.connection() as db:
            newest = await _newest(db)
            if newest is None or now - newest.starts_at >= KEY_LIFETIME:
                newest = await _rotate(db, now)
            return newest


def _counts(key: CryptoKey, now: datetime) -> bool:
    return key.deletes_at is None or key.deletes_at > now


async def _newest(db: AsyncConnection) -> CryptoKey | None:
    return next(iter(await crypto_keys.list_of_feature(db, FEATURE)), None)


async def _rotate(db: AsyncConnection, now: datetime) -> CryptoKey:
    """Make a new key unless another replica just did."""
    await crypto_keys.lock(db, FEATURE)
    newest = await _newest(db)
    if newest is not None and now - newest.starts_at < KEY_LIFETIME:
        return newest
    key = CryptoKey(1 if newest is None else newest.sequence + 1, secrets.token_bytes(KEY_BYTES), now, None)
    await crypto_keys.insert(db, FEATURE, key)
    await crypto_keys.expire(db, FEATURE, older_than=key.sequence, deletes_at=now + OLD_KEY_LIFETIME)
    await crypto_keys.delete_expired(db, FEATURE, now)
    return key


def _invalid(reason: str) -> Unauthenticated:
    violation = Violation("resume_token", "Invalid resume token")
    return Unauthenticated("Invalid resume token", detail=reason, violations=[violation])
