"""Who a token stands for; signing in and out."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

import structlog

from warren.authz.policy import Actor, Membership, actor_of
from warren.authz.roles import RoleOptions
from warren.authz.scopes import ALL, parse_allow_entry
from warren.clock import Clock
from warren.domain import token as tokens
from warren.domain.token import Key, NewKey
from warren.domain.user import LoginType, UserStatus
from warren.errors import Forbidden, Invalid, Unauthenticated
from warren.services.passwords import Passwords, outdated
from warren.storage import api_keys, users
from warren.storage.db import Database

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """How long sessions and tokens live, and how users sign in."""

    session_lifetime: timedelta = timedelta(hours=24)
    sliding: bool = True
    default_token_lifetime: timedelta = timedelta(days=7)
    max_token_lifetime: timedelta = timedelta(hours=876600)
    max_admin_token_lifetime: timedelta = timedelta(hours=168)
    password_login: bool = True
    roles: RoleOptions = field(default_factory=RoleOptions)


@dataclass(frozen=True, slots=True)
class Session:
    """An accepted token: who asks, with which key."""

    actor: Actor
    key: Key


def new_key(
    *,
    user_id: UUID,
    login_type: str,
    lifetime: timedelta,
    now: datetime,
    name: str = "",
    scopes: Sequence[str] = (ALL,),
    allow_list: Sequence[str] = ("*:*",),
) -> NewKey:
    """Make a key that was not stored yet, and its token."""
    key_id, secret = tokens.text(secrets.token_bytes(tokens.ID_LENGTH + tokens.SECRET_LENGTH))
    key = Key(
        id=key_id,
        hashed_secret=tokens.hashed(secret),
        user_id=user_id,
        login_type=login_type,
        token_name=name,
        scopes=scopes,
        allow_list=allow_list,
        lifetime_seconds=int(lifetime.total_seconds()),
        last_used=now,
        expires_at=now + lifetime,
        created_at=now,
        updated_at=now,
    )
    return NewKey(f"{key_id}-{secret}", key)


class Sessions:
    """Use cases around being signed in."""

    def __init__(self, pool: Database, clock: Clock, passwords: Passwords, settings: SessionSettings) -> None:
        self._pool = pool
        self._passwords = passwords
        self._clock = clock
        self._settings = settings

    async def authenticate(self, token: str, ip_address: str | None) -> Session:
        """Find out who sent a token; use of it extends its life.

        Raises:
            Unauthenticated: it is not, or not any more, valid.
        """
        key_id, secret = tokens.split(token)
        async with self._pool.reading() as db:
            holder = await api_keys.find_holder(db, key_id)
            if holder is None or holder.deleted or not tokens.matches(secret, holder.key.hashed_secret):
                raise tokens.refused("API key is invalid.")
            now = self._clock.now()
            if holder.key.expires_at <= now:
                raise tokens.refused(f'API key expired at "{holder.key.expires_at}".')
            if holder.status == UserStatus.SUSPENDED:
                raise Unauthenticated(
                    f'User is not active (status = "{holder.status}"). Contact an admin to reactivate your account.'
                )
            if holder.status == UserStatus.DORMANT:
                await users.activate_dormant(db, holder.key.user_id, now)
                log.info("user.activated", user_id=str(holder.key.user_id))
            if (use := tokens.use(holder.key, now, sliding=self._settings.sliding)) is not None:
                async with db.transaction():
                    await api_keys.touch(db, holder.key, now=now, expires_at=use.expires_at, ip_address=ip_address)
        return Session(self._actor(holder), holder.key)

    def _actor(self, holder: api_keys.Holder) -> Actor:
        return actor_of(
            user_id=holder.key.user_id,
            username=holder.username,
            roles=holder.roles,
            memberships=[_membership(line) for line in holder.memberships],
            groups=holder.groups,
            scopes=holder.key.scopes,
            allow_list=[parse_allow_entry(entry) for entry in holder.key.allow_list],
            options=self._settings.roles,
            service_account=holder.is_service_account,
            key_id=holder.key.id,
        )

    async def log_in(self, email: str, password: str, ip_address: str | None) -> NewKey:
        """Sign in with a password; return the new session.

        Raises:
            Unauthenticated: no such user, another password, or a suspended account.
            Forbidden: passwords are switched off, or this user signs in differently.
        """
        async with self._pool.connection() as db:
            user = await users.find_by_email(db, email)
            hashed = "" if user is None else await users.hashed_password(db, user.id)
        # Unknown users cost the same time: else the answer tells who has an account.
        if not await self._passwords.matches(password, hashed) or user is None:
            raise Unauthenticated("Incorrect email or password.")
        if not self._settings.password_login:
            raise Forbidden("Password authentication is disabled.")
        if user.login_type != LoginType.PASSWORD:
            raise Forbidden(
                f'Incorrect login type, attempting to use "password" but user is of login type "{user.login_type}"'
            )
        if user.status == UserStatus.SUSPENDED:
            raise Unauthenticated(f"Your account is {user.status}. Contact an admin to reactivate your account.")
        fresh = await self._passwords.hashed(password) if outdated(hashed) else ""
        created = new_key(
            user_id=user.id,
            login_type=LoginType.PASSWORD,
            lifetime=self._settings.session_lifetime,
            now=self._clock.now(),
        )
        async with self._pool.connection() as db:
            now = self._clock.now()
            await users.activate_dormant(db, user.id, now)
            if fresh:
                await users.set_password(db, user.id, fresh, user.updated_at)
            await api_keys.insert(db, created.key, ip_address)
        log.info("session.started", user_id=str(user.id))
        return created

    async def log_out(self, session: Session) -> None:
        """End a session, and those that the user's apps got through it."""
        async with self._pool.connection() as db:
            await api_keys.delete(db, session.key.id)
            await api_keys.delete_connect_keys(db, session.key.user_id)

    @property
    def password_login(self) -> bool:
        """Whether users may sign in with a password."""
        return self._settings.password_login


def _membership(line: object) -> Membership:
    if not isinstance(line, dict):
        raise Invalid("a membership is not an object")
    # Built by our own query: the keys are there and of these types.
    return Membership(UUID(line["organization_id"]), line["roles"], line["sharing"])  # pyright: ignore[reportUnknownArgumentType]
