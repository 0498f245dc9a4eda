"""A whole server for tests: real database, real port, users that are signed in."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from warren.sdk.client import Client
from warren.sdk.types.users import CreateFirstUser, CreateUser
from warren.server.run import Started, running
from warren.settings import load

EMAIL, PASSWORD = "admin@example.com", "Sup3rSecret!pw"


@dataclass
class Site:
    """A running server and its first user."""

    started: Started
    admin: Client
    _stack: AsyncExitStack
    _members: dict[str, Client] = field(default_factory=dict[str, Client])

    @property
    def url(self) -> str:
        return self.started.urls[0]

    async def anonymous(self) -> Client:
        """Make a client without a token."""
        return await self._stack.enter_async_context(Client(self.url))

    async def signed_in(self, email: str, password: str = PASSWORD) -> Client:
        """Sign in."""
        token = await (await self.anonymous()).users.login(email, password)
        return await self._stack.enter_async_context(Client(self.url, token=token))

    async def member(self, username: str) -> Client:
        """Make an ordinary user of the default organization, and sign in; the same one when asked again."""
        if username not in self._members:
            organization = (await self.admin.organizations.mine())[0]
            email = f"{username}@example.com"
            wanted = CreateUser(email=email, username=username, password=PASSWORD, organization_ids=[organization.id])
            await self.admin.users.create(wanted)
            self._members[username] = await self.signed_in(email)
        return self._members[username]


@asynccontextmanager
async def open_site(database_url: str, folder: Path, *, daemons: int, **flags: object) -> AsyncGenerator[Site]:
    """Run a server with a first user; `flags` are settings by name."""
    wanted: dict[str, object] = {
        "http_address": "127.0.0.1:0",
        "postgres_url": database_url,
        "cache_dir": str(folder / "cache"),
        "provisioner_daemons": daemons,
        "derp_server_stun_addresses": ["disable"],
        "stun_address": "",
        "dangerous_disable_rate_limits": True,
        **flags,
    }
    async with running(load(wanted, {}, None), folder / "config") as started, AsyncExitStack() as stack:
        anonymous = await stack.enter_async_context(Client(started.urls[0]))
        await anonymous.users.create_first(
            CreateFirstUser(email=EMAIL, username="admin", password=PASSWORD, name="Admin")
        )
        token = await anonymous.users.login(EMAIL, PASSWORD)
        admin = await stack.enter_async_context(Client(started.urls[0], token=token))
        yield Site(started, admin, stack)
