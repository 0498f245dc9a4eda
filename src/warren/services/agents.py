"""Agents: reading them, watching their logs and metadata, and what they do by REST."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID, uuid4

import anyio
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from warren.authz.policy import Action, Actor, Object
from warren.clock import Clock
from warren.domain import agent as rules
from warren.domain.agent import (
    EXTERNAL_LOG_SOURCE,
    LOG_LEVELS,
    LOGS_LIMIT_BYTES,
    AgentParts,
    AgentStatus,
    AgentView,
    Latency,
    LogLine,
    LogSource,
    MetadataItem,
)
from warren.errors import Conflict, Forbidden, Invalid, NotFound, TooLarge, Unauthenticated, Violation
from warren.services.builds import TOPIC as WORKSPACE
from warren.services.builds import as_object
from warren.services.coordination import Coordination
from warren.storage import agent_logs, agent_metadata, agents, workspaces
from warren.storage.agents import AgentIdentity
from warren.storage.notify import Notifier, publish

AGENT = "agent"
AGENT_LOGS = "agent.logs"
AGENT_METADATA = "agent.metadata"

NO_USER_DATA = "no_user_data"
LOGS_PAGE = 10_000
LOGS_POLL_SECONDS = 60.0
METADATA_PAUSE_SECONDS = 1.0  # people do not read faster, and each look costs a query
METADATA_POLL_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """What agents and their clients are told of the deployment. `replica_id` names this process."""

    access_url: str
    replica_id: UUID
    wildcard_app_host: str = ""
    block_direct: bool = False
    force_websockets: bool = False
    hostname_suffix: str = ""
    stats_interval: timedelta = timedelta(seconds=30)


async def report_change(db: AsyncConnection, identity: AgentIdentity) -> None:
    """Wake those who watch an agent or its workspace."""
    await publish(db, AGENT, identity.agent_id)
    await publish(db, WORKSPACE, identity.workspace_id)


class Agents:
    """The use cases of agents that people, and agents by REST, have."""

    def __init__(
        self,
        pool: AsyncConnectionPool,
        notifier: Notifier,
        clock: Clock,
        coordination: Coordination,
        settings: AgentSettings,
    ) -> None:
        self._pool = pool
        self._notifier = notifier
        self._clock = clock
        self._coordination = coordination
        self.settings = settings

    @property
    def clock(self) -> Clock:
        """What time it is, for ages that are shown."""
        return self._clock

    # Reading ----------------------------------------------------------------------------------------------------------

    async def agents_of_resources(
        self, db: AsyncConnection, resource_ids: Sequence[UUID]
    ) -> Mapping[UUID, Sequence[AgentView]]:
        """Read the agents of resources as people see them, in one statement."""
        now = self._clock.now()
        found = await agents.list_of_resources(db, resource_ids)
        return {resource_id: [self._view(parts, now) for parts in each] for resource_id, each in found.items()}

    async def get(self, actor: Actor, agent_id: UUID) -> AgentView:
        """Read an agent."""
        async with self._pool.connection() as db:
            await _workspace_object(db, actor, agent_id)
            return self._view(await agents.get_parts(db, agent_id), self._clock.now())

    def _view(self, parts: AgentParts, now: datetime) -> AgentView:
        return rules.view(
            parts,
            now,
            latency=self._latency(parts.agent.id),
            subdomain_apps=bool(self.settings.wildcard_app_host),
        )

    def _latency(self, agent_id: UUID) -> Mapping[str, Latency]:
        node = self._coordination.node(agent_id)
        if node is None:
            return {}
        names = {number: region.region_name for number, region in self._coordination.derp_maps.current.regions.items()}
        return rules.latencies(node.region_latency_seconds, node.preferred_region, names)

    async def check_readable(self, actor: Actor, agent_id: UUID) -> None:
        """Insist that an agent is there and the actor may see it.

        Raises:
            NotFound: it is not, or the actor may not.
        """
        async with self._pool.connection() as db:
            await _workspace_object(db, actor, agent_id)

    async def check_connectable(self, actor: Actor, agent_id: UUID) -> None:
        """Insist that the actor may connect to an agent.

        Raises:
            NotFound: there is none, or the actor may not.
        """
        if not await self.may_connect(actor, agent_id):
            raise NotFound

    async def may_connect(self, actor: Actor, agent_id: UUID) -> bool:
        """Say whether the actor may connect to an agent."""
        async with self._pool.connection() as db:
            try:
                thing = await _workspace_object(db, actor, agent_id)
            except NotFound:
                return False
        return actor.may(Action.SSH, thing)

    async def check_connected(self, actor: Actor, agent_id: UUID) -> None:
        """Insist that an agent can be asked something.

        Raises:
            Invalid: it is not connected.
        """
        view = await self.get(actor, agent_id)
        if view.status is not AgentStatus.CONNECTED:
            raise Invalid(f'Agent state is "{view.status}", it must be in the "connected" state.')

    async def list_logs(self, actor: Actor, agent_id: UUID, after: int) -> Sequence[LogLine]:
        """List the lines of an agent's log with a greater id."""
        async with self._pool.connection() as db:
            await _workspace_object(db, actor, agent_id)
            return await agent_logs.list_after(db, agent_id, after, limit=LOGS_PAGE)

    async def follow_logs(self, agent_id: UUID, after: int) -> AsyncGenerator[Sequence[LogLine]]:
        """Yield lines as they come, at once even if there are none; ends when the agent's build is outdated."""
        async with self._notifier.subscribe(AGENT_LOGS, agent_id) as changes:
            first = True
            while True:
                async with self._pool.connection() as db:
                    home = await agents.find_home(db, agent_id)
                    lines = await agent_logs.list_after(db, agent_id, after, limit=LOGS_PAGE)
                if lines or first:
                    yield lines
                first = False
                after = lines[-1].id if lines else after
                if len(lines) == LOGS_PAGE:
                    continue
                if home is None or not home.latest:
                    return
                await changes.wait(LOGS_POLL_SECONDS)

    async def watch_metadata(self, agent_id: UUID) -> AsyncGenerator[Sequence[MetadataItem]]:
        """Yield what an agent collects: at once, when something changed, and every few seconds."""
        async with self._notifier.subscribe(AGENT_METADATA, agent_id) as changes:
            while True:
                async with self._pool.connection() as db:
                    items = await agent_metadata.list_of_agent(db, agent_id)
                yield items
                await anyio.sleep(METADATA_PAUSE_SECONDS)
                await changes.wait(METADATA_POLL_SECONDS - METADATA_PAUSE_SECONDS)

    # What agents do by REST -------------------------------------------------------------------------------------------

    async def authenticate(self, auth_token: UUID) -> AgentIdentity:
        """Return the agent that a token stands for.

        Raises:
            Unauthenticated: it stands for none.
            Forbidden: it stands for one of an older build.
        """
        async with self._pool.connection() as db:
            identity = await agents.find_identity(db, auth_token)
        if identity is None:
            raise Unauthenticated(
                "Workspace agent not authorized.",
                detail="The agent cannot authenticate until the workspace provision job has been completed."
                " If the job is no longer running, this agent is invalid.",
            )
        if not rules.may_connect(identity.build, identity.latest_build):
            raise Forbidden("Agent trying to connect from non-latest build.")
        return identity

    async def ssh_key(self, identity: AgentIdentity) -> tuple[str, str]:
        """Read the public and the private key that the owner's workspaces use for git.

        Raises:
            Forbidden: the template keeps personal data from its agents.
            NotFound: the owner has no key.
        """
        check_personal(identity)
        async with self._pool.connection() as db:
            found = await agents.find_ssh_key(db, identity.owner_id)
        if found is None:
            raise NotFound
        return found

    async def add_log_source(self, identity: AgentIdentity, source_id: UUID, display_name: str, icon: str) -> LogSource:
        """Store a source of log lines unless it is there."""
        source = LogSource(source_id, self._clock.now(), display_name, icon)
        async with self._pool.connection() as db:
            await agent_logs.insert_source(db, identity.agent_id, source)
        return source

    async def add_logs(self, identity: AgentIdentity, source_id: UUID, lines: Sequence[tuple[str, str]]) -> None:
        """Store lines of a log, each a level and an output.

        Raises:
            Invalid: there are none, or a level is unknown.
            TooLarge: the log is full.
        """
        if not lines:
            raise Invalid("No logs provided.")
        if any(level not in LOG_LEVELS for level, _ in lines):
            raise Invalid("Invalid log level provided.")
        async with self._pool.connection() as db:
            stored = await append_logs(db, identity, source_id, lines, self._clock.now())
        if not stored:
            raise TooLarge("Logs limit exceeded")

    async def set_app_status(self, identity: AgentIdentity, slug: str, state: str, message: str, uri: str) -> None:
        """Store what an app says that it is doing.

        Raises:
            Invalid: the state, the message or the app is not one that can be.
        """
        async with self._pool.connection() as db:
            await store_app_status(db, identity, slug, state, message, uri, self._clock.now())

    async def check_prebuild(self, identity: AgentIdentity) -> None:
        """Refuse to wait for the claim of a prebuilt workspace: there are none.

        Raises:
            Conflict: always.
        """
        del identity
        raise Conflict("Workspace is not a prebuilt workspace waiting to be claimed.")


def check_personal(identity: AgentIdentity) -> None:
    """Insist that an agent may have personal data of its owner.

    Raises:
        Forbidden: its template says that it may not.
    """
    if identity.api_key_scope == NO_USER_DATA:
        raise Forbidden("Forbidden.", detail=f"The agent's API key scope is `{NO_USER_DATA}`.")


async def append_logs(
    db: AsyncConnection, identity: AgentIdentity, source_id: UUID, lines: Sequence[tuple[str, str]], now: datetime
) -> bool:
    """Store lines, each a level and an output; False when the log is or would be too long, and nothing was stored."""
    agent = await agents.lock(db, identity.agent_id)
    if agent.logs_overflowed:
        return False
    if not lines:
        return True
    cleaned = [(level, rules.clean_output(output)) for level, output in lines]
    length = agent.logs_length + sum(len(output.encode()) for _, output in cleaned)
    if length > LOGS_LIMIT_BYTES:
        await agent_logs.set_overflowed(db, agent.id)
        await report_change(db, identity)
        return False
    if not source_id.int:
        source_id = EXTERNAL_LOG_SOURCE
        await agent_logs.insert_source(db, agent.id, LogSource(source_id, now, "External", "/emojis/1f310.png"))
    await agent_logs.insert(db, agent.id, source_id, cleaned, now)
    await agent_logs.set_length(db, agent.id, length)
    await publish(db, AGENT_LOGS, agent.id)
    if not agent.logs_length:
        await report_change(db, identity)
    return True


async def store_app_status(
    db: AsyncConnection, identity: AgentIdentity, slug: str, state: str, message: str, uri: str, now: datetime
) -> None:
    """Store what an app says that it is doing.

    Raises:
        Invalid: the state, the message or the app is not one that can be.
    """
    cleaned = rules.check_app_status(state, message)
    apps = await agents.list_apps(db, identity.agent_id)
    app_id = next((app_id for app_id, (name, _, _) in apps.items() if name == slug), None)
    if app_id is None:
        violation = Violation("app_slug", f'No app found with slug "{slug}"')
        raise Invalid("Failed to get workspace app.", detail=f'no app with slug "{slug}"', violations=[violation])
    await agents.insert_app_status(
        db,
        status_id=uuid4(),
        app_id=app_id,
        agent_id=identity.agent_id,
        workspace_id=identity.workspace_id,
        state=state,
        message=cleaned,
        uri=uri,
        now=now,
    )
    await report_change(db, identity)


async def _workspace_object(db: AsyncConnection, actor: Actor, agent_id: UUID) -> Object:
    """Read what the workspace of an agent is to the policy.

    Raises:
        NotFound: there is no such agent, or the actor may not see its workspace.
    """
    home = await agents.find_home(db, agent_id)
    if home is None:
        raise NotFound
    thing = as_object(await workspaces.get(db, home.workspace_id))
    if not actor.may(Action.READ, thing):
        raise NotFound
    return thing
