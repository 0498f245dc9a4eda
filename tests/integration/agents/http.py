"""The routes about agents behind the real gate, on a real port."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import httpx2

from tests.integration.agents.agency import Agency
from tests.integration.routes import HEADER, new_token, serve_routes
from warren.api.routes import agent_rpc, agents, tailnet
from warren.rpc import drpc, websocket
from warren.rpc.multiplexer import Multiplexer
from warren.services.deployment import Deployment, DeploymentSettings
from warren.services.workspace_updates import WorkspaceUpdates


@dataclass
class Site:
    """A running server and who may ask it."""

    agency: Agency
    url: str
    admin: httpx2.AsyncClient
    member: httpx2.AsyncClient
    agent: httpx2.AsyncClient
    admin_token: str
    member_token: str

    @asynccontextmanager
    async def socket(self, path: str, token: str | UUID) -> AsyncGenerator[Any]:
        """Open a WebSocket as bytes."""
        url = self.url.replace("http", "ws", 1) + "/api/v2" + path
        async with websocket.connect(url, headers={HEADER: str(token)}) as stream:
            yield stream

    @asynccontextmanager
    async def calls(self, path: str, token: str | UUID) -> AsyncGenerator[drpc.Client]:
        """Open a WebSocket for remote calls."""
        async with self.socket(path, token) as stream, Multiplexer(stream, client=True) as mux:
            yield drpc.Client(mux)


_DEPLOYMENT = DeploymentSettings(
    version="v0.1.0",
    access_url="http://warren.test",
    wildcard_host="",
    docs_url="",
    hostname_prefix="coder.",
    hostname_suffix="coder",
    ssh_config_options={},
    upgrade_message="",
    terms_of_service_url="",
    experiments=(),
    config={},
    options=(),
)


@asynccontextmanager
async def open_site(agency: Agency) -> AsyncGenerator[Site]:
    """Serve the routes, and sign two users and an agent in."""
    world = agency.world
    admin_token = await new_token(world, world.admin.user_id)
    member_token = await new_token(world, world.member.user_id)
    given = {
        "agents": agency.agents,
        "agent_rpc": agency.rpc,
        "coordination": agency.coordination,
        "resume_tokens": agency.resume_tokens,
        "workspace_updates": WorkspaceUpdates(world.pool, world.notifier),
        "deployment": Deployment(world.pool, world.clock, uuid4(), _DEPLOYMENT),
    }
    async with (
        serve_routes(world, (agents, agent_rpc, tailnet), given) as url,
        httpx2.AsyncClient(base_url=url + "/api/v2", headers={HEADER: admin_token}) as admin,
        httpx2.AsyncClient(base_url=url + "/api/v2", headers={HEADER: member_token}) as member,
        httpx2.AsyncClient(base_url=url + "/api/v2", headers={HEADER: str(agency.token)}) as agent,
    ):
        yield Site(agency, url, admin, member, agent, admin_token, member_token)
