"""Users: who they are, and what may be done to an account."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID


class UserStatus(StrEnum):
    """Whether a user may sign in."""

    ACTIVE = "active"
    DORMANT = "dormant"
    SUSPENDED = "suspended"


class LoginType(StrEnum):
    """How a user, or the key of one, signed in."""

    PASSWORD = "password"  # noqa: S105  a name
    GITHUB = "github"
    OIDC = "oidc"
    TOKEN = "token"  # noqa: S105  a name
    NONE = "none"


@dataclass(frozen=True, slots=True)
class User:
    """An account."""

    id: UUID
    email: str
    username: str
    name: str
    avatar_url: str
    login_type: str
    status: str
    roles: Sequence[str]
    is_system: bool
    is_service_account: bool
    quiet_hours_schedule: str
    last_seen_at: datetime | None
    created_at: datetime
    updated_at: datetime
    deleted: bool
    organization_ids: Sequence[UUID]


@dataclass(frozen=True, slots=True)
class GitSSHKey:
    """The key that a user's workspaces use for git."""

    user_id: UUID
    private_key: str
    public_key: str
    created_at: datetime
    updated_at: datetime
