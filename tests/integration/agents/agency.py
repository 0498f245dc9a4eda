"""The services around agents on a real database, with a workspace whose agent a test plays."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import UUID, uuid4

import anyio

from tests.integration.builds.scripted_daemon import ScriptedDaemon, agent, resource
from tests.integration.builds.world import World
from warren.domain.agent import AgentView
from warren.net.coordinator import ClientAuth
from warren.net.derp_map import DERPMap, DERPRegion
from warren.rpc import drpc
from warren.rpc._pb import provisioner_pb2 as pb
from warren.rpc.memory import stream_pair
from warren.rpc.multiplexer import Multiplexer
from warren.services.agent_rpc import AgentRPC
from warren.services.agents import Agents, AgentSettings
from warren.services.coordination import Coordination, DERPMaps
from warren.services.metadata_writer import MetadataWriter
from warren.services.resume_tokens import ResumeTokens
from warren.services.workspaces import WorkspaceDetail

APP_ID = uuid4()
DERP_MAP = DERPMap({999: DERPRegion(999, "coder", "Embedded", embedded_relay=True)})


def template_agent(token: UUID) -> pb.Agent:
    """Describe an agent with an app whose health is probed, as a provisioner reports it."""
    check = pb.Healthcheck(url="http://localhost:8080/healthz", interval=5, threshold=3)
    apps = [
        pb.App(id=str(APP_ID), slug="code", display_name="Code", url="http://localhost:8080", healthcheck=check),
        pb.App(id=str(uuid4()), slug="shell", command="bash"),
    ]
    found = agent(token=str(token), apps=apps)
    found.resources_monitoring.CopyFrom(
        pb.ResourcesMonitoring(
            memory=pb.MemoryResourceMonitor(enabled=True, threshold=80),
            volumes=[pb.VolumeResourceMonitor(path="/home", enabled=True, threshold=90)],
        )
    )
    return found


@dataclass
class Agency:
    """All services of agents, and the workspace `dev` of the admin."""

    world: World
    coordination: Coordination
    metadata: MetadataWriter
    agents: Agents
    rpc: AgentRPC
    resume_tokens: ResumeTokens
    daemon: ScriptedDaemon
    workspace: WorkspaceDetail
    token: UUID
    agent_id: UUID

    @asynccontextmanager
    async def connect_agent(
        self, *, token: UUID | None = None, monitored: bool = True
    ) -> AsyncGenerator[tuple[drpc.Client, Multiplexer]]:
        """Connect as the agent."""
        identity = await self.agents.authenticate(token or self.token)
        ours, theirs = await stream_pair()

        async def serve() -> None:
            await self.rpc.serve(theirs, identity, api_version="2.10", monitored=monitored)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(serve)
            async with Multiplexer(ours, client=True) as mux:
                yield drpc.Client(mux), mux

    @asynccontextmanager
    async def connect_client(self, peer_id: UUID | None = None) -> AsyncGenerator[drpc.Client]:
        """Connect as a client of the agent."""
        ours, theirs = await stream_pair()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.coordination.serve, theirs, peer_id or uuid4(), ClientAuth(self.agent_id))
            async with Multiplexer(ours, client=True) as mux:
                yield drpc.Client(mux)

    async def view(self) -> AgentView:
        """Read the agent as its owner sees it."""
        return await self.agents.get(self.world.admin, self.agent_id)


@asynccontextmanager
async def open_agency(world: World) -> AsyncGenerator[Agency]:
    """Open the services of agents, and build a workspace."""
    resume_tokens = ResumeTokens(world.pool, world.clock)
    coordination = Coordination(DERPMaps(DERP_MAP), resume_tokens)
    settings = AgentSettings("http://warren.test", uuid4(), wildcard_app_host="*.apps.test")
    metadata = MetadataWriter(world.pool, world.clock)
    agents = Agents(world.pool, world.notifier, world.clock, coordination, settings)
    rpc = AgentRPC(world.pool, world.clock, coordination, metadata, settings, ping_seconds=0.05)
    daemon = await world.daemon()
    workspace = await world.workspace(await world.template(daemon))
    token = uuid4()
    await daemon.build(resources=[resource(template_agent(token))])
    identity = await agents.authenticate(token)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(metadata.run)
        yield Agency(
            world,
            coordination,
            metadata,
            agents,
            rpc,
            resume_tokens,
            daemon,
            workspace,
            token,
            identity.agent_id,
        )
        tasks.cancel_scope.cancel()
