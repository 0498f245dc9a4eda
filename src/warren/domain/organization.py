"""Organizations and memberships."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Organization:
    """A part of the deployment with members, templates and workspaces of its own."""

    id: UUID
    name: str
    display_name: str
    description: str
    icon: str
    is_default: bool
    default_member_roles: Sequence[str]
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Member:
    """A membership with the user it is of."""

    organization_id: UUID
    user_id: UUID
    roles: Sequence[str]
    created_at: datetime
    updated_at: datetime
    username: str
    name: str
    avatar_url: str
    email: str
    status: str
    login_type: str
    site_roles: Sequence[str]
    is_service_account: bool
    last_seen_at: datetime | None
    user_created_at: datetime
    user_updated_at: datetime
