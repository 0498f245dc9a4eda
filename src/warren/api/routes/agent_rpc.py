"""What agents ask with their own token: `/workspaceagents/me`."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from litestar import Request, WebSocket, get, patch, post, websocket

from warren.api import sockets
from warren.api.convert import agents as convert
from warren.api.json import MEDIA_TYPE, JSONResponse
from warren.domain import api_version
from warren.errors import Invalid, NotFound
from warren.sdk.types import agent_requests as wire
from warren.sdk.types.agents import LogSource
from warren.sdk.types.base import NIL_UUID
from warren.services.agent_rpc import AgentRPC
from warren.services.agents import Agents, check_personal

_ME = "/api/v2/workspaceagents/me"
MONITORED_ROLES = ("", "agent")


@websocket(_ME + "/rpc")
async def rpc(socket: WebSocket[Any, Any, Any], agent_token: UUID, agents: Agents, agent_rpc: AgentRPC) -> None:
    """Serve an agent's connection."""
    identity = await agents.authenticate(agent_token)
    version = socket.query_params.get("version", "2.0")
    api_version.check(version, api_version.AGENT_API)
    role = socket.query_params.get("role", "")
    stream = await sockets.accept(socket)
    await agent_rpc.serve(stream, identity, api_version=version, monitored=role in MONITORED_ROLES)


@get(_ME + "/gitsshkey")
async def ssh_key(agent_token: UUID, agents: Agents) -> wire.AgentGitSSHKey:
    """Give the key that the owner's workspaces use for git."""
    public, private = await agents.ssh_key(await agents.authenticate(agent_token))
    return wire.AgentGitSSHKey(public_key=public, private_key=private)


@post(_ME + "/log-source", status_code=201)
async def create_log_source(data: wire.CreateLogSource, agent_token: UUID, agents: Agents) -> LogSource:
    """Name a source of log lines."""
    identity = await agents.authenticate(agent_token)
    source = await agents.add_log_source(identity, data.id, data.display_name, data.icon)
    return convert.log_source(identity.agent_id, source)


@patch(_ME + "/logs")
async def create_logs(data: wire.PatchLogs, agent_token: UUID, agents: Agents) -> JSONResponse:
    """Store lines of the agent's log."""
    identity = await agents.authenticate(agent_token)
    lines = [(line.level or "info", line.output) for line in data.logs]
    await agents.add_logs(identity, data.log_source_id or NIL_UUID, lines)
    return _nothing()


@patch(_ME + "/app-status")
async def update_app_status(data: wire.PatchAppStatus, agent_token: UUID, agents: Agents) -> JSONResponse:
    """Store what an app says that it is doing."""
    identity = await agents.authenticate(agent_token)
    await agents.set_app_status(identity, data.app_slug, data.state, data.message, data.uri)
    return _nothing()


def _nothing() -> JSONResponse:
    """Answer with `null`, as clients are used to."""
    return JSONResponse(b"null\n", media_type=MEDIA_TYPE)


@get([_ME + "/external-auth", _ME + "/gitauth"])
async def external_auth(request: Request[Any, Any, Any], agent_token: UUID, agents: Agents) -> None:
    """Give a token of an external service: none is configured."""
    check_personal(await agents.authenticate(agent_token))
    query = request.query_params
    match = query.get("match") or query.get("url") or ""
    provider = query.get("id") or ""
    if not match and not provider:
        raise Invalid("'url' or 'id' must be provided!")
    if match and provider:
        raise Invalid("'url' and 'id' cannot be provided together!")
    raise NotFound(
        f'No matching external auth provider found in Coder for the url "{match or provider}".',
        detail="The following external auth regex patterns are configured: []",
    )


@get(_ME + "/reinit")
async def reinit(agent_token: UUID, agents: Agents) -> None:
    """Tell when a prebuilt workspace is claimed: there are none."""
    await agents.check_prebuild(await agents.authenticate(agent_token))


routes = [rpc, ssh_key, create_log_source, create_logs, update_app_status, external_auth, reinit]
