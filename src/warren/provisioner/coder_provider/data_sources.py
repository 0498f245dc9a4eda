"""Read the provider's data sources: all they say comes from the build's `CODER_*` variables."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Callable, Mapping
from types import MappingProxyType
from urllib.parse import urlsplit
from uuid import UUID, uuid4

from warren.errors import Invalid
from warren.provisioner.coder_provider import parameter
from warren.provisioner.coder_provider.values import Object, Value, text

DEFAULT_URL = "https://mydeployment.coder.com"
_NIL = UUID(int=0)
_ARCHITECTURES: Mapping[str, str] = MappingProxyType(
    {
        "x86_64": "amd64",
        "amd64": "amd64",
        "aarch64": "arm64",
        "arm64": "arm64",
        "armv7l": "armv7",
        "armv6l": "armv7",
    }
)

Environment = Mapping[str, str]
Reader = Callable[[Object, Environment, str], Object]


def read(kind: str, config: Object, environment: Environment, access_url: str) -> Object:
    """Give the whole state of one data source.

    Raises:
        Invalid: a required value is missing or malformed.
    """
    return {**config, **_READERS[kind](config, environment, access_url)}


def task_id(environment: Environment) -> UUID | None:
    """Give the task this build belongs to, if any."""
    value = environment.get("CODER_TASK_ID", "")
    if not value:
        return None
    try:
        parsed = UUID(value)
    except ValueError as error:
        raise Invalid(f'invalid UUID "{value}" in CODER_TASK_ID') from error
    return None if parsed == _NIL else parsed


def _workspace(_config: Object, environment: Environment, access_url: str) -> Object:
    transition = environment.get("CODER_WORKSPACE_TRANSITION") or "start"
    claim = environment.get("CODER_WORKSPACE_IS_PREBUILD_CLAIM", "").lower() == "true"
    prebuild = not claim and environment.get("CODER_WORKSPACE_IS_PREBUILD", "").lower() == "true"
    return {
        "id": environment.get("CODER_WORKSPACE_ID") or str(uuid4()),
        "name": environment.get("CODER_WORKSPACE_NAME") or "default",
        "access_url": access_url,
        "access_port": _port(access_url),
        "transition": transition,
        "start_count": 1 if transition == "start" else 0,
        "prebuild_count": 1 if prebuild else 0,
        "is_prebuild": prebuild,
        "is_prebuild_claim": claim,
        "template_id": _template(environment, "CODER_WORKSPACE_TEMPLATE_ID"),
        "template_name": _template(environment, "CODER_WORKSPACE_TEMPLATE_NAME"),
        "template_version": _template(environment, "CODER_WORKSPACE_TEMPLATE_VERSION"),
    }


def _template(environment: Environment, name: str) -> str:
    value = environment.get(name, "")
    if not value and environment.get("CODER_WORKSPACE_BUILD_ID"):
        raise Invalid(f"{name} is required")
    return value


def _port(url: str) -> int:
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError as error:
        raise Invalid(f'couldn\'t parse port in access url "{url}"') from error
    return port or (443 if parts.scheme == "https" else 80)


def _owner(_config: Object, environment: Environment, _access_url: str) -> Object:
    login_type = environment.get("CODER_WORKSPACE_OWNER_LOGIN_TYPE", "")
    owner = "CODER_WORKSPACE_OWNER"
    return {
        "id": environment.get(f"{owner}_ID") or str(uuid4()),
        "name": environment.get(owner) or "default",
        "full_name": environment.get(f"{owner}_NAME") or "default",
        "email": environment.get(f"{owner}_EMAIL") or "default@example.com",
        "ssh_public_key": environment.get(f"{owner}_SSH_PUBLIC_KEY", ""),
        "ssh_private_key": environment.get(f"{owner}_SSH_PRIVATE_KEY", ""),
        "groups": _json_list(environment, f"{owner}_GROUPS", "invalid user groups"),
        "session_token": environment.get(f"{owner}_SESSION_TOKEN", ""),
        "oidc_access_token": environment.get(f"{owner}_OIDC_ACCESS_TOKEN", ""),
        "login_type": login_type or None,
        "rbac_roles": [
            {"name": text(role.get("name")), "org_id": text(role.get("org_id"))}
            for role in _json_list(environment, f"{owner}_RBAC_ROLES", "invalid user rbac roles")
            if isinstance(role, Mapping)
        ],
    }


def _json_list(environment: Environment, name: str, complaint: str) -> list[Value]:
    if name not in environment:
        return []
    try:
        parsed: Value = json.loads(environment[name])
    except ValueError as error:
        raise Invalid(f"{complaint}: {error}") from error
    if parsed is None:
        return []
    if not isinstance(parsed, list):
        raise Invalid(f"{complaint}: a list was expected")
    return parsed


def _provisioner(_config: Object, _environment: Environment, _access_url: str) -> Object:
    machine = platform.machine().lower()
    return {
        "id": str(uuid4()),
        "os": "windows" if sys.platform == "win32" else sys.platform,
        "arch": _ARCHITECTURES.get(machine, machine),
    }


def _tags(_config: Object, _environment: Environment, _access_url: str) -> Object:
    return {"id": str(uuid4())}  # the server evaluates the tags


def _external_auth(config: Object, environment: Environment, _access_url: str) -> Object:
    return {"access_token": environment.get(f"CODER_EXTERNAL_AUTH_ACCESS_TOKEN_{text(config['id'])}", "")}


def _task(_config: Object, environment: Environment, _access_url: str) -> Object:
    task = task_id(environment)
    return {
        "id": str(task or uuid4()),
        "prompt": environment.get("CODER_TASK_PROMPT", ""),
        "enabled": task is not None,
    }


def _preset(config: Object, _environment: Environment, _access_url: str) -> Object:
    return {"id": text(config["name"])}


def _parameter(config: Object, environment: Environment, _access_url: str) -> Object:
    return {"id": str(uuid4()), **parameter.read(config, environment)}


_READERS: Mapping[str, Reader] = MappingProxyType(
    {
        "coder_workspace": _workspace,
        "coder_workspace_owner": _owner,
        "coder_provisioner": _provisioner,
        "coder_workspace_tags": _tags,
        "coder_external_auth": _external_auth,
        "coder_task": _task,
        "coder_workspace_preset": _preset,
        "coder_parameter": _parameter,
    }
)
