"""What the words in a path stand for: users and organizations by id, by name, or by a word such as `me`."""

from __future__ import annotations

from uuid import UUID

from psycopg_pool import AsyncConnectionPool

from warren.authz.policy import Action, Actor, Object
from warren.errors import NotFound
from warren.storage import organizations, users
from warren.storage.organizations import OrganizationRef


class Lookups:
    """Find users and organizations."""

    def __init__(self, pool: AsyncConnectionPool) -> None:
        self._pool = pool

    async def organization(self, actor: Actor, word: str) -> UUID:
        """Find the organization that a word stands for.

        Raises:
            NotFound: there is none, or the caller may not see it.
        """
        async with self._pool.connection() as db:
            found = await organizations.find_ref(db, word)
        if found is None or not actor.may(Action.READ, Object("organization", id=found.id, org_id=found.id)):
            raise NotFound
        return found.id

    async def any_organization(self, word: str) -> OrganizationRef:
        """Find the organization that a word stands for, for one who proves who it is in another way.

        Raises:
            NotFound: there is none.
        """
        async with self._pool.connection() as db:
            found = await organizations.find_ref(db, word)
        if found is None:
            raise NotFound
        return found

    async def owner(self, actor: Actor, word: str) -> UUID:
        """Find the user that a word stands for; who may see that user's workspaces need not be able to see the user.

        Raises:
            NotFound: there is none.
        """
        if word == "me":
            return actor.user_id
        async with self._pool.connection() as db:
            found = await users.find_id(db, word)
        if found is None:
            raise NotFound
        return found
