"""yamux on an anyio byte stream: one task reads, one writes, callers have ordinary byte streams.

What is received waits in its stream until it is read, so a slow reader holds back its own stream only, by its window.
What is sent waits in the session's buffer; a sender waits while more than `WRITE_BUFFER_BYTES` do.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from types import TracebackType
from typing import Any, Self

import anyio
from anyio.abc import ByteStream, TaskGroup

from warren.errors import ProtocolError, Unavailable
from warren.rpc import yamux

WRITE_BUFFER_BYTES = 256 * 1024
MAX_UNSENT_BYTES = 4 * 1024 * 1024
"""Who asks on and on and reads no answer is not read from while more than this waits. Far above what streams leave in
the buffer: two ends that both wait for room to answer would wait for ever."""
KEEPALIVE_SECONDS = 30.0
PING_TIMEOUT_SECONDS = 10.0
"""How long the peer may take to answer a ping, or to take what we write."""

LOST = (OSError, EOFError, anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError, ProtocolError)


class Multiplexer:
    """Many byte streams over one; an async context manager that owns the stream it is given."""

    def __init__(self, stream: ByteStream, *, client: bool) -> None:
        self._transport = stream
        self._session = yamux.Session(client=client)
        self._streams: dict[int, MultiplexedStream] = {}
        self._offered: deque[MultiplexedStream] = deque()
        self._arrived = anyio.Event()
        self._writable = anyio.Event()
        self._drained = anyio.Event()
        self._pings: dict[int, anyio.Event] = {}
        self._next_ping = 0
        self._scopes: list[anyio.CancelScope] = []
        self._tasks: TaskGroup
        self.closed = anyio.Event()
        self.last_pong_at = 0.0
        """When the peer last answered a ping, in the event loop's time."""

    async def __aenter__(self) -> Self:
        self.last_pong_at = anyio.current_time()
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        for task in (self._read, self._write, self._keep_alive):
            self._tasks.start_soon(self._until_closed, task)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        try:
            # Our tasks never raise, so what the holder raised goes on as it is, and not in a group.
            await self._tasks.__aexit__(None, None, None)
        finally:
            with anyio.CancelScope(shield=True), anyio.move_on_after(1):
                await self._flush_quietly()
                await self._transport.aclose()

    async def open(self) -> MultiplexedStream:
        """Open a stream.

        Raises:
            Unavailable: the connection is gone.
        """
        if self.closed.is_set():
            raise Unavailable("the connection is closed")
        return self._add(self._session.open())

    async def accept(self) -> AsyncGenerator[MultiplexedStream]:
        """Yield the streams that the peer opens, until the connection ends."""
        while True:
            while self._offered:
                stream = self._offered.popleft()
                self._session.accept(stream.stream_id)
                self.wake_writer()
                yield stream
            if self.closed.is_set():
                return
            arrived = self._arrived
            await arrived.wait()

    async def ping(self) -> float:
        """Ask the peer for a sign of life; return the round trip in seconds.

        Raises:
            TimeoutError: no answer in `PING_TIMEOUT_SECONDS`.
            Unavailable: the connection is gone.
        """
        self._next_ping = (self._next_ping + 1) & 0xFFFFFFFF
        value, answered = self._next_ping, anyio.Event()
        self._pings[value] = answered
        started = anyio.current_time()
        self._session.ping(value)
        self.wake_writer()
        try:
            with anyio.fail_after(PING_TIMEOUT_SECONDS):
                await answered.wait()
        finally:
            self._pings.pop(value, None)
        if self.closed.is_set():
            raise Unavailable("the connection is closed")
        return anyio.current_time() - started

    def close(self) -> None:
        """End the connection; every stream ends."""
        for scope in self._scopes:
            scope.cancel()
        self._end()

    # For the streams.

    @property
    def session(self) -> yamux.Session:
        """The protocol."""
        return self._session

    def wake_writer(self) -> None:
        """Have the writer look again."""
        self._writable.set()

    async def wait_room(self, limit: int = WRITE_BUFFER_BYTES) -> None:
        """Wait until no more than `limit` bytes wait to be written."""
        while self._session.pending_bytes() > limit and not self.closed.is_set():
            drained = self._drained
            await drained.wait()

    def forget(self, stream_id: int) -> None:
        """Drop a stream that its holder closed."""
        self._streams.pop(stream_id, None)

    # Tasks.

    def _add(self, stream_id: int) -> MultiplexedStream:
        stream = self._streams[stream_id] = MultiplexedStream(self, stream_id)
        self.wake_writer()
        return stream

    async def _until_closed(self, task: Callable[[], Awaitable[None]]) -> None:
        """Run a task in a scope of its own: the end of the connection must not cancel whoever holds it."""
        with anyio.CancelScope() as scope:
            self._scopes.append(scope)
            if not self.closed.is_set():
                await task()

    async def _read(self) -> None:
        try:
            while True:
                for event in self._session.receive_data(await self._transport.receive()):
                    self._dispatch(event)
                if self._session.pending_bytes():
                    self.wake_writer()
                    await self.wait_room(MAX_UNSENT_BYTES)
        except LOST:
            self.close()

    async def _write(self) -> None:
        try:
            while True:
                writable = self._writable
                if data := self._session.data_to_send():
                    with anyio.fail_after(PING_TIMEOUT_SECONDS):
                        await self._transport.send(data)
                    self._drained.set()
                    self._drained = anyio.Event()
                    continue
                await writable.wait()
                self._writable = anyio.Event()
        except (TimeoutError, *LOST):
            self.close()

    async def _keep_alive(self) -> None:
        try:
            while True:
                await anyio.sleep(KEEPALIVE_SECONDS)
                await self.ping()
        except (TimeoutError, Unavailable):
            self.close()

    def _dispatch(self, event: yamux.Event) -> None:
        match event:
            case yamux.StreamOffered(stream_id):
                self._offered.append(self._add(stream_id))
                self._arrived.set()
                self._arrived = anyio.Event()
            case yamux.DataReceived(stream_id, data):
                if stream := self._streams.get(stream_id):
                    stream.feed(data)
                else:
                    self._session.consumed(stream_id, len(data))  # its holder closed it: read on and forget
            case yamux.StreamEnded(stream_id):
                if stream := self._streams.get(stream_id):
                    stream.feed_end()
            case yamux.StreamReset(stream_id):
                if stream := self._streams.get(stream_id):
                    stream.feed_reset()
            case yamux.WindowOpened(stream_id):
                if stream := self._streams.get(stream_id):
                    stream.feed_window()
            case yamux.PongReceived(value):
                self.last_pong_at = anyio.current_time()
                if answered := self._pings.get(value):
                    answered.set()
            case yamux.GoneAway():
                pass

    def _end(self) -> None:
        """Wake everybody who waits: the connection is over."""
        self.closed.set()
        for stream in list(self._streams.values()):
            stream.feed_reset()
        self._streams.clear()
        for answered in self._pings.values():
            answered.set()
        self._arrived.set()
        self._drained.set()

    async def _flush_quietly(self) -> None:
        """Send what streams queued when they were closed, so that the peer hears of it."""
        try:
            if data := self._session.data_to_send():
                await self._transport.send(data)
        except LOST:
            return


class MultiplexedStream(ByteStream):
    """One stream of a multiplexer."""

    def __init__(self, mux: Multiplexer, stream_id: int) -> None:
        self.stream_id = stream_id
        self._mux = mux
        self._buffer = bytearray()
        self._ended = False
        self._broken = False
        self._closed = False
        self._changed = anyio.Event()

    @property
    def extra_attributes(self) -> Mapping[Any, Any]:
        """Have none. (`Any`: anyio's own type.)"""
        return {}

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """Wait for bytes."""
        while not self._buffer:
            if self._closed:
                raise anyio.ClosedResourceError
            if self._broken:
                raise anyio.BrokenResourceError
            if self._ended:
                raise anyio.EndOfStream
            changed = self._changed
            await changed.wait()
        data = bytes(self._buffer[:max_bytes])
        del self._buffer[:max_bytes]
        self._mux.session.consumed(self.stream_id, len(data))
        if self._mux.session.pending_bytes():
            self._mux.wake_writer()
        return data

    async def send(self, item: bytes) -> None:
        """Send bytes; waits while the peer's window or our buffer is full."""
        view = memoryview(item)
        while view:
            await self._mux.wait_room()
            if self._closed:
                raise anyio.ClosedResourceError
            if self._broken:
                raise anyio.BrokenResourceError
            changed = self._changed
            try:
                count = self._mux.session.send(self.stream_id, view)
            except ProtocolError as error:
                raise anyio.ClosedResourceError from error
            if count:
                self._mux.wake_writer()
                view = view[count:]
            else:
                await changed.wait()

    async def send_eof(self) -> None:
        """Send no more."""
        self._mux.session.finish(self.stream_id)
        self._mux.wake_writer()

    async def aclose(self) -> None:
        """Send no more, and drop what still arrives until the peer ends the stream too."""
        if self._closed:
            return
        self._closed = True
        self._mux.session.finish(self.stream_id)
        self._mux.session.consumed(self.stream_id, len(self._buffer))
        self._buffer.clear()
        self._mux.forget(self.stream_id)
        self._mux.wake_writer()
        self._wake()

    def feed(self, data: bytes) -> None:
        """Take in received bytes."""
        self._buffer += data
        self._wake()

    def feed_end(self) -> None:
        """Take in the peer's end."""
        self._ended = True
        self._wake()

    def feed_reset(self) -> None:
        """Take in a reset, or the end of the connection."""
        self._broken = True
        self._wake()

    def feed_window(self) -> None:
        """Take in that more may be sent."""
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()
