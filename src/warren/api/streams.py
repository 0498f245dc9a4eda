"""Answers that go on: event streams, and WebSockets on which only we speak.

A client that leaves cancels the source. A source that raises ends the stream with an error event.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import anyio
from litestar import WebSocket
from litestar.exceptions import WebSocketDisconnect
from litestar.response.base import ASGIResponse
from litestar.types import Receive, Scope, Send

from warren.api.errors import INTERNAL, body_of
from warren.api.json import encode
from warren.errors import WarrenError
from warren.sdk.types.base import Response

_T = TypeVar("_T")
PING_SECONDS = 15.0
WRITE_SECONDS = 10.0  # a reader that takes nothing for this long is dropped
REASON_BYTES = 123  # RFC 6455 §5.5
PING = b"event: ping\n\n"
_SSE_HEADERS = {"Cache-Control": "no-cache", "Connection": "keep-alive", "X-Accel-Buffering": "no"}


class _Pings:
    """Sends something when nothing else was sent for a while; keeps writes apart."""

    def __init__(self, ping: Callable[[], Awaitable[None]]) -> None:
        self._ping = ping
        self._lock = anyio.Lock()
        self._sent_at = anyio.current_time()

    async def write(self, write: Callable[[], Awaitable[None]]) -> None:
        """Write, after whoever is writing; `TimeoutError` when the reader takes nothing."""
        async with self._lock:
            with anyio.fail_after(WRITE_SECONDS):
                await write()
            self._sent_at = anyio.current_time()

    async def run(self) -> None:
        """Ping until cancelled."""
        while True:
            await anyio.sleep_until(self._sent_at + PING_SECONDS)
            if anyio.current_time() >= self._sent_at + PING_SECONDS:
                await self.write(self._ping)


class EventStream(ASGIResponse):
    """Server-sent events: a ping at once, then one `data` event for each value of the source."""

    _should_set_content_length = False

    def __init__(self, source: AsyncIterable[object]) -> None:
        super().__init__(media_type="text/event-stream", headers=_SSE_HEADERS)
        self._source = source

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream until it or the client ends it."""
        del scope
        await self.start_response(send)

        async def chunk(data: bytes) -> None:
            await send({"type": "http.response.body", "body": data, "more_body": True})

        async def ping() -> None:
            await chunk(PING)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_until_disconnect, receive, tasks.cancel_scope)
            pings = _Pings(ping)
            await ping()
            tasks.start_soon(pings.run)
            try:
                async with _closing(self._source) as source:
                    async for value in source:
                        data = b"event: data\ndata: " + encode(value) + b"\n"
                        await pings.write(lambda data=data: chunk(data))
            except Exception as error:
                await pings.write(lambda error=error: chunk(b"event: error\ndata: " + encode(_body(error)) + b"\n"))
                if not isinstance(error, WarrenError):
                    raise
            tasks.cancel_scope.cancel()
        if not tasks.cancel_scope.cancelled_caught:
            await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _until_disconnect(receive: Receive, scope: anyio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


# Litestar's socket is generic in what nobody here uses.
async def send_values(socket: WebSocket[Any, Any, Any], source: AsyncIterable[object]) -> None:
    """Accept a WebSocket and send each value of `source` as one JSON text message; closes with 1000 at its end."""
    await socket.accept()
    await _one_way(socket, source, lambda value: encode(value).rstrip(b"\n").decode())


async def send_bytes(socket: WebSocket[Any, Any, Any], source: AsyncIterable[bytes]) -> None:
    """Accept a WebSocket and send each value of `source` as one binary message; closes with 1000 at its end."""
    await socket.accept()
    await _one_way(socket, source, lambda value: value)


async def send_events(socket: WebSocket[Any, Any, Any], source: AsyncIterable[object]) -> None:
    """Accept a WebSocket and send the events that an `EventStream` has, as `{"type": …, "data": …}`."""

    async def events() -> AsyncGenerator[object]:
        yield {"type": "ping"}
        try:
            async with _closing(source) as values:
                async for value in values:
                    yield {"type": "data", "data": value}
        except WarrenError as error:
            yield {"type": "error", "data": _body(error)}

    await socket.accept()
    ping = encode({"type": "ping"}).rstrip(b"\n").decode()
    await _one_way(socket, events(), lambda value: encode(value).rstrip(b"\n").decode(), ping)


async def _one_way(
    socket: WebSocket[Any, Any, Any],
    source: AsyncIterable[Any],
    message: Callable[[Any], str | bytes],
    ping: str | None = None,
) -> None:
    code, reason = 1000, ""

    async def send(data: str | bytes) -> None:
        await (socket.send_text(data) if isinstance(data, str) else socket.send_bytes(data))

    async def listen(scope: anyio.CancelScope) -> None:
        """Wait for the client to leave; nothing may come from it."""
        nonlocal code, reason
        try:
            await socket.receive_data(mode="text")
        except WebSocketDisconnect:
            code = 0
        else:
            code, reason = 1002, "unexpected message"
        scope.cancel()

    async def send_ping() -> None:
        assert ping is not None
        await send(ping)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listen, tasks.cancel_scope)
        pings = _Pings(send_ping)
        if ping is not None:
            tasks.start_soon(pings.run)
        try:
            async with _closing(source) as values:
                async for value in values:
                    data = message(value)
                    await pings.write(lambda data=data: send(data))
        except WarrenError as error:
            code, reason = 1011, error.message
        except TimeoutError:
            code, reason = 1011, "the client does not read"
        tasks.cancel_scope.cancel()
    if code:
        with anyio.move_on_after(WRITE_SECONDS):
            await socket.close(code=code, reason=cut_reason(reason))


def cut_reason(reason: str) -> str:
    """Shorten the reason of a close to what a frame can carry."""
    return reason.encode()[:REASON_BYTES].decode(errors="ignore")


@asynccontextmanager
async def _closing(source: AsyncIterable[_T]) -> AsyncGenerator[AsyncIterable[_T]]:
    """Close a generator when leaving, so that what it holds is given back now and not by the collector."""
    try:
        yield source
    finally:
        close = getattr(source, "aclose", None)
        if close is not None:
            await close()


def _body(error: Exception) -> Response:
    return body_of(error) if isinstance(error, WarrenError) else Response(message=INTERNAL)
