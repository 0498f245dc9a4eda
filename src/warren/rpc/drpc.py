"""Remote calls over a multiplexer: each call is one yamux stream that speaks DRPC.

A client makes typed calls by `methods`; a server gives handlers by method. A handler's `WarrenError` goes to the caller
as an error packet; anything else it raises is a bug: the caller hears "internal error" and the log has the rest.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Generic, TypeVar

import anyio
import structlog
from anyio.abc import ByteStream
from google.protobuf.message import DecodeError, Message

from warren.errors import ProtocolError, RemoteError, RemoteProtocolError, Unavailable, Unimplemented, WarrenError
from warren.rpc.frames import Decoder, Kind, Packet, decode_error, encode, encode_error
from warren.rpc.methods import AnyMethod, BidiStream, ClientStream, ServerStream, Streaming, Unary
from warren.rpc.multiplexer import Multiplexer

log = structlog.get_logger()

UNIMPLEMENTED = 12
GONE = (anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream, OSError)

Req = TypeVar("Req", bound=Message)
Res = TypeVar("Res", bound=Message)
Out = TypeVar("Out", bound=Message)
In = TypeVar("In", bound=Message)

# `Any`: a handler takes and gives the types of its own method, which the mapping cannot say.
Handler = Callable[[Any], Awaitable[Any]]
Handlers = Mapping[AnyMethod, Handler] | Mapping[Any, Handler]


class _Wire:
    """Packets of one call over one stream."""

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self._decoder = Decoder()
        self._packets: deque[Packet] = deque()
        self._out = bytearray()
        self._stream_id = 1
        self._message_id = 0

    def queue(self, kind: Kind, data: bytes = b"", *, control: bool = False) -> None:
        """Add a packet to what `flush` sends."""
        self._message_id += 1
        self._out += encode(Packet(kind, self._stream_id, self._message_id, data, control))

    async def flush(self) -> None:
        """Send what is queued."""
        data = bytes(self._out)
        self._out.clear()
        await self._stream.send(data)

    def begin(self, stream_id: int) -> None:
        """Answer a new call of the peer on this stream."""
        self._stream_id, self._message_id = stream_id, 0

    async def receive(self) -> Packet:
        """Wait for the next packet; one that we may ignore is ignored."""
        while True:
            while not self._packets:
                self._packets.extend(self._decoder.feed(await self._stream.receive()))
            packet = self._packets.popleft()
            if packet.kind in _KNOWN:
                return packet
            if not packet.control:
                raise RemoteProtocolError(f"unknown packet kind {packet.kind}")


_KNOWN = frozenset(Kind)


class Call(Generic[Out, In]):
    """A stream of messages each way: `Out` are sent, `In` received."""

    def __init__(self, wire: _Wire, incoming: type[In]) -> None:
        self._wire = wire
        self._incoming = incoming
        self._ended_here = False
        self._ended_there = False
        self._sending = anyio.Lock()
        self._read_ahead: deque[In] = deque()

    @property
    def ended_here(self) -> bool:
        """Whether we said that we send no more."""
        return self._ended_here

    async def send(self, message: Out) -> None:
        """Send a message.

        Raises:
            anyio.BrokenResourceError: the call is over.
        """
        async with self._sending:
            if self._ended_here:
                raise anyio.BrokenResourceError
            self._wire.queue(Kind.MESSAGE, message.SerializeToString())
            await self._wire.flush()

    async def close_send(self) -> None:
        """Send no more messages."""
        async with self._sending:
            if not self._ended_here:
                self._ended_here = True
                self._wire.queue(Kind.CLOSE_SEND)
                await self._wire.flush()

    async def receive(self) -> In:
        """Wait for a message.

        Raises:
            anyio.EndOfStream: the peer sends no more.
            RemoteError: the peer ended the call with an error.
            RemoteProtocolError: what came is no such message.
        """
        if self._read_ahead:
            return self._read_ahead.popleft()
        while not self._ended_there:
            packet = await self._wire.receive()
            match packet.kind:
                case Kind.MESSAGE:
                    return _parse(self._incoming, packet.data)
                case Kind.ERROR:
                    self._ended_there = self._ended_here = True
                    raise _remote_error(*decode_error(packet.data))
                case Kind.CLOSE | Kind.CANCEL:
                    self._ended_there = self._ended_here = True
                case Kind.CLOSE_SEND:
                    self._ended_there = True
                case Kind.INVOKE_METADATA:
                    continue
                case _:
                    raise RemoteProtocolError(f"unexpected packet of kind {packet.kind} in a call")
        raise anyio.EndOfStream

    async def read_ahead(self) -> None:
        """Receive one message and keep it for the next `receive`."""
        self._read_ahead.append(await self.receive())

    async def wait_end(self) -> None:
        """Wait until the peer has no more interest in the call. Nobody else may receive meanwhile."""
        while True:
            try:
                packet = await self._wire.receive()
            except GONE:
                return
            if packet.kind in (Kind.CLOSE, Kind.CANCEL, Kind.ERROR):
                return

    def __aiter__(self) -> Call[Out, In]:
        return self

    async def __anext__(self) -> In:
        try:
            return await self.receive()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None


class Client:
    """Calls to the other side of a multiplexer."""

    def __init__(self, mux: Multiplexer) -> None:
        self._mux = mux

    async def unary(self, method: Unary[Req, Res], request: Req) -> Res:
        """Make a call and wait for its response.

        Raises:
            RemoteError: the other side answered with an error.
            Unimplemented: it does not know the call.
            Unavailable: the connection ended first.
        """
        stream = await self._mux.open()
        try:
            wire = _Wire(stream)
            wire.queue(Kind.INVOKE, method.path.encode())
            wire.queue(Kind.MESSAGE, request.SerializeToString())
            wire.queue(Kind.CLOSE_SEND)
            await wire.flush()
            packet = await wire.receive()
        except GONE as error:
            raise Unavailable(f"the connection ended during {method.path}") from error
        finally:
            await stream.aclose()
        match packet.kind:
            case Kind.MESSAGE:
                return _parse(method.response, packet.data)
            case Kind.ERROR:
                raise _remote_error(*decode_error(packet.data))
            case _:
                raise RemoteProtocolError(f"{method.path} was answered without a message")

    @asynccontextmanager
    async def stream(self, method: Streaming[Req, Res]) -> AsyncGenerator[Call[Req, Res]]:
        """Begin a streaming call; it ends with the context."""
        stream = await self._mux.open()
        try:
            wire = _Wire(stream)
            wire.queue(Kind.INVOKE, method.path.encode())
            await wire.flush()
            call = Call[Req, Res](wire, method.response)
            try:
                yield call
            finally:
                if not call.ended_here:
                    wire.queue(Kind.CLOSE)
                    with anyio.CancelScope(shield=True), anyio.move_on_after(1):
                        await _flush_quietly(wire)
        finally:
            await stream.aclose()


async def serve(mux: Multiplexer, handlers: Handlers) -> None:
    """Answer the calls that the other side makes, until the connection ends.

    A handler of a `Unary` method takes the request and returns the response; of any other it takes a `Call`.
    """
    by_path = {method.path: (method, handler) for method, handler in handlers.items()}
    async with anyio.create_task_group() as tasks:
        async for stream in mux.accept():
            tasks.start_soon(_serve_stream, stream, by_path)
        tasks.cancel_scope.cancel()


async def _serve_stream(stream: ByteStream, by_path: Mapping[str, tuple[AnyMethod, Handler]]) -> None:
    wire = _Wire(stream)
    try:
        while True:
            packet = await wire.receive()
            if packet.kind != Kind.INVOKE:
                continue  # metadata before a call, or what is left of the one before
            wire.begin(packet.stream_id)
            await _serve_call(wire, packet.data.decode(errors="replace"), by_path)
    except GONE:
        pass
    except ProtocolError as error:
        log.info("rpc.violated", error=str(error))
    finally:
        await stream.aclose()


async def _serve_call(wire: _Wire, path: str, by_path: Mapping[str, tuple[AnyMethod, Handler]]) -> None:
    try:
        with _unwrapped():
            await _answer(wire, *_find(path, by_path))
    except GONE:
        raise
    except RemoteError as error:
        wire.queue(Kind.ERROR, encode_error(str(error), error.code))
    except WarrenError as error:
        wire.queue(Kind.ERROR, encode_error(str(error), 0))
    except Exception:
        log.exception("rpc.failed", path=path)
        wire.queue(Kind.ERROR, encode_error("internal error", 0))
    await wire.flush()


@contextmanager
def _unwrapped() -> Generator[None]:
    """Take errors out of the groups in which task groups of handlers wrap them: the one that says most."""
    try:
        yield
    except ExceptionGroup as group:
        leaves = list(_leaves(group))
        raise next((leaf for leaf in leaves if not isinstance(leaf, GONE)), leaves[0]) from group


def _leaves(group: ExceptionGroup[Exception]) -> Generator[Exception]:
    for error in group.exceptions:
        if isinstance(error, ExceptionGroup):
            # isinstance forgets of what the group is; a group of exceptions holds nothing else.
            yield from _leaves(error)  # pyright: ignore[reportUnknownArgumentType]
        else:
            yield error


def _find(path: str, by_path: Mapping[str, tuple[AnyMethod, Handler]]) -> tuple[AnyMethod, Handler]:
    found = by_path.get(path)
    if found is None:
        raise RemoteError(f'protocol error: unknown rpc: "{path}"')
    return found


async def _answer(wire: _Wire, method: AnyMethod, handler: Handler) -> None:
    call = Call[Message, Message](wire, method.request)
    match method:
        case Unary():
            _respond(wire, await handler(await _only(call)))
        case ClientStream():
            _respond(wire, await handler(call))
        case ServerStream():
            await call.read_ahead()
            await _while_wanted(call, handler)
            wire.queue(Kind.CLOSE_SEND)
        case BidiStream():
            await handler(call)
            wire.queue(Kind.CLOSE)


def _respond(wire: _Wire, response: Message) -> None:
    wire.queue(Kind.MESSAGE, response.SerializeToString())
    wire.queue(Kind.CLOSE_SEND)


async def _while_wanted(call: Call[Message, Message], handler: Handler) -> None:
    """Run a handler that only sends; the end of the call on the other side ends it, for it would not notice."""
    async with anyio.create_task_group() as tasks:

        async def watch() -> None:
            await call.wait_end()
            tasks.cancel_scope.cancel()

        tasks.start_soon(watch)
        await handler(call)
        tasks.cancel_scope.cancel()


async def _only(call: Call[Message, Message]) -> Message:
    try:
        return await call.receive()
    except anyio.EndOfStream as error:
        raise RemoteProtocolError("the call ended before its request") from error


async def _flush_quietly(wire: _Wire) -> None:
    try:
        await wire.flush()
    except GONE:
        return


def _parse(kind: type[In], data: bytes) -> In:
    message = kind()
    try:
        message.ParseFromString(data)
    except DecodeError as error:
        raise RemoteProtocolError(f"malformed {kind.DESCRIPTOR.full_name}: {error}") from error
    return message


def _remote_error(text: str, code: int) -> RemoteError:
    if code == UNIMPLEMENTED or "unknown rpc: " in text:
        return Unimplemented(text)
    return RemoteError(text, code=code)
