"""The session token that a workspace acts with for its owner: one for each start, taken back by the next build."""

from __future__ import annotations

import hashlib
import secrets
import string
from datetime import datetime, timedelta
from uuid import UUID

from psycopg import AsyncConnection

from warren.domain.build import Transition
from warren.storage import build_tokens

_ALPHABET = string.digits + string.ascii_letters


async def replace(
    db: AsyncConnection,
    *,
    owner_id: UUID,
    workspace_id: UUID,
    transition: Transition,
    lifetime: timedelta,
    now: datetime,
) -> str:
    """Take back the token of the last build and make one for a start; none for a stop or a delete."""
    name = f"{owner_id}_{workspace_id}_session_token"
    await build_tokens.delete(db, owner_id, name)
    if transition is not Transition.START:
        return ""
    key_id, secret = _random(10), _random(22)
    await build_tokens.insert(
        db,
        key_id=key_id,
        hashed_secret=hashlib.sha256(secret.encode()).digest(),
        owner_id=owner_id,
        name=name,
        lifetime=lifetime,
        now=now,
    )
    return f"{key_id}-{secret}"


def _random(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))
