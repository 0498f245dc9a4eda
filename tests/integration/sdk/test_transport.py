"""The client's transport on real sockets: connections kept and lost, time-outs, streams, WebSockets."""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import anyio
import pytest
from anyio.abc import SocketStream
from websockets.asyncio.server import ServerConnection, serve

from warren.errors import Forbidden, Invalid, Unauthenticated, Unavailable
from warren.sdk.client import Client
from warren.sdk.client_transport import Transport
from warren.sdk.types.base import Response

pytestmark = pytest.mark.anyio

OK = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 16\r\n\r\n{"message":"ok"}'


@asynccontextmanager
async def tcp_server(handle: Callable[[SocketStream], Awaitable[None]]) -> AsyncGenerator[str]:
    """Serve raw connections; give the URL."""

    async def contained(stream: SocketStream) -> None:
        async with stream:
            await handle(stream)

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(anyio.abc.SocketAttribute.local_port)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, contained)
        yield f"http://127.0.0.1:{port}"
        tasks.cancel_scope.cancel()
    await listener.aclose()


async def requests(stream: SocketStream) -> AsyncIterator[bytes]:
    """Read the heads of requests without a body."""
    buffer = b""
    while True:
        while b"\r\n\r\n" not in buffer:
            try:
                buffer += await stream.receive()
            except anyio.EndOfStream:
                return
        head, _, buffer = buffer.partition(b"\r\n\r\n")
        yield head


async def test_keeps_the_connection() -> None:
    connections = 0

    async def handle(stream: SocketStream) -> None:
        nonlocal connections
        connections += 1
        async for _ in requests(stream):
            await stream.send(OK)

    async with tcp_server(handle) as url, Client(url) as client:
        for _ in range(3):
            assert (await client.get("/x", Response)).message == "ok"
    assert connections == 1


async def test_a_kept_connection_that_died_is_replaced() -> None:
    connections = 0

    async def handle(stream: SocketStream) -> None:
        nonlocal connections
        connections += 1
        await anext(aiter(requests(stream)))
        await stream.send(OK)

    async with tcp_server(handle) as url, Client(url) as client:
        await client.get("/x", Response)
        await client.get("/x", Response)
    assert connections == 2


async def test_sends_headers_and_query() -> None:
    heads: list[bytes] = []

    async def handle(stream: SocketStream) -> None:
        async for head in requests(stream):
            heads.append(head)
            await stream.send(OK)

    async with tcp_server(handle) as url, Client(url, token="abc", headers={"X-Mine": "1"}) as client:
        await client.get("/users/a b", Response, {"q": "owner:me"})
    lines = heads[0].decode().split("\r\n")
    assert lines[0] == "GET /api/v2/users/a%20b?q=owner%3Ame HTTP/1.1"
    assert {"Coder-Session-Token: abc", "X-Mine: 1"} <= set(lines)


async def test_no_server() -> None:
    async with Client("http://127.0.0.1:1") as client:
        with pytest.raises(Unavailable, match="cannot reach"):
            await client.build_info()


async def test_not_a_url() -> None:
    with pytest.raises(Invalid, match="not the URL"):
        Client("warren.example.com")


async def test_a_silent_server_runs_into_the_deadline() -> None:
    async def handle(stream: SocketStream) -> None:
        await anext(aiter(requests(stream)))
        await anyio.sleep_forever()

    async with tcp_server(handle) as url:
        transport = Transport(url)
        with pytest.raises(Unavailable, match="did not answer within"):
            await transport.request("GET", "/", timeout_seconds=0.1)


async def test_a_cut_answer_is_an_error() -> None:
    async def handle(stream: SocketStream) -> None:
        await anext(aiter(requests(stream)))
        await stream.send(OK[:-5])

    async with tcp_server(handle) as url, Client(url) as client:
        with pytest.raises(Unavailable, match="in the middle"):
            await client.get("/x", Response)


async def test_server_sent_events() -> None:
    async def handle(stream: SocketStream) -> None:
        await anext(aiter(requests(stream)))
        await stream.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        for piece in (b"event: ping\n", b"\nevent: da", b'ta\ndata: {"a":1}\n\n', b"event: data\ndata: 2\n\n"):
            await stream.send(piece)

    async with tcp_server(handle) as url, Client(url) as client:
        found = [event async for event in client.events("/watch")]
    assert found == [("ping", b""), ("data", b'{"a":1}'), ("data", b"2")]


@asynccontextmanager
async def websocket_server(handle: Callable[[ServerConnection], Awaitable[None]]) -> AsyncGenerator[str]:
    async with serve(handle, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        yield f"http://127.0.0.1:{port}"


async def test_follows_a_websocket_until_it_closes() -> None:
    async def handle(connection: ServerConnection) -> None:
        assert connection.request is not None
        assert connection.request.headers["Coder-Session-Token"] == "abc"
        assert connection.request.path == "/api/v2/logs?follow="
        await connection.send('{"id":1}')
        await connection.send(["part", "ed"])
        await connection.ping()

    async with websocket_server(handle) as url, Client(url, token="abc") as client:
        assert [message async for message in client.messages("/logs", {"follow": ""})] == [b'{"id":1}', b"parted"]


async def test_a_websocket_that_breaks_is_an_error() -> None:
    async def handle(connection: ServerConnection) -> None:
        await connection.send("one")
        connection.transport.abort()

    async with websocket_server(handle) as url, Client(url) as client:
        messages = client.messages("/logs")
        assert await anext(messages) == b"one"
        with pytest.raises(Unavailable):
            await anext(messages)


async def test_a_websocket_closed_with_an_error_is_an_error() -> None:
    async def handle(connection: ServerConnection) -> None:
        await connection.close(1011, "out of order")

    async with websocket_server(handle) as url, Client(url) as client:
        with pytest.raises(Unavailable, match="out of order"):
            await anext(client.messages("/logs"))


@pytest.mark.parametrize(("status", "kind"), [(401, Unauthenticated), (403, Forbidden)])
async def test_a_refused_websocket_carries_the_server_s_words(status: int, kind: type[Exception]) -> None:
    async def handle(stream: SocketStream) -> None:
        await anext(aiter(requests(stream)))
        body = b'{"message":"go away"}'
        head = f"HTTP/1.1 {status} No\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        await stream.send(head.encode() + body)

    async with tcp_server(handle) as url, Client(url) as client:
        with pytest.raises(kind, match="go away"):
            await anext(client.messages("/logs"))
