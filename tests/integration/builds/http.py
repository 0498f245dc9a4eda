"""The routes about templates, workspaces and builds behind the real gate, on a real port."""

from __future__ import annotations

import secrets
import socket
import warnings
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import anyio
import httpx2
import uvicorn
from litestar import Litestar
from litestar.di import Provide
from litestar.exceptions import HTTPException
from litestar.exceptions.base_exceptions import LitestarDeprecationWarning

from tests.integration.builds.world import World
from warren.api import auth, errors
from warren.api.gate import Gate, GateSettings
from warren.api.json import JSONResponse
from warren.api.routes import builds, provisioner_keys, provisioners, template_versions, templates, workspaces
from warren.api.workspace_pages import WorkspacePages
from warren.authz.policy import Actor
from warren.domain import token as tokens
from warren.services.lookups import Lookups
from warren.services.passwords import Passwords
from warren.services.provisioner_keys import ProvisionerKeys
from warren.services.sessions import Sessions, SessionSettings
from warren.storage import build_tokens

HEADER = "Coder-Session-Token"
PSK = "a secret that daemons share"


@dataclass
class Site:
    """A running server and who may ask it."""

    world: World
    url: str
    admin: httpx2.AsyncClient
    member: httpx2.AsyncClient
    admin_token: str


async def _token(world: World, actor: Actor) -> str:
    key_id, secret = tokens.text(secrets.token_bytes(tokens.ID_LENGTH + tokens.SECRET_LENGTH))
    async with world.pool.connection() as db:
        await build_tokens.insert(
            db,
            key_id=key_id,
            hashed_secret=tokens.hashed(secret),
            owner_id=actor.user_id,
            name="test",
            lifetime=timedelta(days=1),
            now=world.clock.now(),
        )
    return f"{key_id}-{secret}"


def _observe(method: str, route: str, status: int, seconds: float) -> None:
    del method, route, status, seconds


def _constant(value: Any) -> Callable[[], Any]:
    def give() -> Any:
        return value

    return give


class _Server(uvicorn.Server):
    """Tells when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = anyio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()


def _app(world: World) -> Gate:
    given: dict[str, Any] = {
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
    dependencies = {name: Provide(_constant(value), sync_to_thread=False) for name, value in given.items()}
    dependencies["actor"] = Provide(auth.actor, sync_to_thread=False)
    modules = (builds, provisioner_keys, provisioners, template_versions, templates, workspaces)
    with warnings.catch_warnings():
        # Handlers name what they need; Litestar 3 will want each such name marked.
        warnings.simplefilter("ignore", LitestarDeprecationWarning)
        app = _litestar(modules, dependencies)
    sessions = Sessions(world.pool, world.clock, Passwords(), SessionSettings())
    return Gate(app, sessions, world.clock, GateSettings("v0.1.0"), _observe)


def _litestar(modules: Sequence[Any], dependencies: dict[str, Provide]) -> Litestar:
    return Litestar(
        route_handlers=[handler for module in modules for handler in module.routes],
        dependencies=dependencies,
        response_class=JSONResponse,
        exception_handlers={Exception: errors.respond, HTTPException: errors.respond},
        after_exception=[errors.remember],
        openapi_config=None,
        logging_config=None,
    )


@asynccontextmanager
async def open_site(world: World) -> AsyncGenerator[Site]:
    """Serve the routes on a port of their own."""
    app = _app(world)
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    server = _Server(uvicorn.Config(app, lifespan="off", log_level="warning", ws="websockets-sansio"))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    admin_token, member_token = await _token(world, world.admin), await _token(world, world.member)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(server.serve, [listener])
        await server.listening.wait()
        async with (
            httpx2.AsyncClient(base_url=url + "/api/v2", headers={HEADER: admin_token}) as admin,
            httpx2.AsyncClient(base_url=url + "/api/v2", headers={HEADER: member_token}) as member,
            AsyncExitStack() as stack,
        ):
            world.stack = stack  # what tests open from here on must be closed before the server is
            yield Site(world, url, admin, member, admin_token)
        server.should_exit = True
