"""Some routes behind the real gate, on a port of their own, and tokens for them."""

from __future__ import annotations

import socket
import warnings
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

import anyio
import uvicorn
from litestar import Litestar
from litestar.di import Provide
from litestar.exceptions import HTTPException
from litestar.exceptions.base_exceptions import LitestarDeprecationWarning

from tests.integration.builds.world import World
from warren.api import auth, errors
from warren.api.gate import Gate, GateSettings
from warren.api.json import JSONResponse
from warren.domain.user import LoginType
from warren.services.passwords import Passwords
from warren.services.sessions import Sessions, SessionSettings, new_key
from warren.storage import api_keys

HEADER = "Coder-Session-Token"


async def new_token(world: World, user_id: UUID) -> str:
    """Sign a user in."""
    created = new_key(user_id=user_id, login_type=LoginType.TOKEN, lifetime=timedelta(days=1), now=world.clock.now())
    async with world.pool.connection() as db:
        await api_keys.insert(db, created.key, None)
    return created.token


@asynccontextmanager
async def serve_routes(world: World, modules: Sequence[Any], given: Mapping[str, object]) -> AsyncGenerator[str]:
    """Serve the routes of some modules, whose handlers are given values by name; yield the URL."""
    config = uvicorn.Config(
        _app(world, modules, given),
        lifespan="off",
        log_level="warning",
        ws="websockets-sansio",
        ws_per_message_deflate=False,
    )
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    server = _Server(config)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(server.serve, [listener])
        await server.listening.wait()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True


def _app(world: World, modules: Sequence[Any], given: Mapping[str, object]) -> Gate:
    dependencies = {name: Provide(_constant(value), sync_to_thread=False) for name, value in given.items()}
    dependencies["actor"] = Provide(auth.actor, sync_to_thread=False)
    dependencies["agent_token"] = Provide(auth.agent_token, sync_to_thread=False)
    with warnings.catch_warnings():
        # Handlers name what they need; Litestar 3 will want each such name marked.
        warnings.simplefilter("ignore", LitestarDeprecationWarning)
        app = Litestar(
            route_handlers=[handler for module in modules for handler in module.routes],
            dependencies=dependencies,
            response_class=JSONResponse,
            exception_handlers={Exception: errors.respond, HTTPException: errors.respond},
            after_exception=[errors.remember],
            openapi_config=None,
            logging_config=None,
        )
    sessions = Sessions(world.pool, world.clock, Passwords(), SessionSettings())
    return Gate(app, sessions, world.clock, GateSettings("v0.1.0"), _observe)


def _constant(value: Any) -> Callable[[], Any]:  # Any: Litestar hands it to whoever names it
    def give() -> Any:
        return value

    return give


def _observe(method: str, route: str, status: int, seconds: float) -> None:
    del method, route, status, seconds


class _Server(uvicorn.Server):
    """Tells when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = anyio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()
