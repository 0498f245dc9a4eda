"""What permissions are about: the types of objects, and what can be done to each."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

ANY = "*"


class Action(StrEnum):
    """What an actor wants to do to an object."""

    CREATE = "create"
    READ = "read"
    UPDATE = "update"
    DELETE = "delete"
    USE = "use"
    SSH = "ssh"
    APPLICATION_CONNECT = "application_connect"
    START = "start"
    STOP = "stop"
    SHARE = "share"
    ASSIGN = "assign"
    UNASSIGN = "unassign"
    READ_PERSONAL = "read_personal"
    UPDATE_PERSONAL = "update_personal"
    VIEW_INSIGHTS = "view_insights"
    CREATE_AGENT = "create_agent"
    UPDATE_AGENT = "update_agent"
    DELETE_AGENT = "delete_agent"


_CRUD = "create read update delete"
_WORKSPACE = "create read update delete start stop ssh application_connect create_agent update_agent delete_agent share"

RESOURCES: Mapping[str, frozenset[str]] = {
    kind: frozenset(actions.split())
    for kinds, actions in (
        (
            "api_key crypto_key group notification_message oauth2_app oauth2_app_secret organization"
            " organization_member provisioner_daemon system tailnet_coordinator user_secret user_skill workspace_proxy",
            _CRUD,
        ),
        (
            "inbox_notification provisioner_jobs usage_event workspace_agent_resource_monitor",
            "create read update",
        ),
        ("license oauth2_app_code_token webpush_subscription", "create read delete"),
        ("audit_log file", "create read"),
        (
            "connection_log deployment_config idpsync_settings notification_preference notification_template",
            "read update",
        ),
        ("debug_info deployment_stats group_member replicas", "read"),
        ("workspace_agent_devcontainers", "create"),
        ("prebuilt_workspace", "update delete"),
        ("assign_role", "assign unassign read"),
        ("assign_org_role", "assign unassign create read update delete"),
        ("template", "create read update delete use view_insights"),
        ("user", "create read update delete read_personal update_personal"),
        ("workspace workspace_dormant", _WORKSPACE),
    )
    for kind in kinds.split()
}
"""Every type, with its actions."""
