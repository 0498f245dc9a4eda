"""Organizations, members and roles."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from warren.sdk.types.base import Sparse, Wire
from warren.sdk.types.users import SlimRole


class Organization(Wire, frozen=True):
    """An organization."""

    id: UUID
    name: str
    display_name: str
    icon: str
    description: str
    created_at: datetime
    updated_at: datetime
    is_default: bool
    default_org_member_roles: list[str]


class OrganizationMember(Wire, frozen=True):
    """A membership."""

    user_id: UUID
    organization_id: UUID
    created_at: datetime
    updated_at: datetime
    roles: list[SlimRole]


class OrganizationMemberWithUser(Sparse, frozen=True):
    """A membership with the user."""

    user_id: UUID
    organization_id: UUID
    created_at: datetime
    updated_at: datetime
    roles: list[SlimRole]
    username: str
    email: str
    status: str
    login_type: str
    last_seen_at: datetime
    user_created_at: datetime
    user_updated_at: datetime
    global_roles: list[SlimRole]
    has_ai_seat: bool
    name: str = ""
    avatar_url: str = ""
    is_service_account: bool = False


class MemberList(Wire, frozen=True):
    """A page of members; `count` is of all that match."""

    members: list[OrganizationMemberWithUser]
    count: int


class Permission(Wire, frozen=True):
    """One line of a role."""

    negate: bool
    resource_type: str
    action: str


class AssignableRole(Sparse, frozen=True):
    """A role, and whether the caller may grant it."""

    name: str
    display_name: str
    site_permissions: list[Permission]
    user_permissions: list[Permission]
    organization_permissions: list[Permission]
    organization_member_permissions: list[Permission]
    assignable: bool
    built_in: bool
    organization_id: str = ""


class AuthorizationObject(Sparse, frozen=True):
    """What a check is about."""

    resource_type: str = ""
    owner_id: str = ""
    organization_id: str = ""
    resource_id: str = ""
    any_org: bool = False


class AuthorizationCheck(Sparse, frozen=True):
    """One question of an `authcheck`."""

    object: AuthorizationObject
    action: str = ""


class AuthorizationRequest(Sparse, frozen=True):
    """Questions by key; each is answered with a boolean under the same key."""

    checks: dict[str, AuthorizationCheck]
