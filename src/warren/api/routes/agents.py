"""Workspace agents as their users see them: `/workspaceagents`."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any
from uuid import UUID

from litestar import Request, WebSocket, get, websocket
from litestar import Response as Answer

from warren.api.convert import agents as convert
from warren.api.params import Query, path_uuid
from warren.api.streams import EventStream, send_events, send_values
from warren.authz.policy import Actor
from warren.errors import Invalid, Violation
from warren.sdk.types import agents as wire
from warren.services.agents import Agents
from warren.services.coordination import Coordination

_AGENT = "/api/v2/workspaceagents/{agent:str}"


@get("/api/v2/workspaceagents/connection")
async def generic_connection(actor: Actor, agents: Agents, coordination: Coordination) -> wire.AgentConnectionInfo:
    """Tell what a client needs to reach any agent."""
    del actor
    return convert.connection_info(agents.settings, coordination.derp_maps.current)


@get(_AGENT)
async def read(agent: str, actor: Actor, agents: Agents) -> wire.WorkspaceAgent:
    """Read an agent."""
    return convert.agent(await agents.get(actor, path_uuid(agent)))


@get(_AGENT + "/connection")
async def connection(agent: str, actor: Actor, agents: Agents, coordination: Coordination) -> wire.AgentConnectionInfo:
    """Tell what a client needs to reach an agent."""
    await agents.check_readable(actor, path_uuid(agent))
    return convert.connection_info(agents.settings, coordination.derp_maps.current)


@get([_AGENT + "/logs", _AGENT + "/startup-logs"])
async def logs(
    request: Request[Any, Any, Any], agent: str, actor: Actor, agents: Agents
) -> list[wire.AgentLog] | Answer[str]:
    """Read an agent's log."""
    agent_id = path_uuid(agent)
    query = Query(request.query_params)
    after, form = query.integer("after"), query.text("format")
    query.finish()
    _check_logs_query(after, form, follow=query.has("follow"))
    lines = await agents.list_logs(actor, agent_id, after)
    if form == "text":
        return Answer(convert.log_text(lines), media_type="text/plain")  # the charset is added
    return convert.log_lines(lines)


@websocket([_AGENT + "/logs", _AGENT + "/startup-logs"])
async def follow_logs(socket: WebSocket[Any, Any, Any], agent: str, actor: Actor, agents: Agents) -> None:
    """Follow an agent's log."""
    agent_id = path_uuid(agent)
    query = Query(socket.query_params)
    after = query.integer("after")
    query.finish()
    _check_logs_query(after, query.text("format"), follow=True)
    await agents.check_readable(actor, agent_id)
    await send_values(socket, _log_lines(agents, agent_id, after))


def _check_logs_query(after: int, form: str, *, follow: bool) -> None:
    if after < 0:
        raise Invalid(
            "Query param 'after' must be an integer greater than or equal to zero.",
            violations=[Violation("after", "Must be greater than or equal to zero")],
        )
    if form not in ("", "json", "text"):
        raise Invalid("Invalid format.", violations=[Violation("format", f'"{form}" is not one of json, text')])
    if form == "text" and follow:
        raise Invalid("Text format is not supported with follow mode.")


async def _log_lines(agents: Agents, agent_id: UUID, after: int) -> AsyncGenerator[list[wire.AgentLog]]:
    async with aclosing(agents.follow_logs(agent_id, after)) as batches:
        async for lines in batches:
            yield convert.log_lines(lines)


@get(_AGENT + "/watch-metadata")
async def watch_metadata(agent: str, actor: Actor, agents: Agents) -> EventStream:
    """Follow what an agent collects, as server-sent events."""
    agent_id = path_uuid(agent)
    await agents.check_readable(actor, agent_id)
    return EventStream(_metadata(agents, agent_id))


@websocket(_AGENT + "/watch-metadata-ws")
async def watch_metadata_socket(socket: WebSocket[Any, Any, Any], agent: str, actor: Actor, agents: Agents) -> None:
    """Follow what an agent collects, on a WebSocket."""
    agent_id = path_uuid(agent)
    await agents.check_readable(actor, agent_id)
    await send_events(socket, _metadata(agents, agent_id))


async def _metadata(agents: Agents, agent_id: UUID) -> AsyncGenerator[list[wire.AgentMetadata]]:
    async with aclosing(agents.watch_metadata(agent_id)) as values:
        async for items in values:
            yield convert.metadata(items, agents.clock.now())


@get(_AGENT + "/listening-ports")
async def listening_ports(agent: str, actor: Actor, agents: Agents) -> wire.ListeningPorts:
    """List the ports on which something listens; the control plane has no tunnel of its own to ask through yet."""
    await agents.check_connected(actor, path_uuid(agent))
    raise Invalid("Listening ports are not available.", detail="The control plane cannot ask agents for them yet.")


routes = [
    generic_connection,
    read,
    connection,
    logs,
    follow_logs,
    watch_metadata,
    watch_metadata_socket,
    listening_ports,
]
