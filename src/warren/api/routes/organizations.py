"""Organizations and members: `/organizations`."""

from __future__ import annotations

from typing import Any

from litestar import Request, delete, get, post, put

from warren.api.convert import users as convert
from warren.api.params import Query
from warren.authz.policy import Actor
from warren.authz.roles import org_roles
from warren.sdk.types import organizations as wire
from warren.sdk.types.users import UpdateRoles
from warren.services.organizations import Organizations, assignable
from warren.storage.users import WHOLE

_ORGANIZATION = "/api/v2/organizations/{organization:str}"
_MEMBER = _ORGANIZATION + "/members/{user:str}"


@get("/api/v2/organizations")
async def list_organizations(actor: Actor, organizations: Organizations) -> list[wire.Organization]:
    """List organizations."""
    return [convert.organization(each) for each in await organizations.list(actor)]


@get(_ORGANIZATION)
async def read(organization: str, actor: Actor, organizations: Organizations) -> wire.Organization:
    """Read an organization."""
    return convert.organization(await organizations.get(actor, organization))


@get(_ORGANIZATION + "/members")
async def list_members(
    organization: str, actor: Actor, organizations: Organizations
) -> list[wire.OrganizationMemberWithUser]:
    """List the members of an organization."""
    found, _ = await organizations.members(actor, organization, WHOLE)
    return [convert.member_with_user(each) for each in found]


@get(_ORGANIZATION + "/paginated-members")
async def page_of_members(
    request: Request[Any, Any, Any], organization: str, actor: Actor, organizations: Organizations
) -> wire.MemberList:
    """List a page of the members of an organization."""
    query = Query(request.query_params)
    page = query.page()
    query.finish()
    found, count = await organizations.members(actor, organization, page)
    return wire.MemberList(members=[convert.member_with_user(each) for each in found], count=count)


@get(_ORGANIZATION + "/members/roles")
async def list_roles(organization: str, actor: Actor, organizations: Organizations) -> list[wire.AssignableRole]:
    """List the roles of an organization."""
    organization_id = await organizations.check_roles_readable(actor, organization)
    allowed = assignable(actor, organization_id)
    return [
        convert.role(role, assignable=role.name in allowed, organization_id=organization_id)
        for role in org_roles().values()
    ]


@get(_MEMBER)
async def read_member(
    organization: str, user: str, actor: Actor, organizations: Organizations
) -> wire.OrganizationMemberWithUser:
    """Read a member."""
    return convert.member_with_user(await organizations.member(actor, organization, user))


@post(_MEMBER, status_code=200)
async def add_member(
    organization: str, user: str, actor: Actor, organizations: Organizations
) -> wire.OrganizationMember:
    """Make a user a member."""
    return convert.member(await organizations.add_member(actor, organization, user))


@delete(_MEMBER, status_code=204)
async def remove_member(organization: str, user: str, actor: Actor, organizations: Organizations) -> None:
    """End a membership."""
    await organizations.remove_member(actor, organization, user)


@put(_MEMBER + "/roles")
async def set_member_roles(
    organization: str, user: str, data: UpdateRoles, actor: Actor, organizations: Organizations
) -> wire.OrganizationMember:
    """Replace the roles of a member."""
    return convert.member(await organizations.set_member_roles(actor, organization, user, data.roles or []))


routes = [
    list_organizations,
    read,
    list_members,
    page_of_members,
    list_roles,
    read_member,
    add_member,
    remove_member,
    set_member_roles,
]
