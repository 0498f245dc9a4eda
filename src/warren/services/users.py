"""Accounts: making, reading, changing and deleting them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from uuid import UUID, uuid4

import psycopg
import structlog
from psycopg import AsyncConnection, sql

from warren.authz.filter import Columns, readable
from warren.authz.policy import FORBIDDEN_DETAIL, Action, Actor, Object
from warren.authz.roles import ASSIGNABLE, RoleOptions, site_roles
from warren.clock import Clock
from warren.domain import names
from warren.domain import password as password_rules
from warren.domain.user import GitSSHKey, LoginType, User, UserStatus
from warren.errors import Conflict, Forbidden, Invalid, NotFound, Violation
from warren.services import ssh_keys
from warren.services.passwords import Passwords
from warren.storage import api_keys, deployment, git_ssh_keys, organizations, user_configs, users
from warren.storage.db import Database
from warren.storage.users import Page, Profile, UserFilter

log = structlog.get_logger()

ALREADY_FIRST = "The initial user has already been created."
COLUMNS = Columns(id=sql.SQL("u.id"), owner_id=sql.SQL("u.id"))


@dataclass(frozen=True, slots=True)
class NewUser:
    """An account that is wanted."""

    email: str
    username: str
    name: str = ""
    password: str = ""
    login_type: str = LoginType.PASSWORD
    status: str = UserStatus.DORMANT
    organization_ids: Sequence[UUID] = ()
    roles: Sequence[str] = ()
    service_account: bool = False


class OwnsWorkspaces(Conflict):
    """The user still owns workspaces, and cannot be deleted; the API has a status of its own for it."""


def user_object(user: User) -> Object:
    """See a user as what something is done to."""
    return Object("user", id=user.id, owner_id=user.id)


class Users:
    """Use cases around accounts."""

    def __init__(
        self, pool: Database, clock: Clock, passwords: Passwords, roles: RoleOptions, key_algorithm: str
    ) -> None:
        self._pool = pool
        self._clock = clock
        self._passwords = passwords
        self._roles = roles
        self._key_algorithm = key_algorithm

    # Making -----------------------------------------------------------------------------------------------------------

    async def has_first(self) -> bool:
        """Say whether anybody has an account."""
        async with self._pool.connection() as db:
            return await users.count(db) > 0

    async def create_first(self, wanted: NewUser) -> User:
        """Make the first account, which owns the deployment.

        Raises:
            Conflict: there is one.
            Invalid: a name or the password cannot be.
        """
        if await self.has_first():
            raise Conflict(ALREADY_FIRST)
        _check(wanted)
        hashed = await self._passwords.hashed(wanted.password)
        async with self._pool.connection() as db:
            await deployment.lock_first_user(db)
            if await users.count(db) > 0:
                raise Conflict(ALREADY_FIRST)
            default = await organizations.get_default(db)
            owner = replace(wanted, organization_ids=[default.id], roles=["owner"], status=UserStatus.ACTIVE)
            return await self._insert(db, owner, hashed)

    async def create(self, actor: Actor, wanted: NewUser) -> User:
        """Make an account.

        Raises:
            Forbidden: the caller may not.
            Conflict: the name or email is taken.
            Invalid: something about it cannot be.
        """
        if not actor.may(Action.CREATE, Object("user")):
            raise Forbidden("You are not authorized to create users.")
        _check(wanted)
        if not wanted.organization_ids:
            raise Invalid(
                "No organizations provided.",
                violations=[Violation("organization_ids", "at least one organization is required")],
            )
        self._check_assignable(actor, wanted.roles, [])
        hashed = await self._passwords.hashed(wanted.password) if wanted.password else ""
        async with self._pool.connection() as db:
            for organization_id in wanted.organization_ids:
                await organizations.get(db, organization_id)
                actor.require(Action.CREATE, Object("organization_member", org_id=organization_id))
            created = await self._insert(db, wanted, hashed)
        log.info("user.created", user_id=str(created.id), by=str(actor.user_id))
        return created

    async def _insert(self, db: AsyncConnection, wanted: NewUser, hashed: str) -> User:
        now = self._clock.now()
        user = User(
            id=uuid4(),
            email=wanted.email,
            username=wanted.username,
            name=wanted.name,
            avatar_url="",
            login_type=wanted.login_type,
            status=wanted.status,
            roles=list(wanted.roles),
            is_system=False,
            is_service_account=wanted.service_account,
            quiet_hours_schedule="",
            last_seen_at=None,
            created_at=now,
            updated_at=now,
            deleted=False,
            organization_ids=list(wanted.organization_ids),
        )
        try:
            await users.insert(db, user, hashed)
        except psycopg.errors.UniqueViolation as error:
            raise Conflict("User already exists.") from error
        for organization_id in wanted.organization_ids:
            await organizations.insert_member(db, organization_id, user.id, [], now)
        await git_ssh_keys.upsert(db, ssh_keys.generate(user.id, self._key_algorithm, now))
        return user

    # Reading ----------------------------------------------------------------------------------------------------------

    async def find(self, actor: Actor, word: str) -> User:
        """Read the user that a word stands for: `me`, an id or a name.

        Raises:
            NotFound: there is none, or the caller may not see it.
        """
        async with self._pool.reading() as db:
            user = await _find(db, actor, word)
        if user is None or not actor.may(Action.READ, user_object(user)):
            raise NotFound
        return user

    async def list(self, actor: Actor, wanted: UserFilter, page: Page) -> tuple[Sequence[User], int]:
        """List the users that match and that the caller may see, and count all of them."""
        async with self._pool.connection() as db:
            if page.after_id is not None and await users.find(db, page.after_id) is None:
                raise Invalid(f'Record at "after_id" ("{page.after_id}") does not exist.')
            return await users.list_readable(db, readable(actor, "user", COLUMNS), wanted, page)

    async def personal(self, actor: Actor, word: str, action: Action) -> User:
        """Read a user whose personal things the caller may read or change.

        Raises:
            NotFound, Forbidden: it may not.
        """
        user = await self.find(actor, word)
        actor.require(action, user_object(user))
        return user

    async def organization_roles(self, user: User) -> Mapping[UUID, Sequence[str]]:
        """Read the roles of a user in each of its organizations."""
        async with self._pool.connection() as db:
            members = [await organizations.get_member(db, each, user.id) for each in user.organization_ids]
        return {member.organization_id: member.roles for member in members}

    # Changing ---------------------------------------------------------------------------------------------------------

    async def set_profile(self, actor: Actor, word: str, profile: Profile) -> User:
        """Change what others see of a user.

        Raises:
            Conflict: the name is taken.
            Invalid: the name cannot be.
        """
        user = await self.personal(actor, word, Action.UPDATE_PERSONAL)
        problems = [names.name_problem(profile.username), names.real_name_problem(profile.name)]
        _raise(problems)
        async with self._pool.connection() as db:
            try:
                await users.set_profile(db, user.id, profile, self._clock.now())
            except psycopg.errors.UniqueViolation as error:
                raise Conflict(
                    "A user with this username already exists.",
                    violations=[Violation("username", "This username is already in use.")],
                ) from error
            return await users.get(db, user.id)

    async def set_status(self, actor: Actor, word: str, status: UserStatus) -> User:
        """Suspend or activate a user.

        Raises:
            Invalid: the caller itself, or an owner.
        """
        user = await self.find(actor, word)
        if status is UserStatus.SUSPENDED:
            if user.id == actor.user_id:
                raise Invalid("You cannot suspend yourself.")
            if "owner" in user.roles:
                raise Invalid('You cannot suspend a user with the "owner" role. You must remove the role first.')
        actor.require(Action.UPDATE, user_object(user))
        async with self._pool.connection() as db:
            await users.set_status(db, user.id, status, self._clock.now())
            changed = await users.get(db, user.id)
        log.info("user.status_changed", user_id=str(user.id), status=status, by=str(actor.user_id))
        return changed

    async def set_roles(self, actor: Actor, word: str, roles: Sequence[str]) -> User:
        """Replace the site roles of a user.

        Raises:
            Invalid: an unknown role, or one's own.
            Forbidden: the caller may not grant or take one of them.
        """
        user = await self.find(actor, word)
        if user.id == actor.user_id:
            raise Invalid("You cannot change your own roles.")
        self._check_assignable(actor, roles, user.roles)
        async with self._pool.connection() as db:
            await users.set_roles(db, user.id, sorted(set(roles) - {"member"}))
            changed = await users.get(db, user.id)
        log.info("user.roles_changed", user_id=str(user.id), roles=list(changed.roles), by=str(actor.user_id))
        return changed

    def _check_assignable(self, actor: Actor, wanted: Sequence[str], present: Sequence[str]) -> None:
        known = site_roles(self._roles)
        for role in wanted:
            if role not in known:
                raise Invalid(f'"{role}" is not a supported role')
        allowed = {name for role in actor.site_roles for name in ASSIGNABLE.get(role.name, ())}
        changed = (set(wanted) ^ set(present)) - {"member"}
        may = actor.may(Action.ASSIGN, Object("assign_role")) and actor.may(Action.UNASSIGN, Object("assign_role"))
        if changed and not (may and changed <= allowed):
            raise Forbidden("Forbidden.", detail=FORBIDDEN_DETAIL)

    async def set_password(self, actor: Actor, word: str, new: str, old: str) -> None:
        """Change a password; all other sessions of the user end.

        Raises:
            Invalid: the old password is wrong, the new one weak or the same, or the user has none.
        """
        user = await self.personal(actor, word, Action.UPDATE_PERSONAL)
        if user.login_type != LoginType.PASSWORD:
            raise Invalid("Users without password login type cannot change their password.")
        if "owner" in user.roles and not actor.has_site_role("owner"):
            raise Invalid("Only owners can change the password of another owner.")
        password_rules.check(new)
        async with self._pool.connection() as db:
            hashed = await users.hashed_password(db, user.id)
        if (user.id == actor.user_id or old) and not await self._passwords.matches(old, hashed):
            raise Invalid(
                "Old password is incorrect.", violations=[Violation("old_password", "Old password is incorrect.")]
            )
        if await self._passwords.matches(new, hashed):
            raise Invalid("New password cannot match old password.")
        fresh = await self._passwords.hashed(new)
        async with self._pool.connection() as db:
            await users.set_password(db, user.id, fresh, self._clock.now())
            await api_keys.delete_of_user(db, user.id)
        log.info("user.password_changed", user_id=str(user.id), by=str(actor.user_id))

    async def delete(self, actor: Actor, word: str) -> None:
        """Delete a user.

        Raises:
            Forbidden: the caller itself, or it may not.
            OwnsWorkspaces: there are workspaces of the user.
        """
        user = await self.find(actor, word)
        if not actor.may(Action.DELETE, user_object(user)):
            raise Forbidden("Forbidden.", detail=FORBIDDEN_DETAIL)
        if user.id == actor.user_id:
            raise Forbidden("You cannot delete yourself!")
        async with self._pool.connection() as db:
            await users.lock(db, user.id)
            if await users.has_workspaces(db, user.id):
                raise OwnsWorkspaces(
                    "You cannot delete a user that has workspaces. Delete their workspaces and try again!"
                )
            await users.mark_deleted(db, user.id, self._clock.now())
            await api_keys.delete_of_user(db, user.id)
            for organization_id in user.organization_ids:
                await organizations.delete_member(db, organization_id, user.id)
        log.info("user.deleted", user_id=str(user.id), by=str(actor.user_id))

    # Personal things --------------------------------------------------------------------------------------------------

    async def read_configs(self, actor: Actor, word: str) -> Mapping[str, str]:
        """Read the small settings of a user."""
        user = await self.personal(actor, word, Action.READ_PERSONAL)
        async with self._pool.connection() as db:
            return await user_configs.read(db, user.id)

    async def write_configs(self, actor: Actor, word: str, values: Mapping[str, str]) -> Mapping[str, str]:
        """Change small settings of a user; returns all of them."""
        user = await self.personal(actor, word, Action.UPDATE_PERSONAL)
        async with self._pool.connection() as db:
            await user_configs.write(db, user.id, values)
            return await user_configs.read(db, user.id)

    async def ssh_key(self, actor: Actor, word: str) -> GitSSHKey:
        """Read a user's key for git."""
        user = await self.personal(actor, word, Action.READ_PERSONAL)
        async with self._pool.connection() as db:
            return await git_ssh_keys.get(db, user.id)

    async def replace_ssh_key(self, actor: Actor, word: str) -> GitSSHKey:
        """Give a user a new key for git."""
        user = await self.personal(actor, word, Action.UPDATE_PERSONAL)
        async with self._pool.connection() as db:
            await git_ssh_keys.upsert(db, ssh_keys.generate(user.id, self._key_algorithm, self._clock.now()))
            return await git_ssh_keys.get(db, user.id)

    async def recent_parameters(self, actor: Actor, word: str, template_id: UUID) -> Sequence[tuple[str, str]]:
        """List what a user gave to a template's parameters last."""
        user = await self.personal(actor, word, Action.READ_PERSONAL)
        async with self._pool.connection() as db:
            return await users.recent_parameters(db, user.id, template_id)


async def _find(db: AsyncConnection, actor: Actor, word: str) -> User | None:
    if word == "me":
        return await users.find(db, actor.user_id)
    try:
        user_id = UUID(word) if len(word) == 36 else None
    except ValueError:
        user_id = None
    return await (users.find_by_name(db, word) if user_id is None else users.find(db, user_id))


def _check(wanted: NewUser) -> None:
    """Refuse an account that cannot be."""
    problems = [None if wanted.service_account and not wanted.email else names.email_problem(wanted.email)]
    problems += [names.name_problem(wanted.username), names.real_name_problem(wanted.name)]
    _raise(problems)
    if wanted.login_type == LoginType.PASSWORD:
        password_rules.check(wanted.password)
    elif wanted.password:
        raise Invalid(f'Password cannot be set for non-password authentication type "{wanted.login_type}".')


def _raise(problems: Sequence[Violation | None]) -> None:
    found = [problem for problem in problems if problem is not None]
    if found:
        raise Invalid("Validation failed.", violations=found)
