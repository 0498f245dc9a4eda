"""The routes about agents behind the real gate, on a real port."""

from __future__ import annotations

import secrets
import socket
import warnings
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import anyio
import httpx2
import uvicorn
from litestar import Litestar
from litestar.di import Provide
from litestar.exceptions import HTTPException
from litestar.exceptions.base_exceptions import LitestarDeprecationWarning

from tests.integration.agents.agency import Agency
from warren.api import auth, errors
from warren.api.gate import Gate, GateSettings
from warren.api.json import JSONResponse
from warren.api.routes import agent_rpc, agents, tailnet
from warren.authz.policy import Actor
from warren.domain import token as tokens
from warren.rpc import drpc, websocket
from warren.rpc.multiplexer import Multiplexer
from warren.services.passwords import Passwords
from warren.services.sessions import Sessions, SessionSettings
from warren.services.workspace_updates import WorkspaceUpdates
from warren.storage import build_tokens

HEADER = "Coder-Session-Token"


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


async def _token(agency: Agency, actor: Actor) -> str:
    world = agency.world
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


def _app(agency: Agency) -> Gate:
    world = agency.world
    given: dict[str, Any] = {
        "agents": agency.agents,
        "agent_rpc": agency.rpc,
        "coordination": agency.coordination,
        "resume_tokens": agency.resume_tokens,
        "workspace_updates": WorkspaceUpdates(world.pool, world.notifier),
    }
    dependencies = {name: Provide(_constant(value), sync_to_thread=False) for name, value in given.items()}
    dependencies["actor"] = Provide(auth.actor, sync_to_thread=False)
    dependencies["agent_token"] = Provide(auth.agent_token, sync_to_thread=False)
    with warnings.catch_warnings():
        # Handlers name what they need; Litestar 3 will want each such name marked.
        warnings.simplefilter("ignore", LitestarDeprecationWarning)
        app = Litestar(
            route_handlers=[handler for module in (agents, agent_rpc, tailnet) for handler in module.routes],
            dependencies=dependencies,
            response_class=JSONResponse,
            exception_handlers={Exception: errors.respond, HTTPException: errors.respond},
            after_exception=[errors.remember],
            openapi_config=None,
            logging_config=None,
        )
    sessions = Sessions(world.pool, world.clock, Passwords(), SessionSettings())
    return Gate(app, sessions, world.clock, GateSettings("v0.1.0"), _observe)


@asynccontextmanager
async def open_site(agency: Agency) -> AsyncGenerator[Site]:
    """Serve the routes on a port of their own."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    config = uvicorn.Config(
        _app(agency), lifespan="off", log_level="warning", ws="websockets-sansio", ws_per_message_deflate=False
    )
    server = _Server(config)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    admin_token = await _token(agency, agency.world.admin)
    member_token = await _token(agency, agency.world.member)
    base_url = url + "/api/v2"
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(server.serve, [listener])
        await server.listening.wait()
        async with (
            httpx2.AsyncClient(base_url=base_url, headers={HEADER: admin_token}) as admin,
            httpx2.AsyncClient(base_url=base_url, headers={HEADER: member_token}) as member,
            httpx2.AsyncClient(base_url=base_url, headers={HEADER: str(agency.token)}) as agent,
        ):
            yield Site(agency, url, admin, member, agent, admin_token, member_token)
        server.should_exit = True
