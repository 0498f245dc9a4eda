"""What a caller may do to things that it names by id: their owners, organizations and grants are read here."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from warren.authz.policy import Actor, Object
from warren.errors import WarrenError
from warren.storage import templates, users, workspaces


class Authcheck:
    """Answers "may I?"."""

    def __init__(self, pool: AsyncConnectionPool) -> None:
        self._pool = pool

    async def may(self, actor: Actor, action: str, asked: Object) -> bool:
        """Say whether the actor may do `action`; what cannot be read, it may not."""
        if not isinstance(asked.id, UUID):
            return actor.may(action, asked)
        try:
            async with self._pool.connection() as db:
                found = await _loaded(db, asked, asked.id)
        except WarrenError:
            return False
        return found is not None and actor.may(action, found)


async def _loaded(db: AsyncConnection, asked: Object, thing_id: UUID) -> Object | None:
    match asked.type:
        case "workspace" | "workspace_dormant":
            workspace = await workspaces.get(db, thing_id)
            return replace(
                asked,
                org_id=workspace.organization_id,
                owner_id=workspace.owner_id,
                acl_users=workspace.user_acl,
                acl_groups=workspace.group_acl,
            )
        case "template":
            template = await templates.get(db, thing_id)
            return replace(
                asked,
                org_id=template.organization_id,
                owner_id=None,
                acl_users=template.user_acl,
                acl_groups=template.group_acl,
            )
        case "user":
            user = await users.get(db, thing_id)
            return replace(asked, org_id=None, owner_id=user.id)
        case _:
            return asked
