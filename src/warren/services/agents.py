"""Agents: reading them, their logs and metadata, and who may reach them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TypeVar
from uuid import UUID, uuid4

from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from warren.authz.policy import Action, Actor
from warren.clock import Clock
from warren.domain.agent import (
    EXTERNAL_LOG_SOURCE,
    MAX_APP_STATUS_BYTES,
    MAX_LOG_BYTES,
    Agent,
    AgentView,
    App,
    AppStatus,
    LogLine,
    LogSource,
    Metadata,
    Script,
)
from warren.errors import Invalid, NotFound, TooLarge, Unauthenticated, Violation
from warren.services.builds import as_object
from warren.storage import agent_logs, agent_metadata, agents, workspaces
from warren.storage.agents import Located
from warren.storage.notify import publish

AGENT = "agent"
AGENT_LOGS = "agent.logs"
AGENT_METADATA = "agent.metadata"
WORKSPACE = "workspace"

_T = TypeVar("_T", App, AppStatus, LogSource, Script)


class LogsOverflowed(TooLarge):
    """An agent's log is full."""


async def agents_of_resources(db: AsyncConnection, resource_ids: Sequence[UUID]) -> Mapping[UUID, Sequence[AgentView]]:
    """Read the agents of resources with all that is shown of them, in a fixed number of statements."""
    found = await agents.list_of_resources(db, resource_ids)
    if not found:
        return {}
    names = await agents.names_of_resources(db, resource_ids)
    result: dict[UUID, list[AgentView]] = {}
    for view in await _views(db, found, names):
        result.setdefault(view.agent.resource_id, []).append(view)
    return result


async def _views(
    db: AsyncConnection, found: Sequence[Agent], names: Mapping[UUID, tuple[str, str]]
) -> Sequence[AgentView]:
    ids = [agent.id for agent in found]
    apps = _by_agent(await agents.list_apps(db, ids))
    statuses = _by_agent(await agents.list_app_statuses(db, ids) if apps else [])
    scripts = _by_agent(await agents.list_scripts(db, ids))
    sources = _by_agent(await agents.list_log_sources(db, ids))
    return [
        AgentView(
            agent,
            apps.get(agent.id, ()),
            statuses.get(agent.id, ()),
            scripts.get(agent.id, ()),
            sources.get(agent.id, ()),
            *names.get(agent.resource_id, ("", "")),
        )
        for agent in found
    ]


def _by_agent(items: Iterable[_T]) -> dict[UUID, list[_T]]:
    result: dict[UUID, list[_T]] = {}
    for item in items:
        result.setdefault(item.agent_id, []).append(item)
    return result


async def report_change(db: AsyncConnection, located: Located) -> None:
    """Wake those who watch an agent or its workspace."""
    await publish(db, AGENT, located.agent.id)
    await publish(db, WORKSPACE, located.place.workspace_id)


async def append_logs(
    db: AsyncConnection, located: Located, source_id: UUID, lines: Sequence[tuple[str, str]], now: datetime
) -> bool:
    """Store lines, each a level and an output; False when the log would be over its limit, and nothing was stored."""
    if not lines:
        return True
    agent_id = located.agent.id
    source = source_id if source_id.int else EXTERNAL_LOG_SOURCE
    if source == EXTERNAL_LOG_SOURCE:
        await agent_logs.upsert_source(db, LogSource(agent_id, source, "External", "/emojis/1f310.png", now))
    size = sum(len(output.encode()) for _, output in lines)
    before = await agent_logs.reserve(db, agent_id, size, limit=MAX_LOG_BYTES)
    if before is None:
        await report_change(db, located)
        return False
    await agent_logs.append(db, agent_id, source, lines, now)
    await publish(db, AGENT_LOGS, agent_id)
    if before == 0:
        await report_change(db, located)
    return True


class Agents:
    """The use cases of agents that people, and agents by REST, have."""

    def __init__(self, pool: AsyncConnectionPool, clock: Clock) -> None:
        self._pool, self._clock = pool, clock

    @property
    def clock(self) -> Clock:
        """What time it is, for ages that are shown."""
        return self._clock

    async def authenticate(self, token: UUID) -> Located:
        """Return the agent that a token stands for.

        Raises:
            Unauthenticated: it stands for none, or for one of an old build.
        """
        async with self._pool.connection() as db:
            found = await agents.find_by_token(db, token)
        if found is None:
            raise Unauthenticated(
                "Workspace agent not authorized.",
                detail="The agent cannot authenticate until the workspace provision job has been completed."
                " If the job is no longer running, this agent is invalid.",
            )
        return found

    async def get(self, actor: Actor, agent_id: UUID) -> AgentView:
        """Read an agent."""
        async with self._pool.connection() as db:
            located = await _readable(db, actor, agent_id)
            agent = located.agent
            names = {agent.resource_id: (located.place.workspace_name, located.place.owner_username)}
            return (await _views(db, [agent], names))[0]

    async def require_ssh(self, actor: Actor, agent_id: UUID) -> Located:
        """Return an agent that the actor may connect to.

        Raises:
            NotFound: there is none, or the actor may not connect to it.
        """
        async with self._pool.connection() as db:
            located = await agents.get(db, agent_id)
            workspace = await workspaces.get(db, located.place.workspace_id)
            if not actor.may(Action.SSH, as_object(workspace)):
                raise NotFound
            return located

    async def list_logs(self, actor: Actor, agent_id: UUID, after: int) -> Sequence[LogLine]:
        """List the lines of an agent's log with a greater id."""
        async with self._pool.connection() as db:
            await _readable(db, actor, agent_id)
            return await agent_logs.list_after(db, agent_id, after)

    async def logs_after(self, agent_id: UUID, after: int) -> tuple[Sequence[LogLine], bool]:
        """List further lines, for one who was let in; also whether the agent is still of the latest build."""
        async with self._pool.connection() as db:
            current = await agents.is_of_latest_build(db, agent_id)
            return await agent_logs.list_after(db, agent_id, after), current

    async def list_metadata(self, actor: Actor, agent_id: UUID) -> Sequence[Metadata]:
        """List what an agent collects."""
        async with self._pool.connection() as db:
            await _readable(db, actor, agent_id)
            return await agent_metadata.list_of_agent(db, agent_id)

    async def metadata_of(self, agent_id: UUID) -> Sequence[Metadata]:
        """List what an agent collects, for one who was let in."""
        async with self._pool.connection() as db:
            return await agent_metadata.list_of_agent(db, agent_id)

    # What agents do by REST.

    async def add_log_source(self, located: Located, source_id: UUID, display_name: str, icon: str) -> LogSource:
        """Store a source of log lines unless it is there."""
        source = LogSource(located.agent.id, source_id, display_name, icon, self._clock.now())
        async with self._pool.connection() as db:
            await agent_logs.upsert_source(db, source)
        return source

    async def append_logs(self, located: Located, source_id: UUID, lines: Sequence[tuple[str, str]]) -> None:
        """Store lines of a log.

        Raises:
            Invalid: there are none.
            LogsOverflowed: the log is full.
        """
        if not lines:
            raise Invalid("No logs provided.")
        async with self._pool.connection() as db:
            stored = await append_logs(db, located, source_id, lines, self._clock.now())
        if not stored:
            raise LogsOverflowed("Logs limit exceeded")

    async def report_app_status(self, located: Located, slug: str, state: str, message: str, uri: str) -> None:
        """Store what an app says it is doing.

        Raises:
            Invalid: the state, the message or the app is not one that can be.
        """
        check_app_status(state, message)
        async with self._pool.connection() as db:
            await store_app_status(db, located, slug, state, message, uri, self._clock.now())


def check_app_status(state: str, message: str) -> None:
    """Refuse a malformed app status.

    Raises:
        Invalid: with the field.
    """
    if state not in ("working", "idle", "complete", "failure"):
        raise Invalid("Failed to parse request.", violations=[Violation("state", f"invalid state: {state!r}")])
    if len(message.encode()) > MAX_APP_STATUS_BYTES:
        detail = f"Message must be less than {MAX_APP_STATUS_BYTES} characters."
        raise Invalid("Message is too long.", detail=detail, violations=[Violation("message", detail)])


async def store_app_status(
    db: AsyncConnection, located: Located, slug: str, state: str, message: str, uri: str, now: datetime
) -> None:
    """Store what an app says it is doing.

    Raises:
        Invalid: the agent has no such app.
    """
    app = next((app for app in await agents.list_apps(db, [located.agent.id]) if app.slug == slug), None)
    if app is None:
        raise Invalid("Failed to get workspace app.", detail=f"No app found with slug {slug!r}")
    status = AppStatus(uuid4(), app.id, located.agent.id, located.place.workspace_id, state, message, uri, now)
    await agents.insert_app_status(db, status)
    await report_change(db, located)


async def _readable(db: AsyncConnection, actor: Actor, agent_id: UUID) -> Located:
    located = await agents.get(db, agent_id)
    workspace = await workspaces.get(db, located.place.workspace_id)
    actor.require(Action.READ, as_object(workspace))
    return located
