"""Create and refresh the provider's resources: they only hold values, nothing outside is touched."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID, uuid4

from warren.errors import Invalid
from warren.provisioner.coder_provider.data_sources import Environment, task_id
from warren.provisioner.coder_provider.values import Object, blocks, text

# The SHA-256 of no bytes: the suffix under which a claim build finds the token of the agent it must keep.
_RUNNING_TOKEN = "CODER_RUNNING_WORKSPACE_AGENT_TOKEN_e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"  # noqa: S105

Maker = Callable[[Object, Object, Environment, str], Object]


def create(kind: str, planned: Object, config: Object, environment: Environment, access_url: str) -> Object:
    """Give the state of a new resource of `kind`, with all that was unknown filled in."""
    state: Object = {**planned, "id": str(uuid4())}
    make = _MAKERS.get(kind)
    return state if make is None else {**state, **make(state, config, environment, access_url)}


def refresh(kind: str, state: Object, environment: Environment, access_url: str) -> Object:
    """Give the state after a read. Only an agent changes: it gets a new token on every refresh."""
    if kind != "coder_agent":
        return state
    return {**state, **_agent(state, state, environment, access_url)}


def _agent(state: Object, _config: Object, environment: Environment, access_url: str) -> Object:
    return {
        "token": environment.get(_RUNNING_TOKEN) or str(uuid4()),
        "init_script": _init_script(state, environment, access_url),
    }


def _init_script(state: Object, environment: Environment, access_url: str) -> str:
    script = environment.get(f"CODER_AGENT_SCRIPT_{text(state['os'])}_{text(state['arch'])}", "")
    parts = urlsplit(access_url)
    root = urlunsplit((parts.scheme, parts.netloc, "/", "", ""))
    return script.replace("${ACCESS_URL}", root).replace("${AUTH_TYPE}", text(state["auth"]))


def _metadata(state: Object, config: Object, _environment: Environment, _access_url: str) -> Object:
    given = blocks(config.get("item"))
    return {
        "item": [
            {**item, "is_null": index < len(given) and given[index].get("value") is None}
            for index, item in enumerate(blocks(state.get("item")))
        ]
    }


def _devcontainer(_state: Object, _config: Object, _environment: Environment, _access_url: str) -> Object:
    return {"subagent_id": str(uuid4())}


def _ai_task(state: Object, config: Object, environment: Environment, _access_url: str) -> Object:
    task = task_id(environment)
    app = text(config.get("app_id"))
    if not app:
        sidebar = blocks(state.get("sidebar_app"))
        app = text(sidebar[0].get("id")) if sidebar else ""
    if not app:
        raise Invalid("'app_id' must be set")
    try:
        UUID(app)
    except ValueError as error:
        raise Invalid(f'expected "app_id" to be a valid UUID, got {app}') from error
    return {
        "id": str(task or uuid4()),
        "app_id": app,
        "prompt": environment.get("CODER_TASK_PROMPT", ""),
        "enabled": task is not None,
    }


_MAKERS: Mapping[str, Maker] = MappingProxyType(
    {
        "coder_agent": _agent,
        "coder_metadata": _metadata,
        "coder_devcontainer": _devcontainer,
        "coder_ai_task": _ai_task,
    }
)
