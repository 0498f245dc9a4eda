"""What an operator does to the database when nobody can sign in any more."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from uuid import uuid4

import psycopg
from psycopg import AsyncConnection

from warren.clock import SystemClock
from warren.domain import names
from warren.domain import password as password_rules
from warren.domain.user import LoginType, User, UserStatus
from warren.errors import Conflict, Invalid, NotFound, Unavailable
from warren.server.postgres import Postgres
from warren.services import ssh_keys
from warren.services.deployment import prepare_connection
from warren.services.passwords import Passwords
from warren.storage import api_keys, git_ssh_keys, organizations, users
from warren.storage.db import connected
from warren.storage.migrate import migrate, migrations


@asynccontextmanager
async def open_connection(url: str, config_folder: Path) -> AsyncGenerator[AsyncConnection]:
    """Connect to the database that was named, or to our own, which is started unless a server has it running.

    Raises:
        Unavailable: it does not answer.
    """
    if url:
        async with _connected(url) as db:
            yield db
        return
    postgres = Postgres(config_folder / "postgres")
    try:
        async with postgres.running(), _connected(postgres.url()) as db:
            yield db
    except Conflict:  # a server runs on it: use that one's
        async with _connected(postgres.url()) as db:
            yield db


@asynccontextmanager
async def _connected(url: str) -> AsyncGenerator[AsyncConnection]:
    async with AsyncExitStack() as stack:
        try:
            connection = await stack.enter_async_context(connected(url, timeout_seconds=10))
        except psycopg.OperationalError as error:
            raise Unavailable("The database does not answer.", detail=str(error)) from error
        yield connection


async def reset_password(db: AsyncConnection, username: str, password: str) -> None:
    """Give a user a new password; all sessions of the user end.

    Raises:
        NotFound: there is no such user.
        Invalid: the user signs in differently, or the password is weak.
    """
    user = await users.find_by_name(db, username) or await users.find_by_email(db, username)
    if user is None:
        raise NotFound(f"no user `{username}`")
    if user.login_type != LoginType.PASSWORD:
        raise Invalid(f"`{username}` signs in with {user.login_type}, not with a password")
    password_rules.check(password)
    hashed = await Passwords().hashed(password)
    async with db.transaction():
        await users.set_password(db, user.id, hashed, SystemClock().now())
        await api_keys.delete_of_user(db, user.id)


async def create_admin(db: AsyncConnection, *, username: str, email: str, password: str, algorithm: str) -> User:
    """Make a user who owns the deployment, in every organization.

    Raises:
        Conflict: the name or email is taken.
        Invalid: a name or the password cannot be.
    """
    found = [names.name_problem(username), names.email_problem(email)]
    if problems := [problem for problem in found if problem is not None]:
        raise Invalid("Validation failed.", violations=problems)
    password_rules.check(password)
    hashed = await Passwords().hashed(password)
    await migrate(db, migrations())
    now = SystemClock().now()
    user = User(
        id=uuid4(),
        email=email,
        username=username,
        name="",
        avatar_url="",
        login_type=LoginType.PASSWORD,
        status=UserStatus.ACTIVE,
        roles=["owner"],
        is_system=False,
        is_service_account=False,
        quiet_hours_schedule="",
        last_seen_at=None,
        created_at=now,
        updated_at=now,
        deleted=False,
        organization_ids=[],
    )
    async with db.transaction():
        await prepare_connection(db, SystemClock())
        try:
            await users.insert(db, user, hashed)
        except psycopg.errors.UniqueViolation as error:
            raise Conflict("User already exists.") from error
        for organization_id in await organizations.list_ids(db):
            await organizations.insert_member(db, organization_id, user.id, ["organization-admin"], now)
        await git_ssh_keys.upsert(db, ssh_keys.generate(user.id, algorithm, now))
    return user
