"""The calls by which an agent keeps sub-agents, one for each dev container."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from warren.clock import Clock
from warren.domain import sub_agent as rules
from warren.errors import NotFound
from warren.rpc import convert_sub_agent as convert
from warren.rpc._pb import agent_pb2 as pb
from warren.rpc.convert_tailnet import uuid_from_bytes
from warren.rpc.drpc import Handler
from warren.rpc.methods import AgentAPI, AnyMethod
from warren.services.agents import report_change
from warren.storage import sub_agents
from warren.storage.agents import AgentIdentity


class SubAgents:
    """The sub-agents of one connected agent."""

    def __init__(self, pool: AsyncConnectionPool, clock: Clock, identity: AgentIdentity) -> None:
        self._pool = pool
        self._clock = clock
        self._identity = identity

    def handlers(self) -> Mapping[AnyMethod, Handler]:
        """Name the handler of each call."""
        return {
            AgentAPI.CreateSubAgent: self.create,
            AgentAPI.DeleteSubAgent: self.delete,
            AgentAPI.ListSubAgents: self.list,
        }

    async def create(self, request: pb.CreateSubAgentRequest) -> pb.CreateSubAgentResponse:
        """Make a sub-agent, or bring one up to date that the template made."""
        new = convert.new_from_message(request)
        async with self._pool.connection() as db:
            if request.HasField("id"):
                response = await self._update(db, uuid_from_bytes(request.id), new)
            else:
                response = await self._insert(db, new)
            await report_change(db, self._identity)
        return response

    async def _update(
        self, db: AsyncConnection, sub_agent_id: UUID, new: rules.NewSubAgent
    ) -> pb.CreateSubAgentResponse:
        for found in await sub_agents.list_of_parent(db, self._identity.agent_id):
            if found.id == sub_agent_id:
                now = self._clock.now()
                await sub_agents.update(db, found.id, directory=new.directory, display_apps=new.display_apps, now=now)
                return pb.CreateSubAgentResponse(agent=convert.sub_agent_to_message(found))
        raise NotFound(f"the agent has no sub-agent {sub_agent_id}")

    async def _insert(self, db: AsyncConnection, new: rules.NewSubAgent) -> pb.CreateSubAgentResponse:
        rules.check_name(new.name)
        now = self._clock.now()
        found = await sub_agents.insert(db, self._identity.agent_id, new, now)
        most = await sub_agents.most_sharing(db, self._identity.template_id)
        apps, problems = rules.check_apps(new.apps)
        for app in apps:
            slug, level = rules.stored_slug(new.name, app.slug), rules.clamp_level(app.sharing_level, most)
            await sub_agents.insert_app(db, found.id, app, slug=slug, sharing_level=level, now=now)
        return pb.CreateSubAgentResponse(
            agent=convert.sub_agent_to_message(found),
            app_creation_errors=[convert.problem_to_message(problem) for problem in problems],
        )

    async def delete(self, request: pb.DeleteSubAgentRequest) -> pb.DeleteSubAgentResponse:
        """Remove a sub-agent."""
        sub_agent_id = uuid_from_bytes(request.id)
        async with self._pool.connection() as db:
            if not await sub_agents.delete(db, self._identity.agent_id, sub_agent_id):
                raise NotFound(f"the agent has no sub-agent {sub_agent_id}")
            await report_change(db, self._identity)
        return pb.DeleteSubAgentResponse()

    async def list(self, _: pb.ListSubAgentsRequest) -> pb.ListSubAgentsResponse:
        """List the sub-agents with their tokens."""
        async with self._pool.connection() as db:
            found = await sub_agents.list_of_parent(db, self._identity.agent_id)
        return pb.ListSubAgentsResponse(agents=[convert.sub_agent_to_message(each) for each in found])
