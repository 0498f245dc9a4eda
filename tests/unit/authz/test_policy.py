from __future__ import annotations

from uuid import UUID

import pytest

from warren.authz.policy import Action, Actor, Membership, Object, actor_of
from warren.authz.roles import RoleOptions, implicit_org_role, org_roles, site_roles
from warren.authz.scopes import ALL, EVERYTHING, AllowEntry
from warren.errors import Forbidden, NotFound

ME, OTHER = UUID(int=1), UUID(int=2)
ORG, ELSEWHERE = UUID(int=10), UUID(int=11)
GROUP = UUID(int=20)
MINE = Object("workspace", id=UUID(int=30), org_id=ORG, owner_id=ME)
NEW = Object("workspace", org_id=ORG, owner_id=ME)
THEIRS = Object("workspace", id=UUID(int=31), org_id=ORG, owner_id=OTHER)


def an_actor(
    *roles: str,
    org: tuple[str, ...] = (),
    member: bool = True,
    scopes: tuple[str, ...] = (ALL,),
    allow: tuple[AllowEntry, ...] = (EVERYTHING,),
    options: RoleOptions = RoleOptions(),  # noqa: B008  immutable
    sharing: str = "everyone",
) -> Actor:
    return actor_of(
        user_id=ME,
        username="me",
        roles=roles,
        memberships=[Membership(ORG, org, sharing)] if member else [],
        groups=[GROUP],
        scopes=scopes,
        allow_list=allow,
        options=options,
    )


@pytest.mark.parametrize(
    ("actor", "action", "thing", "allowed"),
    [
        (an_actor(), Action.SSH, MINE, True),
        (an_actor(member=False), Action.SSH, MINE, False),  # membership ended: so did what it gave
        (an_actor(), Action.READ, THEIRS, False),
        (an_actor("owner"), Action.SSH, THEIRS, True),
        (an_actor("owner", options=RoleOptions(owner_workspace_access=False)), Action.SSH, THEIRS, False),
        (an_actor("owner", options=RoleOptions(owner_workspace_access=False)), Action.DELETE, THEIRS, True),
        (an_actor("owner", options=RoleOptions(workspace_sharing=False)), Action.SHARE, MINE, False),
        (an_actor("template-admin"), Action.READ, THEIRS, True),
        (an_actor("template-admin"), Action.UPDATE, THEIRS, False),
        (an_actor("auditor"), Action.READ, Object("deployment_config"), True),
        (an_actor("auditor"), Action.UPDATE, Object("deployment_config"), False),
        (an_actor("user-admin"), Action.CREATE, Object("user"), True),
        (an_actor(org=("organization-admin",)), Action.DELETE, THEIRS, True),
        (an_actor(org=("organization-admin",)), Action.SSH, THEIRS, False),
        (an_actor(org=("organization-workspace-creation-ban",)), Action.CREATE, MINE, False),
        (an_actor(org=("organization-workspace-creation-ban",)), Action.START, MINE, True),
        (an_actor("owner", org=("organization-workspace-creation-ban",)), Action.CREATE, MINE, True),
        (an_actor(org=("organization-admin",)), Action.READ, Object("workspace", org_id=ELSEWHERE), False),
        (an_actor(sharing="none"), Action.SHARE, MINE, False),
        (an_actor(sharing="none", org=("organization-admin",)), Action.SHARE, MINE, False),
        (an_actor(sharing="service_accounts"), Action.SHARE, MINE, False),
        (an_actor(), Action.SHARE, MINE, True),
        (an_actor(), Action.READ, Object("user", id=ME, owner_id=ME), True),
        (an_actor(), Action.READ, Object("user", id=OTHER, owner_id=OTHER), False),
        (an_actor(), Action.UPDATE, Object("user", id=ME, owner_id=ME), False),
        (an_actor(), Action.CREATE, Object("workspace", owner_id=ME), False),  # in no organization: nobody's
        (an_actor(), Action.CREATE, Object("workspace", owner_id=ME, any_org=True), True),
        (an_actor(), Action.READ, Object("template", org_id=ORG), False),
        (an_actor(), Action.USE, Object("template", org_id=ORG, acl_groups={str(ORG): ["read", "use"]}), True),
        (an_actor(member=False), Action.USE, Object("template", org_id=ORG, acl_groups={str(ORG): ["use"]}), False),
        (an_actor(), Action.UPDATE, Object("template", org_id=ORG, acl_groups={str(GROUP): ["*"]}), True),
        (an_actor(), Action.READ, Object("workspace", org_id=ORG, acl_users={str(ME): ["read"]}), True),
        (an_actor(), Action.SSH, Object("workspace", org_id=ORG, acl_users={str(ME): ["read"]}), False),
        (an_actor("owner", scopes=("workspace:read",)), Action.READ, THEIRS, True),
        (an_actor("owner", scopes=("workspace:read",)), Action.SSH, THEIRS, False),
        (an_actor(scopes=("workspace:*", "template:read")), Action.SSH, MINE, True),
        (an_actor(scopes=("a scope of another release",)), Action.READ, MINE, False),
        (an_actor(allow=(AllowEntry("workspace", str(MINE.id)),)), Action.SSH, MINE, True),
        (an_actor("owner", allow=(AllowEntry("workspace", str(MINE.id)),)), Action.SSH, THEIRS, False),
        (
            an_actor(allow=(AllowEntry("workspace", str(MINE.id)),)),
            Action.CREATE,
            Object("workspace", org_id=ORG),
            False,
        ),
    ],
)
def test_the_levels_vote_as_written(actor: Actor, action: Action, thing: Object, allowed: bool) -> None:
    assert actor.may(action, thing) is allowed


def test_what_cannot_be_read_is_not_found_and_what_can_is_forbidden() -> None:
    with pytest.raises(NotFound):
        an_actor().require(Action.UPDATE, THEIRS)
    with pytest.raises(Forbidden):
        an_actor("template-admin").require(Action.UPDATE, THEIRS)


def test_every_permission_of_a_role_is_about_something_that_exists() -> None:
    from warren.authz.resources import ANY, RESOURCES

    roles = [*site_roles(RoleOptions()).values(), *org_roles().values()]
    roles += [implicit_org_role(mode, service_account=False) for mode in ("none", "everyone", "service_accounts")]
    for role in roles:
        for line in [*role.site, *role.user, *role.org, *role.member]:
            assert line.kind in RESOURCES, (role.name, line)
            assert line.action == ANY or line.action in RESOURCES[line.kind], (role.name, line)
