"""Organizations and their members."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import psycopg
import structlog
from psycopg import sql
from psycopg_pool import AsyncConnectionPool

from warren.authz.filter import Columns, readable
from warren.authz.policy import FORBIDDEN_DETAIL, Action, Actor, Object
from warren.authz.roles import ASSIGNABLE, org_roles
from warren.clock import Clock
from warren.domain.organization import Member, Organization
from warren.errors import Forbidden, Invalid, NotFound
from warren.services.lookups import Lookups
from warren.services.users import Users
from warren.storage import organizations
from warren.storage.users import Page

log = structlog.get_logger()

COLUMNS = Columns(id=sql.SQL("o.id"), org_id=sql.SQL("o.id"))
MEMBER_COLUMNS = Columns(id=sql.SQL("m.user_id"), org_id=sql.SQL("m.organization_id"), owner_id=sql.SQL("m.user_id"))


def member_object(organization_id: UUID, user_id: UUID) -> Object:
    """See a membership as what something is done to."""
    return Object("organization_member", id=user_id, org_id=organization_id, owner_id=user_id)


class Organizations:
    """Use cases around organizations."""

    def __init__(self, pool: AsyncConnectionPool, clock: Clock, lookups: Lookups, users: Users) -> None:
        self._pool = pool
        self._clock = clock
        self._lookups = lookups
        self._users = users

    async def list(self, actor: Actor) -> Sequence[Organization]:
        """List the organizations that the caller may see."""
        async with self._pool.connection() as db:
            return await organizations.list_readable(db, readable(actor, "organization", COLUMNS))

    async def get(self, actor: Actor, word: str) -> Organization:
        """Read the organization that a word stands for."""
        organization_id = await self._lookups.organization(actor, word)
        async with self._pool.connection() as db:
            return await organizations.get(db, organization_id)

    async def list_of_user(self, actor: Actor, word: str) -> Sequence[Organization]:
        """List the organizations of a user that the caller may see."""
        user = await self._users.find(actor, word)
        async with self._pool.connection() as db:
            return await organizations.list_of_user(db, readable(actor, "organization", COLUMNS), user.id)

    async def members(self, actor: Actor, word: str, page: Page) -> tuple[Sequence[Member], int]:
        """List the members of an organization that the caller may see, and count all of them."""
        organization_id = await self._lookups.organization(actor, word)
        async with self._pool.connection() as db:
            return await organizations.list_members(
                db, readable(actor, "organization_member", MEMBER_COLUMNS), organization_id, page
            )

    async def member(self, actor: Actor, word: str, user_word: str) -> Member:
        """Read a membership."""
        organization_id = await self._lookups.organization(actor, word)
        user_id = await self._lookups.owner(actor, user_word)
        async with self._pool.connection() as db:
            found = await organizations.get_member(db, organization_id, user_id)
        if not actor.may(Action.READ, member_object(organization_id, user_id)):
            raise NotFound
        return found

    async def add_member(self, actor: Actor, word: str, user_word: str) -> Member:
        """Make a user a member.

        Raises:
            Invalid: it is one.
        """
        organization_id = await self._lookups.organization(actor, word)
        user = await self._users.find(actor, user_word)
        actor.require(Action.CREATE, member_object(organization_id, user.id))
        async with self._pool.connection() as db:
            try:
                await organizations.insert_member(db, organization_id, user.id, [], self._clock.now())
            except psycopg.errors.UniqueViolation as error:
                raise Invalid(f"{user.username} is already a member of the organization.") from error
            return await organizations.get_member(db, organization_id, user.id)

    async def remove_member(self, actor: Actor, word: str, user_word: str) -> None:
        """End a membership.

        Raises:
            Invalid: one's own.
        """
        member = await self.member(actor, word, user_word)
        if member.user_id == actor.user_id:
            raise Invalid("cannot remove self from an organization")
        actor.require(Action.DELETE, member_object(member.organization_id, member.user_id))
        async with self._pool.connection() as db:
            await organizations.delete_member(db, member.organization_id, member.user_id)

    async def set_member_roles(self, actor: Actor, word: str, user_word: str, roles: Sequence[str]) -> Member:
        """Replace the roles of a member.

        Raises:
            Invalid: unknown roles, or one's own.
            Forbidden: the caller may not grant or take one of them.
        """
        member = await self.member(actor, word, user_word)
        if member.user_id == actor.user_id:
            raise Invalid("You cannot change your own organization roles.")
        for role in roles:
            if role not in org_roles():
                raise Invalid(f'"{role}" is not a supported role')
        changed = set(roles) ^ set(member.roles)
        if changed and not changed <= assignable(actor, member.organization_id):
            raise Forbidden("Forbidden.", detail=FORBIDDEN_DETAIL)
        async with self._pool.connection() as db:
            await organizations.set_member_roles(
                db, member.organization_id, member.user_id, sorted(set(roles)), self._clock.now()
            )
            return await organizations.get_member(db, member.organization_id, member.user_id)

    async def check_roles_readable(self, actor: Actor, word: str) -> UUID:
        """Find an organization whose roles the caller may list."""
        organization_id = await self._lookups.organization(actor, word)
        actor.require(Action.READ, Object("assign_org_role", org_id=organization_id))
        return organization_id


def assignable(actor: Actor, organization_id: UUID) -> frozenset[str]:
    """List the roles that an actor may grant in an organization."""
    thing = Object("assign_org_role", org_id=organization_id)
    if not (actor.may(Action.ASSIGN, thing) and actor.may(Action.UNASSIGN, thing)):
        return frozenset()
    roles = [*actor.site_roles, *actor.org_roles.get(organization_id, ())]
    return frozenset(name for role in roles for name in ASSIGNABLE.get(role.name, ()))
