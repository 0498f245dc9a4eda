"""Users, keys and organizations as clients see them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

from warren.authz.roles import Permission, Role, RoleOptions, org_roles, site_roles
from warren.domain.organization import Member, Organization
from warren.domain.token import Key
from warren.domain.user import GitSSHKey, User
from warren.sdk.types import organizations as org_wire
from warren.sdk.types import users as wire
from warren.sdk.types.base import ZERO_TIME

_NAMES: Mapping[str, str] = {
    role.name: role.display_name for roles in (site_roles(RoleOptions()), org_roles()) for role in roles.values()
}


def slim_roles(names: Sequence[str], organization_id: UUID | None = None) -> list[wire.SlimRole]:
    """Name roles."""
    of = "" if organization_id is None else str(organization_id)
    return [wire.SlimRole(name=name, display_name=_NAMES.get(name, ""), organization_id=of) for name in names]


def user(found: User) -> wire.User:
    """Show a user."""
    return wire.User(
        id=found.id,
        username=found.username,
        name=found.name,
        avatar_url=found.avatar_url,
        email=found.email,
        created_at=found.created_at,
        updated_at=found.updated_at,
        last_seen_at=_time(found.last_seen_at),
        status=found.status,
        login_type=found.login_type,
        is_service_account=found.is_service_account,
        organization_ids=list(found.organization_ids),
        roles=slim_roles(found.roles),
        has_ai_seat=False,
    )


def key(found: Key) -> wire.APIKey:
    """Show a key."""
    return wire.APIKey(
        id=found.id,
        user_id=found.user_id,
        last_used=found.last_used,
        expires_at=found.expires_at,
        created_at=found.created_at,
        updated_at=found.updated_at,
        login_type=found.login_type,
        scope="application_connect" if list(found.scopes) == ["coder:application_connect"] else "all",
        scopes=list(found.scopes),
        token_name=found.token_name,
        lifetime_seconds=found.lifetime_seconds,
        allow_list=list(found.allow_list),
    )


def key_with_owner(found: Key, username: str) -> wire.APIKeyWithOwner:
    """Show a key and whose it is."""
    plain = key(found)
    return wire.APIKeyWithOwner(**{name: getattr(plain, name) for name in plain.__struct_fields__}, username=username)


def git_ssh_key(found: GitSSHKey) -> wire.GitSSHKey:
    """Show the public half of a key."""
    return wire.GitSSHKey(
        user_id=found.user_id,
        created_at=found.created_at,
        updated_at=found.updated_at,
        public_key=found.public_key,
    )


def organization(found: Organization) -> org_wire.Organization:
    """Show an organization."""
    return org_wire.Organization(
        id=found.id,
        name=found.name,
        display_name=found.display_name,
        icon=found.icon,
        description=found.description,
        created_at=found.created_at,
        updated_at=found.updated_at,
        is_default=found.is_default,
        default_org_member_roles=list(found.default_member_roles),
    )


def member(found: Member) -> org_wire.OrganizationMember:
    """Show a membership."""
    return org_wire.OrganizationMember(
        user_id=found.user_id,
        organization_id=found.organization_id,
        created_at=found.created_at,
        updated_at=found.updated_at,
        roles=slim_roles(found.roles, found.organization_id),
    )


def member_with_user(found: Member) -> org_wire.OrganizationMemberWithUser:
    """Show a membership with the user."""
    return org_wire.OrganizationMemberWithUser(
        user_id=found.user_id,
        organization_id=found.organization_id,
        created_at=found.created_at,
        updated_at=found.updated_at,
        roles=slim_roles(found.roles, found.organization_id),
        username=found.username,
        name=found.name,
        avatar_url=found.avatar_url,
        email=found.email,
        status=found.status,
        login_type=found.login_type,
        last_seen_at=_time(found.last_seen_at),
        user_created_at=found.user_created_at,
        user_updated_at=found.user_updated_at,
        is_service_account=found.is_service_account,
        global_roles=slim_roles(found.site_roles),
        has_ai_seat=False,
    )


def role(found: Role, *, assignable: bool, organization_id: UUID | None = None) -> org_wire.AssignableRole:
    """Show a built-in role."""
    return org_wire.AssignableRole(
        name=found.name,
        display_name=found.display_name,
        organization_id="" if organization_id is None else str(organization_id),
        site_permissions=_permissions(found.site),
        user_permissions=_permissions(found.user),
        organization_permissions=_permissions(found.org),
        organization_member_permissions=_permissions(found.member),
        assignable=assignable,
        built_in=True,
    )


def _permissions(lines: Sequence[Permission]) -> list[org_wire.Permission]:
    return [org_wire.Permission(negate=line.negate, resource_type=line.kind, action=line.action) for line in lines]


def _time(at: datetime | None) -> datetime:
    return ZERO_TIME if at is None else at
