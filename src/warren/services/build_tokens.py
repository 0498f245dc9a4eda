"""The session token that a workspace acts with for its owner: one for each start, taken back by the next build."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

from psycopg import AsyncConnection

from warren.domain.build import Transition
from warren.domain.user import LoginType
from warren.services.sessions import new_key
from warren.storage import api_keys


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
    await api_keys.delete_token(db, owner_id, name)
    if transition is not Transition.START:
        return ""
    created = new_key(user_id=owner_id, login_type=LoginType.TOKEN, lifetime=lifetime, now=now, name=name)
    await api_keys.insert(db, created.key, None)
    return created.token
