"""How nodes are introduced to each other: `coordinate`, `/tailnet`, `/derp-map`."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any
from uuid import UUID, uuid4

from litestar import WebSocket, websocket

from warren.api import sockets
from warren.api.json import encode
from warren.api.params import path_uuid
from warren.api.streams import send_bytes
from warren.authz.policy import Actor
from warren.domain import api_version
from warren.errors import Conflict
from warren.net import derp_map
from warren.net.coordinator import ClientAuth, Request, UserAuth
from warren.services.agents import Agents
from warren.services.coordination import Coordination
from warren.services.deployment import Deployment
from warren.services.resume_tokens import ResumeTokens
from warren.services.workspace_updates import WorkspaceUpdates


@websocket("/api/v2/workspaceagents/{agent:str}/coordinate")
async def coordinate(
    socket: WebSocket[Any, Any, Any],
    agent: str,
    actor: Actor,
    agents: Agents,
    coordination: Coordination,
    resume_tokens: ResumeTokens,
    deployment: Deployment,
) -> None:
    """Introduce a client to one agent."""
    agent_id = path_uuid(agent)
    api_version.check(socket.query_params.get("version", "1.0"), api_version.AGENT_API)
    await agents.check_connectable(actor, agent_id)
    _check_tunnels(deployment)
    peer_id = await _peer_id(socket, resume_tokens)
    stream = await sockets.accept(socket)
    await coordination.serve(stream, peer_id, ClientAuth(agent_id))


@websocket("/api/v2/tailnet")
async def tailnet(
    socket: WebSocket[Any, Any, Any],
    actor: Actor,
    agents: Agents,
    coordination: Coordination,
    resume_tokens: ResumeTokens,
    workspace_updates: WorkspaceUpdates,
    deployment: Deployment,
) -> None:
    """Introduce a user's client to any agent that the user may reach."""
    _check_tunnels(deployment)
    api_version.check(socket.query_params.get("version", "2.0"), api_version.AGENT_API)
    peer_id = await _peer_id(socket, resume_tokens)
    auth = UserAuth()

    async def permit(request: Request) -> None:
        auth.allowed.clear()
        if request.add_tunnel is not None and await agents.may_connect(actor, request.add_tunnel):
            auth.allowed.add(request.add_tunnel)

    stream = await sockets.accept(socket)
    await coordination.serve(stream, peer_id, auth, before_request=permit, more=workspace_updates.handlers(actor))


def _check_tunnels(deployment: Deployment) -> None:
    if deployment.settings.browser_only:
        raise Conflict("Non-browser connections are disabled for your deployment.")


async def _peer_id(socket: WebSocket[Any, Any, Any], resume_tokens: ResumeTokens) -> UUID:
    """Give a client its peer id back, or a new one."""
    token = socket.query_params.get("resume_token", "")
    return (await resume_tokens.verify(token) if token else None) or uuid4()


@websocket("/api/v2/derp-map")
async def derp_map_updates(socket: WebSocket[Any, Any, Any], actor: Actor, coordination: Coordination) -> None:
    """Tell the DERP map, and when it changes: for old clients."""
    del actor
    await send_bytes(socket, _derp_maps(coordination))


async def _derp_maps(coordination: Coordination) -> AsyncGenerator[bytes]:
    told: derp_map.DERPMap | None = None
    while True:
        current = coordination.derp_maps.current
        if told is None or not derp_map.same(told, current):
            told = current
            yield encode(current.to_json()).rstrip(b"\n")
        await coordination.derp_maps.wait_change()


routes = [coordinate, tailnet, derp_map_updates]
