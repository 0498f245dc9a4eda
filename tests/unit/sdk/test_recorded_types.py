"""Our wire types read what upstream's server answers."""

from __future__ import annotations

import json
import re
from pathlib import Path

import msgspec
import pytest

from warren.sdk.types import agents, jobs, organizations, templates, users, workspaces
from warren.sdk.types.base import Response

RECORDED = Path(__file__).parents[2] / "vectors/recorded/http.jsonl"
ID = r"[0-9a-f-]{36}"
TYPES: list[tuple[str, str, object]] = [
    ("GET", r"/buildinfo", users.BuildInfo),
    ("GET", r"/users/(me|bob)", users.User),
    ("GET", r"/users", users.UserList),
    ("GET", r"/users/me/organizations", list[organizations.Organization]),
    ("GET", r"/users/me/keys/tokens", list[users.APIKeyWithOwner] | None),
    ("GET", r"/users/me/keys/tokens/tokenconfig", users.TokenConfig),
    ("GET", r"/users/me/keys/tokens/ci", users.APIKey),
    ("GET", r"/users/me/gitsshkey", users.GitSSHKey),
    ("GET", r"/users/me/roles", users.UserRoles),
    ("GET", r"/users/roles", list[organizations.AssignableRole]),
    ("GET", r"/users/authmethods", users.AuthMethods),
    ("POST", r"/users/login", users.LoggedIn),
    ("POST", r"/users/me/keys(/tokens)?", users.CreatedKey),
    ("GET", r"/templates", list[templates.Template]),
    ("GET", rf"/templates/{ID}", templates.Template),
    ("GET", rf"/templates/{ID}/versions", list[templates.TemplateVersion]),
    ("GET", rf"/templateversions/{ID}", templates.TemplateVersion),
    ("GET", rf"/templateversions/{ID}/logs", list[jobs.ProvisionerJobLog]),
    ("GET", rf"/templateversions/{ID}/resources", list[workspaces.WorkspaceResource]),
    ("GET", rf"/templateversions/{ID}/rich-parameters", list[templates.TemplateVersionParameter]),
    ("GET", rf"/templateversions/{ID}/presets", list[templates.Preset]),
    ("GET", rf"/templateversions/{ID}/variables", list[templates.TemplateVersionVariable]),
    ("GET", rf"/templateversions/{ID}/external-auth", list[templates.TemplateVersionExternalAuth]),
    ("POST", rf"/templateversions/{ID}/dynamic-parameters/evaluate", templates.DynamicParametersResponse),
    ("GET", r"/workspaces", workspaces.WorkspaceList),
    ("GET", rf"/workspaces/{ID}", workspaces.Workspace),
    ("GET", r"/users/me/workspace/r1", workspaces.Workspace),
    ("POST", rf"/workspaces/{ID}/builds", workspaces.WorkspaceBuild),
    ("GET", rf"/workspacebuilds/{ID}", workspaces.WorkspaceBuild),
    ("GET", rf"/workspacebuilds/{ID}/logs", list[jobs.ProvisionerJobLog]),
    ("GET", rf"/workspacebuilds/{ID}/parameters", list[templates.BuildParameter]),
    ("GET", rf"/workspaceagents/{ID}", agents.WorkspaceAgent),
    ("GET", rf"/workspaceagents/{ID}/connection", agents.AgentConnectionInfo),
    ("GET", r"/workspaceagents/connection", agents.AgentConnectionInfo),
    ("GET", rf"/workspaceagents/{ID}/logs", list[agents.AgentLog]),
    ("GET", rf"/workspaceagents/{ID}/listening-ports", agents.ListeningPorts),
    ("GET", r"/deployment/ssh", agents.SSHConfig),
]


def calls() -> list[dict[str, object]]:
    with RECORDED.open() as lines:
        return [json.loads(line) for line in lines]


def kind_of(call: dict[str, object]) -> object | None:
    path = str(call["path"]).removeprefix("/api/v2").partition("?")[0]
    if int(str(call["status"])) >= 400:
        return Response
    for method, pattern, kind in TYPES:
        if call["method"] == method and re.fullmatch(pattern, path):
            return kind
    return None


@pytest.mark.parametrize("call", calls(), ids=lambda call: f"{call['method']} {call['path']} {call['note']}")
def test_reads_what_upstream_answers(call: dict[str, object]) -> None:
    kind, body = kind_of(call), call.get("body")
    if kind is None or not isinstance(body, dict | list):
        return
    msgspec.json.decode(json.dumps(body).encode(), type=kind)


def test_most_of_the_types_are_met() -> None:
    met = [kind_of(call) for call in calls()]
    assert [kind for _, _, kind in TYPES if kind not in met] == []
