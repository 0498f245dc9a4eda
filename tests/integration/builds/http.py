"""The routes about templates, workspaces and builds behind the real gate, on a real port."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import httpx2

from tests.integration.builds.world import World
from tests.integration.routes import HEADER, new_token, serve_routes
from warren.api.routes import builds, provisioner_keys, provisioners, template_versions, templates, workspaces
from warren.api.workspace_pages import WorkspacePages
from warren.services.lookups import Lookups
from warren.services.provisioner_keys import ProvisionerKeys

PSK = "a secret that daemons share"
MODULES = (builds, provisioner_keys, provisioners, template_versions, templates, workspaces)


@dataclass
class Site:
    """A running server and who may ask it."""

    world: World
    url: str
    admin: httpx2.AsyncClient
    member: httpx2.AsyncClient
    admin_token: str


@asynccontextmanager
async def open_site(world: World) -> AsyncGenerator[Site]:
    """Serve the routes, and sign two users in."""
    admin_token = await new_token(world, world.admin.user_id)
    member_token = await new_token(world, world.member.user_id)
    given = {
        "workspaces": world.workspaces,
        "builds": world.builds,
        "templates": world.templates,
        "template_versions": world.versions,
        "jobs": world.jobs,
        "lookups": Lookups(world.pool),
        "provisioner_keys": ProvisionerKeys(world.pool, world.clock, psk=PSK),
        "provisionerd": world.provisionerd,
        "workspace_pages": WorkspacePages(world.workspaces, world.clock),
    }
    async with (
        serve_routes(world, MODULES, given) as url,
        httpx2.AsyncClient(base_url=url + "/api/v2", headers={HEADER: admin_token}) as admin,
        httpx2.AsyncClient(base_url=url + "/api/v2", headers={HEADER: member_token}) as member,
        AsyncExitStack() as stack,
    ):
        world.stack = stack  # what tests open from here on must be closed before the server is
        yield Site(world, url, admin, member, admin_token)
