"""Byte streams over WebSockets, against a stock server."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import anyio
import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from warren.errors import Conflict, RemoteProtocolError, Unauthenticated, Unavailable, WarrenError
from warren.netlab.namespace import Namespace, missing
from warren.rpc import websocket

pytestmark = pytest.mark.anyio

Handler = Callable[[ServerConnection], Awaitable[None]]
Refuse = Callable[[ServerConnection, Request], Response | None]


@asynccontextmanager
async def server(handler: Handler, refuse: Refuse | None = None) -> AsyncGenerator[str]:
    async with serve(handler, "127.0.0.1", 0, process_request=refuse, ping_interval=None) as running:
        port = next(iter(running.sockets)).getsockname()[1]
        yield f"ws://127.0.0.1:{port}/"


async def echo(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send(message)


async def read(stream: anyio.abc.ByteReceiveStream, count: int) -> bytes:
    data = b""
    while len(data) < count:
        data += await stream.receive()
    return data


async def test_bytes_come_back_in_order() -> None:
    async with server(echo) as url, websocket.connect(url, headers={}) as stream:
        sent = [bytes([number % 256]) * (number * 37 % 5000 + 1) for number in range(200)]

        async def send() -> None:
            for part in sent:
                await stream.send(part)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(send)
            with anyio.fail_after(20):
                assert await read(stream, sum(map(len, sent))) == b"".join(sent)


async def test_messages_in_fragments_and_empty_ones_are_one_stream() -> None:
    async def fragments(connection: ServerConnection) -> None:
        await connection.send([b"ab", b"", b"c"])
        await connection.send(b"")
        await (await connection.ping())
        await connection.send(b"d" * 100_000)
        await connection.wait_closed()

    async with server(fragments) as url, websocket.connect(url, headers={}) as stream:
        with anyio.fail_after(20):
            assert await read(stream, 100_003) == b"abc" + b"d" * 100_000


async def test_our_end_closes_with_1000_and_theirs_ends_the_stream() -> None:
    codes: list[int | None] = []
    ended = anyio.Event()

    async def note(connection: ServerConnection) -> None:
        await connection.wait_closed()
        codes.append(connection.close_code)
        ended.set()

    async with server(note) as url:
        async with websocket.connect(url, headers={}):
            pass
        with anyio.fail_after(20):
            await ended.wait()
    assert codes == [1000]

    async def leave(connection: ServerConnection) -> None:
        await connection.close(1001, "liveness probe failed")

    async with server(leave) as url, websocket.connect(url, headers={}) as stream:
        with anyio.fail_after(20):
            with pytest.raises(anyio.EndOfStream):
                await stream.receive()
            with pytest.raises((anyio.BrokenResourceError, anyio.ClosedResourceError)):
                await stream.send(b"too late")


async def test_a_text_message_is_a_mistake_of_the_server() -> None:
    codes: list[int | None] = []

    async def text(connection: ServerConnection) -> None:
        await connection.send("text")
        try:
            await connection.recv()
        except ConnectionClosed:
            codes.append(connection.close_code)

    async with server(text) as url, websocket.connect(url, headers={}) as stream:
        with anyio.fail_after(20), pytest.raises(anyio.EndOfStream):
            await stream.receive()
    assert codes == [1003]


@pytest.mark.parametrize(("status", "error"), [(401, Unauthenticated), (409, Conflict), (503, Unavailable)])
async def test_a_refusal_carries_what_the_server_said(status: int, error: type[WarrenError]) -> None:
    body = {"message": "No.", "detail": "Because.", "validations": [{"field": "resume_token", "detail": "bad"}]}

    def refuse(connection: ServerConnection, request: Request) -> Response:
        assert request.headers["Coder-Session-Token"] == "secret"
        response = connection.respond(status, json.dumps(body))
        del response.headers["Content-Type"]
        response.headers["Content-Type"] = "application/json; charset=utf-8"
        return response

    async with server(echo, refuse) as url:
        with pytest.raises(error) as caught:
            async with websocket.connect(url, headers={"Coder-Session-Token": "secret"}):
                pass
    assert caught.value.message == "No."
    assert [violation.field for violation in caught.value.violations] == ["resume_token"]


async def test_who_does_not_listen_or_speaks_something_else() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(Unavailable):
            async with websocket.connect(f"ws://127.0.0.1:{port}/", headers={}):
                pass

    async def babble(client: anyio.abc.SocketStream) -> None:
        async with client:
            await client.receive()
            await client.send(b"220 mail.example ESMTP\r\n\r\n")

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, babble)
        address = listener.extra(anyio.abc.SocketAttribute.local_address)
        with pytest.raises((RemoteProtocolError, Unavailable)):
            async with websocket.connect(f"ws://127.0.0.1:{address[1]}/", headers={}):
                pass
        tasks.cancel_scope.cancel()


@pytest.mark.skipif(bool(missing()), reason=missing() or "nothing is missing")
@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="only Linux ends such a connection")
def test_a_connection_whose_bytes_go_nowhere_ends_soon() -> None:
    async def talk() -> None:
        async with server(echo) as url:
            stream = await websocket.dial(url, headers={})
            await stream.send(b"heard")
            assert await stream.receive() == b"heard"
            await anyio.to_thread.run_sync(
                namespace.nft,
                "table inet t { chain c { type filter hook output priority 0; meta l4proto tcp drop; }; }",
            )
            await stream.send(b"unheard")
            with anyio.fail_after(60), pytest.raises(anyio.BrokenResourceError):
                await stream.receive()
            await anyio.aclose_forcefully(stream)
            await anyio.to_thread.run_sync(namespace.nft, "delete table inet t")

    with Namespace("cut") as namespace:
        namespace.call(partial(anyio.run, talk))
