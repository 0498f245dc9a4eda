"""The typed client of the HTTP API: `Client(url, token=…)`, then `client.workspaces.list()` and so on.

Every call raises the errors of `warren.errors`: what the server refused with its own message, and `Unavailable` when
it did not answer.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Self, TypeVar
from urllib.parse import quote

import msgspec

from warren.errors import NOT_JSON, RemoteProtocolError
from warren.sdk import client_errors
from warren.sdk.client_transport import Answer, Query, TLSOptions, Transport

if TYPE_CHECKING:
    import ssl

    from warren.sdk.client_agents import Agents
    from warren.sdk.client_provisioners import Provisioners
    from warren.sdk.client_templates import Templates
    from warren.sdk.client_users import Organizations, Tokens, Users
    from warren.sdk.client_workspaces import Builds, Workspaces
    from warren.sdk.types.users import BuildInfo

T = TypeVar("T")

API = "/api/v2"
TOKEN_HEADER = "Coder-Session-Token"  # noqa: S105  the header's name
VERSION_HEADER = "x-coder-build-version"


class Client:
    """A signed-in (or, without a token, anonymous) client of one server; close it, or use it with `async with`."""

    def __init__(
        self,
        url: str,
        *,
        token: str = "",
        headers: Mapping[str, str] | None = None,
        tls: TLSOptions | None = None,
        user_agent: str = "warren-sdk",
    ) -> None:
        self.token = token
        self.server_version = ""  # as the last answer said
        self._extra_headers = dict(headers or {})
        fields = {"User-Agent": user_agent, **self._extra_headers}
        if token:
            fields[TOKEN_HEADER] = token
        self._transport = Transport(url.rstrip("/"), fields, tls or TLSOptions())

    async def __aenter__(self) -> Self:
        """Return the client."""
        return self

    async def __aexit__(self, *_exc_info: object) -> None:
        """Close the idle connections."""
        await self.aclose()

    async def aclose(self) -> None:
        """Close the idle connections."""
        await self._transport.aclose()

    @property
    def url(self) -> str:
        """The server's URL, without a slash at the end."""
        return self._transport.url

    @property
    def headers(self) -> Mapping[str, str]:
        """All headers that every request carries, the token included; for connections made elsewhere."""
        return self._transport.headers

    @property
    def extra_headers(self) -> Mapping[str, str]:
        """The headers that the user asked for, without ours."""
        return self._extra_headers

    @property
    def tls_options(self) -> TLSOptions:
        """The TLS files in use."""
        return self._transport.tls

    @property
    def tls_context(self) -> ssl.SSLContext | None:
        """The TLS context for connections made elsewhere; `None` for plain HTTP."""
        return self._transport.tls_context

    @property
    def trust(self) -> ssl.SSLContext | None:
        """Whom a TLS proxy on the way must be trusted by; `None` for whom the system trusts."""
        return self.tls_context or (self.tls_options.context() if self.tls_options.ca_file else None)

    def websocket_url(self, path: str, query: Query | None = None) -> str:
        """Say where a WebSocket to the API `path` is opened."""
        from warren.sdk.client_transport import encode_query

        return "ws" + self.url.removeprefix("http") + API + path + encode_query(query)

    @cached_property
    def users(self) -> Users:
        """Users, sign-in and keys."""
        from warren.sdk.client_users import Users

        return Users(self)

    @cached_property
    def tokens(self) -> Tokens:
        """API tokens."""
        from warren.sdk.client_users import Tokens

        return Tokens(self)

    @cached_property
    def organizations(self) -> Organizations:
        """Organizations and members."""
        from warren.sdk.client_users import Organizations

        return Organizations(self)

    @cached_property
    def templates(self) -> Templates:
        """Templates, versions and files."""
        from warren.sdk.client_templates import Templates

        return Templates(self)

    @cached_property
    def workspaces(self) -> Workspaces:
        """Workspaces."""
        from warren.sdk.client_workspaces import Workspaces

        return Workspaces(self)

    @cached_property
    def builds(self) -> Builds:
        """Workspace builds."""
        from warren.sdk.client_workspaces import Builds

        return Builds(self)

    @cached_property
    def agents(self) -> Agents:
        """Workspace agents."""
        from warren.sdk.client_agents import Agents

        return Agents(self)

    @cached_property
    def provisioners(self) -> Provisioners:
        """Provisioner daemons, their keys and jobs."""
        from warren.sdk.client_provisioners import Provisioners

        return Provisioners(self)

    async def build_info(self) -> BuildInfo:
        """Say what server this is."""
        from warren.sdk.types.users import BuildInfo

        return await self.get("/buildinfo", BuildInfo)

    async def get(self, path: str, kind: type[T], query: Query | None = None) -> T:
        """GET a JSON value of the type `kind`."""
        return decode(await self.call("GET", path, query=query), kind)

    async def get_list(self, path: str, kind: type[list[T]], query: Query | None = None) -> list[T]:
        """GET a JSON array; servers written in Go may answer `null` for an empty one."""
        answer = await self.call("GET", path, query=query)
        return [] if answer.body.strip() == b"null" else decode(answer, kind)

    async def post(self, path: str, kind: type[T], body: msgspec.Struct | None = None) -> T:
        """POST JSON, get JSON of the type `kind`."""
        return decode(await self.call("POST", path, body=body), kind)

    async def put(self, path: str, kind: type[T], body: msgspec.Struct | None = None) -> T:
        """PUT JSON, get JSON of the type `kind`."""
        return decode(await self.call("PUT", path, body=body), kind)

    async def patch(self, path: str, kind: type[T], body: msgspec.Struct | None = None) -> T:
        """PATCH with JSON, get JSON of the type `kind`."""
        return decode(await self.call("PATCH", path, body=body), kind)

    async def call(
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        body: msgspec.Struct | bytes | None = None,
        content_type: str = "application/json",
    ) -> Answer:
        """Call the API; raise the error that the server answered, if it did."""
        headers = {} if body is None else {"Content-Type": content_type}
        data = b"" if body is None else body if isinstance(body, bytes) else msgspec.json.encode(body)
        answer = await self._transport.request(method, API + path, query=query, body=data, headers=headers)
        self.server_version = answer.headers.get(VERSION_HEADER, self.server_version)
        if answer.status >= 400:
            raise client_errors.from_answer(answer.status, answer.headers, answer.body)
        return answer

    def messages(self, path: str, query: Query | None = None) -> AsyncGenerator[bytes]:
        """Follow a WebSocket that only the server speaks on, message by message, until it closes."""
        return self._transport.messages(API + path, query=query)

    async def events(self, path: str) -> AsyncGenerator[tuple[str, bytes]]:
        """Follow server-sent events: pairs of the event's name and its data."""
        name = ""
        async for line in self._transport.lines(API + path):
            key, _, value = line.rstrip(b"\r").partition(b": ")
            if key == b"event":
                name = value.decode()
            elif key == b"data":
                yield name, value
            elif not key and name == "ping":
                yield name, b""
                name = ""


def decode(answer: Answer, kind: type[T]) -> T:
    """Read the body of an answer.

    Raises:
        RemoteProtocolError: it is not JSON of that type.
    """
    try:
        return msgspec.json.decode(answer.body, type=kind)
    except NOT_JSON as error:
        raise RemoteProtocolError(
            f"the server answered with something unexpected: {error}",
            detail=answer.body[:200].decode("utf-8", "replace"),
        ) from error


def segment(text: object) -> str:
    """Write a value as one segment of a path."""
    return quote(str(text), safe="")
