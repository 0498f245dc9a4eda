"""The built-in roles, as data.

A role is four lists: what it allows on everything (`site`), on the holder's own things outside of organizations
(`user`), on everything of the organization it is held in (`org`), and on the holder's own things there (`member`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from warren.authz.resources import ANY, RESOURCES

EVERYONE = "everyone"
NOBODY = "none"
SERVICE_ACCOUNTS = "service_accounts"
"""Whose workspaces may be shared in an organization."""


@dataclass(frozen=True, slots=True)
class Permission:
    """One line of a role: an action on a type of object, allowed or denied."""

    kind: str
    action: str
    negate: bool = False


@dataclass(frozen=True, slots=True)
class Role:
    """A named set of permissions."""

    name: str
    display_name: str
    site: Sequence[Permission] = ()
    user: Sequence[Permission] = ()
    org: Sequence[Permission] = ()
    member: Sequence[Permission] = ()


@dataclass(frozen=True, slots=True)
class RoleOptions:
    """What an operator may change about built-in roles."""

    owner_workspace_access: bool = True
    workspace_sharing: bool = True


def _allow(lines: str) -> tuple[Permission, ...]:
    """Read `type: action action, type: action`."""
    found: list[Permission] = []
    for line in lines.split(","):
        kind, _, actions = line.strip().partition(":")
        found += [Permission(kind, action) for action in actions.split()]
    return tuple(found)


def _deny(lines: str) -> tuple[Permission, ...]:
    return tuple(Permission(line.kind, line.action, negate=True) for line in _allow(lines))


def _all(*, but: Iterable[str]) -> tuple[Permission, ...]:
    left_out = set(but)
    return tuple(Permission(kind, ANY) for kind in RESOURCES if kind not in left_out)


def _workspace(*, but: str) -> tuple[Permission, ...]:
    left_out = but.split()
    return tuple(Permission("workspace", action) for action in sorted(RESOURCES["workspace"]) if action not in left_out)


_DORMANT = "workspace_dormant: create read update delete stop create_agent update_agent delete_agent"
_OWN_IN_ORG = _allow(f"workspace: *, {_DORMANT}, provisioner_daemon: create read, file: create read")
_ORG_OWNED = (
    *("workspace", "workspace_dormant", "prebuilt_workspace", "organization_member", "organization", "template"),
    *("group", "group_member", "assign_role", "assign_org_role", "provisioner_jobs", "idpsync_settings"),
)


@cache
def site_roles(options: RoleOptions) -> Mapping[str, Role]:
    """Name the site roles; `member` is everybody's."""
    owner_workspace = (
        _allow("workspace: *") if options.owner_workspace_access else _workspace(but="ssh application_connect")
    )
    sharing = () if options.workspace_sharing else _deny("workspace: share")
    roles = [
        Role(
            "owner",
            "Owner",
            site=(
                *_all(
                    but=(
                        "workspace",
                        "workspace_dormant",
                        "prebuilt_workspace",
                        "user_secret",
                        "usage_event",
                        "user_skill",
                    )
                ),
                *owner_workspace,
                *_allow(f"{_DORMANT}, prebuilt_workspace: update delete, user_skill: read delete"),
            ),
        ),
        Role(
            "auditor",
            "Auditor",
            site=_allow(
                "audit_log: read, connection_log: read, template: read view_insights, user: read, group: read,"
                " group_member: read, deployment_stats: read, deployment_config: read, organization: read,"
                " organization_member: read, assign_org_role: read"
            ),
        ),
        Role(
            "template-admin",
            "Template Admin",
            site=_allow(
                "template: *, file: create read, workspace: read, workspace_dormant: read,"
                " prebuilt_workspace: update delete, provisioner_daemon: create read update delete, user: read,"
                " group: read, group_member: read, organization: read, organization_member: read, assign_org_role: read"
            ),
        ),
        Role(
            "user-admin",
            "User Admin",
            site=_allow(
                "assign_role: assign unassign read, assign_org_role: assign unassign read,"
                " user: create read update delete read_personal update_personal,"
                " organization_member: create read update delete, organization: read,"
                " group: create read update delete, group_member: read, idpsync_settings: read update"
            ),
        ),
        Role(
            "member",
            "Member",
            site=(*_allow("assign_role: read, oauth2_app: read, workspace_proxy: read"), *sharing),
            user=(*_all(but=("user", *_ORG_OWNED)), *_allow("user: read read_personal update_personal")),
        ),
    ]
    return {role.name: role for role in roles}


@cache
def org_roles() -> Mapping[str, Role]:
    """Name the organization roles that can be granted."""
    roles = [
        Role(
            "organization-admin",
            "Organization Admin",
            site=_allow("user: read"),
            org=(
                *_all(
                    but=(
                        "workspace",
                        "workspace_dormant",
                        "prebuilt_workspace",
                        "assign_role",
                        "user_secret",
                        "user_skill",
                    )
                ),
                *_workspace(but="ssh application_connect"),
                *_allow(f"{_DORMANT}, prebuilt_workspace: update delete"),
            ),
        ),
        Role(
            "organization-auditor",
            "Organization Auditor",
            org=_allow(
                "audit_log: read, connection_log: read, template: read view_insights, group: read,"
                " group_member: read, organization: read, organization_member: read"
            ),
        ),
        Role(
            "organization-template-admin",
            "Organization Template Admin",
            org=_allow(
                "template: *, file: create read, workspace: read, workspace_dormant: read,"
                " prebuilt_workspace: update delete, provisioner_daemon: create read update delete,"
                " provisioner_jobs: create read update, group: read, group_member: read, organization: read,"
                " organization_member: read"
            ),
        ),
        Role(
            "organization-user-admin",
            "Organization User Admin",
            site=_allow("user: read"),
            org=_allow(
                "assign_org_role: assign unassign read, organization: read,"
                " organization_member: create read update delete, group: *, group_member: *,"
                " idpsync_settings: read update"
            ),
        ),
        Role(
            "organization-workspace-creation-ban",
            "Organization Workspace Creation Ban",
            org=_deny("workspace: create delete create_agent delete_agent"),
        ),
        Role("organization-workspace-access", "Organization Workspace Access", member=_OWN_IN_ORG),
    ]
    return {role.name: role for role in roles}


@cache
def implicit_org_role(sharing: str, *, service_account: bool) -> Role:
    """Build the role that every membership gives, for an organization whose workspaces are shared in this way."""
    org = "organization: read, assign_org_role: read, provisioner_daemon: read"
    if sharing != NOBODY:
        org += ", organization_member: read"
    if sharing == EVERYONE or (service_account and sharing != NOBODY):
        org += ", group: read"
    denied_org = _deny("workspace: share") if sharing == NOBODY else ()
    denied_own = () if sharing == EVERYONE or service_account else _deny("workspace: share")
    return Role(
        "organization-service-account" if service_account else "organization-member",
        "",
        org=(*_allow(org), *denied_org),
        member=(
            *_allow(
                "organization_member: read, group_member: read, api_key: *, notification_preference: *,"
                " inbox_notification: *, notification_message: read update"
            ),
            *_OWN_IN_ORG,
            *denied_own,
        ),
    )


ASSIGNABLE: Mapping[str, frozenset[str]] = {
    "owner": frozenset({*site_roles(RoleOptions()), *org_roles()}),
    "user-admin": frozenset({"member", "organization-member", "organization-workspace-access"}),
    "organization-admin": frozenset(org_roles()),
    "organization-user-admin": frozenset({"organization-member", "organization-workspace-access"}),
}
"""Which roles the holder of a role may grant or take away."""
