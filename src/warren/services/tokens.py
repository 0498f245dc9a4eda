"""Sessions and tokens as things that users make, see and end."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import psycopg
from psycopg import sql
from psycopg_pool import AsyncConnectionPool

from warren.authz import scopes
from warren.authz.filter import Columns, readable
from warren.authz.policy import Action, Actor, Object
from warren.clock import Clock
from warren.domain.token import Key
from warren.domain.user import LoginType, User
from warren.errors import Conflict, Invalid, NotFound, Violation
from warren.services.sessions import SessionSettings, new_key
from warren.services.users import Users
from warren.storage import api_keys

NEVER = datetime(1970, 1, 1, tzinfo=UTC)
COLUMNS = Columns(id=sql.SQL("k.id"), owner_id=sql.SQL("k.user_id"))


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token that is wanted; a lifetime of nothing means the default."""

    name: str = ""
    lifetime: timedelta = timedelta()
    scopes: Sequence[str] = ()
    allow_list: Sequence[str] = ()


def key_object(key: Key) -> Object:
    """See a key as what something is done to."""
    return Object("api_key", id=key.id, owner_id=key.user_id)


class Tokens:
    """Use cases around keys."""

    def __init__(self, pool: AsyncConnectionPool, clock: Clock, users: Users, settings: SessionSettings) -> None:
        self._pool = pool
        self._clock = clock
        self._users = users
        self._settings = settings

    async def create_session(self, actor: Actor, word: str, ip_address: str | None) -> str:
        """Make a key for a program that signs in for a user; returns its token."""
        user = await self._users.find(actor, word)
        actor.require(Action.CREATE, Object("api_key", owner_id=user.id))
        lifetime = self._settings.default_token_lifetime
        created = new_key(user_id=user.id, login_type=LoginType.PASSWORD, lifetime=lifetime, now=self._clock.now())
        async with self._pool.connection() as db:
            await api_keys.insert(db, created.key, ip_address)
        return created.token

    async def create(self, actor: Actor, word: str, wanted: NewToken, ip_address: str | None) -> str:
        """Make a token; returns it, the only time.

        Raises:
            Conflict: the name is in use.
            Invalid: no such scope, or too long a life.
        """
        user = await self._users.find(actor, word)
        actor.require(Action.CREATE, Object("api_key", owner_id=user.id))
        longest = self.longest(user)
        if wanted.lifetime > longest or wanted.lifetime < timedelta():
            hours = int(longest.total_seconds() // 3600)
            raise Invalid(
                "Failed to validate create API key request.", detail=f"lifetime must be less than {hours}h0m0s"
            )
        try:
            names = [scopes.parse(name) for name in wanted.scopes] or [scopes.ALL]
            allowed = scopes.normalise(scopes.parse_allow_entry(entry) for entry in wanted.allow_list)
        except Invalid as error:
            raise Invalid("Failed to create API key.", detail=error.detail) from error
        created = new_key(
            user_id=user.id,
            login_type=LoginType.TOKEN,
            lifetime=wanted.lifetime or min(self._settings.default_token_lifetime, longest),
            now=self._clock.now(),
            name=wanted.name or f"token_{secrets.token_hex(4)}",
            scopes=sorted(set(names)),
            allow_list=[str(entry) for entry in allowed],
        )
        async with self._pool.connection() as db:
            try:
                await api_keys.insert(db, replace(created.key, last_used=NEVER), ip_address)
            except psycopg.errors.UniqueViolation as error:
                raise Conflict(
                    f'A token with name "{created.key.token_name}" already exists.',
                    violations=[Violation("name", "This value is already in use and should be unique.")],
                ) from error
        return created.token

    def longest(self, user: User) -> timedelta:
        """Say how long a token of a user may live."""
        return self._settings.max_admin_token_lifetime if "owner" in user.roles else self._settings.max_token_lifetime

    async def longest_of(self, actor: Actor, word: str) -> timedelta:
        """Say how long a token of the user that a word stands for may live."""
        return self.longest(await self._users.find(actor, word))

    async def list(self, actor: Actor, word: str, *, everybody: bool, expired: bool) -> Sequence[tuple[Key, str]]:
        """List tokens with their owners: one user's, or all that the caller may see."""
        user = await self._users.find(actor, word)
        async with self._pool.connection() as db:
            return await api_keys.list_tokens(
                db,
                readable(actor, "api_key", COLUMNS),
                user_id=None if everybody else user.id,
                expired_since=None if expired else self._clock.now(),
            )

    async def get(self, actor: Actor, word: str, key_id: str) -> Key:
        """Read a key by its id."""
        user = await self._users.find(actor, word)
        async with self._pool.connection() as db:
            return _seen(actor, await api_keys.get(db, user.id, key_id))

    async def get_by_name(self, actor: Actor, word: str, name: str) -> Key:
        """Read a token by its name."""
        user = await self._users.find(actor, word)
        async with self._pool.connection() as db:
            return _seen(actor, await api_keys.get_by_name(db, user.id, name))

    async def expire(self, actor: Actor, word: str, key_id: str) -> None:
        """End a key; it is still listed."""
        key = await self.get(actor, word, key_id)
        actor.require(Action.UPDATE, key_object(key))
        async with self._pool.connection() as db:
            await api_keys.expire(db, key.id, self._clock.now())

    async def delete(self, actor: Actor, word: str, key_id: str) -> None:
        """End a key and forget it."""
        key = await self.get(actor, word, key_id)
        actor.require(Action.DELETE, key_object(key))
        async with self._pool.connection() as db:
            await api_keys.delete(db, key.id)


def _seen(actor: Actor, key: Key) -> Key:
    if not actor.may(Action.READ, key_object(key)):
        raise NotFound
    return key
