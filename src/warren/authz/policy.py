"""Who may do what: votes of the levels of roles, then grants on the object, both within the token's scope.

A level votes +1 when a permission matches, -1 when a denial does, else 0. The site's word is final; the organization's
denial binds what members may do with their own; grants on the object (ACLs) are beside the roles.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from warren.authz.resources import ANY, Action
from warren.authz.roles import Permission, Role, RoleOptions, implicit_org_role, org_roles, site_roles
from warren.authz.scopes import ALL, EVERYTHING, AllowEntry, permissions
from warren.errors import Forbidden, NotFound

ACL = Mapping[str, Sequence[str]]
"""Granted actions by the id of a user or group, as stored."""

FORBIDDEN_DETAIL = (
    "You don't have permission to view this content. If you believe this is a mistake, please contact your"
    " administrator or try signing in with different credentials."
)


@dataclass(frozen=True, slots=True)
class Object:
    """What something is done to: as much of it as authorization needs."""

    type: str
    id: UUID | str | None = None
    org_id: UUID | None = None
    owner_id: UUID | None = None
    acl_users: ACL = field(default_factory=dict[str, Sequence[str]])
    acl_groups: ACL = field(default_factory=dict[str, Sequence[str]])
    any_org: bool = False


@dataclass(frozen=True, slots=True)
class Membership:
    """A membership as far as authorization needs it."""

    organization_id: UUID
    roles: Sequence[str]
    sharing: str
    custom: Sequence[Role] = ()


@dataclass(frozen=True, slots=True)
class Actor:
    """Who asks: a user, its roles, and the scope of the token it came with."""

    user_id: UUID
    username: str
    site_roles: Sequence[Role] = ()
    org_roles: Mapping[UUID, Sequence[Role]] = field(default_factory=dict[UUID, Sequence[Role]])
    groups: frozenset[UUID] = frozenset()
    scope: Sequence[Permission] = (Permission(ANY, ANY),)
    allow_list: Sequence[AllowEntry] = (EVERYTHING,)
    key_id: str = ""

    @property
    def organization_ids(self) -> Sequence[UUID]:
        """The organizations that the actor is a member of."""
        return tuple(self.org_roles)

    def has_site_role(self, name: str) -> bool:
        """Say whether the actor holds a site role."""
        return any(role.name == name for role in self.site_roles)

    def may(self, action: Action | str, thing: Object) -> bool:
        """Say whether the actor may do `action` to `thing`."""
        return (self._roles_allow(action, thing) or self._acl_allows(action, thing)) and self._scope_allows(
            action, thing
        )

    def require(self, action: Action | str, thing: Object) -> None:
        """Insist on a permission.

        Raises:
            NotFound: the actor may not even read `thing`.
            Forbidden: it may, but not do this.
        """
        if self.may(action, thing):
            return
        if self.may(Action.READ, thing):
            raise Forbidden("Forbidden.", detail=FORBIDDEN_DETAIL)
        raise NotFound

    def allow(self, action: Action | str, thing: Object) -> None:
        """Insist on a permission about something that is no secret.

        Raises:
            Forbidden: the actor does not have it.
        """
        if not self.may(action, thing):
            raise Forbidden("Forbidden.", detail=FORBIDDEN_DETAIL)

    # Votes, for `may` and for the filter of lists

    def site_vote(self, kind: str, action: str) -> int:
        """Tell the vote of the site level, which also carries what organization roles say of the site."""
        lists = [role.site for role in self.site_roles]
        lists += [role.site for roles in self.org_roles.values() for role in roles]
        return _vote(lists, kind, action)

    def user_vote(self, kind: str, action: str) -> int:
        """Tell the vote of the user level."""
        return _vote([role.user for role in self.site_roles], kind, action)

    def org_vote(self, organization_id: UUID, kind: str, action: str) -> int:
        """Tell the vote of one organization."""
        return _vote([role.org for role in self.org_roles.get(organization_id, ())], kind, action)

    def member_vote(self, organization_id: UUID, kind: str, action: str) -> int:
        """Tell the vote about the actor's own things in one organization."""
        return _vote([role.member for role in self.org_roles.get(organization_id, ())], kind, action)

    def _roles_allow(self, action: str, thing: Object) -> bool:
        site = self.site_vote(thing.type, action)
        if site:
            return site > 0
        own = thing.owner_id == self.user_id
        if thing.org_id is None and not thing.any_org:
            return own and self.user_vote(thing.type, action) > 0
        organizations = [org for org in self.org_roles if thing.any_org or org == thing.org_id]
        votes = [(self.org_vote(o, thing.type, action), self.member_vote(o, thing.type, action)) for o in organizations]
        if any(org > 0 for org, _ in votes):
            return True
        return own and any(org == 0 and member > 0 for org, member in votes)

    def _acl_allows(self, action: str, thing: Object) -> bool:
        if thing.org_id not in self.org_roles:
            return False
        granted = [thing.acl_users.get(str(self.user_id), ())]
        granted += [thing.acl_groups.get(str(group), ()) for group in (thing.org_id, *self.groups)]
        return any(action in actions or ANY in actions for actions in granted)

    def _scope_allows(self, action: str, thing: Object) -> bool:
        if not scope_matches(self.scope, thing.type, action):
            return False
        wanted = ANY if thing.id is None else str(thing.id)
        return any(entry.kind in (ANY, thing.type) and entry.id in (ANY, wanted) for entry in self.allow_list)


def _vote(lists: Iterable[Sequence[Permission]], kind: str, action: str) -> int:
    found = 0
    for permissions_ in lists:
        for line in permissions_:
            if line.kind in (kind, ANY) and line.action in (action, ANY):
                if line.negate:
                    return -1
                found = 1
    return found


def scope_matches(scope: Sequence[Permission], kind: str, action: str) -> bool:
    """Say whether a scope allows an action on a type at all."""
    return _vote([scope], kind, action) > 0


def actor_of(
    *,
    user_id: UUID,
    username: str,
    roles: Sequence[str],
    memberships: Sequence[Membership],
    groups: Iterable[UUID] = (),
    scopes: Sequence[str] = (ALL,),
    allow_list: Sequence[AllowEntry] = (EVERYTHING,),
    options: RoleOptions,
    service_account: bool = False,
    key_id: str = "",
) -> Actor:
    """Build an actor from the names that the database holds; a role that is not known any more gives nothing."""
    site = site_roles(options)
    org = org_roles()
    return Actor(
        user_id=user_id,
        username=username,
        site_roles=[site[name] for name in dict.fromkeys([*roles, "member"]) if name in site],
        org_roles={
            membership.organization_id: [
                implicit_org_role(membership.sharing, service_account=service_account),
                *(org[name] for name in dict.fromkeys(membership.roles) if name in org),
                *membership.custom,
            ]
            for membership in memberships
        },
        groups=frozenset(groups),
        scope=permissions(scopes),
        allow_list=allow_list,
        key_id=key_id,
    )
