"""External provisioner daemons: the keys they sign in with, and who may connect one."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID, uuid4

from psycopg.errors import UniqueViolation
from psycopg_pool import AsyncConnectionPool

from warren.authz.policy import Action, Actor, Object
from warren.clock import Clock
from warren.domain import tags as rules
from warren.errors import Conflict, Forbidden, Invalid, NotFound, Unauthenticated, Violation
from warren.storage import provisioner_daemons, provisioner_keys
from warren.storage.provisioner_daemons import (
    PSK_KEY,
    RESERVED_KEYS,
    USER_KEY,
    ListedDaemon,
    NewDaemon,
)
from warren.storage.provisioner_keys import Key

PROVISIONERS = ("terraform", "echo")
_NAME_LIMIT = 64
_LISTED = 1000


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a daemon that connects shows of itself."""

    actor: Actor | None
    key: str = ""
    psk: str = ""


@dataclass(frozen=True, slots=True)
class Connecting:
    """What a daemon that connects says of itself."""

    name: str
    version: str
    api_version: str
    provisioners: Sequence[str]
    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class KeyDaemons:
    """A key and the daemons that signed in with it."""

    key: Key
    daemons: Sequence[ListedDaemon]


class ProvisionerKeys:
    """Use cases around the keys of external daemons. Without a `psk` nobody signs in by one."""

    def __init__(self, pool: AsyncConnectionPool, clock: Clock, psk: str) -> None:
        self._pool = pool
        self._clock = clock
        self._psk = psk

    async def create(self, actor: Actor, organization_id: UUID, name: str, tags: Mapping[str, str]) -> str:
        """Make a key; return its secret, which nobody sees again."""
        actor.require(Action.CREATE, Object("provisioner_daemon", org_id=organization_id))
        problem = _name_problem(name)
        if problem:
            raise Invalid("Validation failed.", violations=[Violation("name", problem)])
        secret = secrets.token_urlsafe(32)
        key = Key(uuid4(), organization_id, name, rules.scoped(tags, None), self._clock.now())
        try:
            async with self._pool.connection() as db:
                await provisioner_keys.insert(db, key, _hashed(secret))
        except UniqueViolation as error:
            raise Conflict(f"Provisioner key with name '{name}' already exists in organization") from error
        return secret

    async def list(self, actor: Actor, organization_id: UUID) -> Sequence[Key]:
        """List the keys of an organization."""
        actor.require(Action.READ, Object("provisioner_daemon", org_id=organization_id))
        async with self._pool.connection() as db:
            return await provisioner_keys.list_of_organization(db, organization_id)

    async def list_daemons(self, actor: Actor, organization_id: UUID) -> Sequence[KeyDaemons]:
        """List the keys of an organization, the reserved ones too, with the daemons that use them."""
        keys = await self.list(actor, organization_id)
        async with self._pool.connection() as db:
            daemons = await provisioner_daemons.list_of_organization(db, organization_id, limit=_LISTED, offline=False)
        reserved = [Key(key_id, organization_id, name, {}, self._clock.now()) for key_id, name in RESERVED_KEYS.items()]
        found = [
            KeyDaemons(key, [item for item in daemons if item.daemon.key_id == key.id]) for key in [*reserved, *keys]
        ]
        return [item for item in found if item.daemons or item.key.id not in RESERVED_KEYS]

    async def delete(self, actor: Actor, organization_id: UUID, name: str) -> None:
        """Remove a key."""
        actor.require(Action.DELETE, Object("provisioner_daemon", org_id=organization_id))
        if name.lower() in RESERVED_KEYS.values():
            raise Invalid(f"Reserved provisioner key '{name}' cannot be deleted")
        async with self._pool.connection() as db:
            key = await provisioner_keys.find_by_name(db, organization_id, name)
            if key is None:
                raise NotFound
            await provisioner_keys.delete(db, key.id)

    async def find(self, secret: str) -> Key:
        """Find the key with a secret.

        Raises:
            Unauthenticated: there is none.
        """
        key = await self._find(secret)
        if key is None:
            raise Unauthenticated("Provisioner daemon key invalid.")
        return key

    async def _find(self, secret: str) -> Key | None:
        if not secret:
            return None
        async with self._pool.connection() as db:
            return await provisioner_keys.find_by_secret(db, _hashed(secret))

    async def admit(
        self, credentials: Credentials, organization_id: UUID, wanted: Connecting, *, is_default: bool
    ) -> NewDaemon:
        """Decide whether a daemon may connect, and as what.

        Raises:
            Unauthenticated: it shows nothing that is valid.
            Forbidden: what it shows does not allow what it wants.
            Invalid: what it says of itself makes no sense.
        """
        both = credentials.key and credentials.psk
        key = None if both else await self._find(credentials.key)
        by_psk = not both and is_default and self._matches_psk(credentials.psk)
        if (key or by_psk) and credentials.actor is not None:
            raise Invalid("API key and external provisioner authentication provided, but only one is allowed")
        if not wanted.provisioners or any(name not in PROVISIONERS for name in wanted.provisioners):
            raise Invalid(f"Unknown provisioner type; known are {', '.join(PROVISIONERS)}.")
        if key is not None:
            if wanted.tags:
                raise Forbidden("tags are not allowed when using a provisioner key")
            return _daemon(key.organization_id, key.id, wanted, key.tags)
        if by_psk:
            return _daemon(organization_id, PSK_KEY, wanted, rules.scoped(wanted.tags, None))
        if credentials.actor is None:
            raise Unauthenticated("API key or external provisioner authentication required, but none provided")
        return self._admit_user(credentials.actor, organization_id, wanted)

    def _matches_psk(self, psk: str) -> bool:
        return bool(self._psk and psk) and hmac.compare_digest(psk.encode(), self._psk.encode())

    def _admit_user(self, actor: Actor, organization_id: UUID, wanted: Connecting) -> NewDaemon:
        tags = rules.scoped(wanted.tags, actor.user_id)
        about = Object("provisioner_daemon", org_id=organization_id)
        if tags[rules.SCOPE] != rules.USER and not actor.may(Action.CREATE, about):
            raise Forbidden(f'You aren\'t allowed to create provisioner daemons with scope "{tags[rules.SCOPE]}"')
        return _daemon(organization_id, USER_KEY, wanted, tags)


def _daemon(organization_id: UUID, key_id: UUID, wanted: Connecting, tags: Mapping[str, str]) -> NewDaemon:
    return NewDaemon(
        organization_id=organization_id,
        key_id=key_id,
        name=wanted.name,
        version=wanted.version,
        api_version=wanted.api_version,
        provisioners=wanted.provisioners,
        tags=tags,
    )


def _hashed(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def _name_problem(name: str) -> str:
    if not name:
        return "Name is required"
    if len(name) > _NAME_LIMIT:
        return f"Name must be at most {_NAME_LIMIT} characters"
    if name.lower() in RESERVED_KEYS.values():
        return f"Name cannot be reserved name '{name}'"
    return ""
