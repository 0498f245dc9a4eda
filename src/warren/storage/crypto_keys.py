"""Secrets that all replicas sign with, by feature and number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from psycopg import AsyncConnection
from psycopg.rows import class_row


@dataclass(frozen=True, slots=True)
class CryptoKey:
    """A secret. It signs from `starts_at` until a newer one does, and verifies until `deletes_at`."""

    sequence: int
    secret: bytes
    starts_at: datetime
    deletes_at: datetime | None


async def list_of_feature(db: AsyncConnection, feature: str) -> Sequence[CryptoKey]:
    """List the keys of a feature, newest first."""
    async with db.cursor(row_factory=class_row(CryptoKey)) as cursor:
        await cursor.execute(
            """
            SELECT sequence, secret, starts_at, deletes_at FROM crypto_keys
            WHERE feature = %s AND secret IS NOT NULL ORDER BY sequence DESC""",
            (feature,),
        )
        return await cursor.fetchall()


async def lock(db: AsyncConnection, feature: str) -> None:
    """Keep other replicas from changing the keys of a feature until the transaction ends."""
    await db.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (f"crypto_keys:{feature}",))


async def insert(db: AsyncConnection, feature: str, key: CryptoKey) -> None:
    """Store a new key."""
    await db.execute(
        "INSERT INTO crypto_keys (feature, sequence, secret, starts_at, deletes_at) VALUES (%s, %s, %s, %s, %s)",
        (feature, key.sequence, key.secret, key.starts_at, key.deletes_at),
    )


async def expire(db: AsyncConnection, feature: str, *, older_than: int, deletes_at: datetime) -> None:
    """Have the keys before number `older_than` end at a time, unless they already do."""
    await db.execute(
        "UPDATE crypto_keys SET deletes_at = %s WHERE feature = %s AND sequence < %s AND deletes_at IS NULL",
        (deletes_at, feature, older_than),
    )


async def delete_expired(db: AsyncConnection, feature: str, now: datetime) -> None:
    """Forget keys whose time is over; the newest number stays known."""
    await db.execute("UPDATE crypto_keys SET secret = NULL WHERE feature = %s AND deletes_at <= %s", (feature, now))
