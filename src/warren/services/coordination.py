"""The coordinator on connections: requests in, updates out, each peer with a queue of its own.

All peers of this replica share one `Coordinator`, whose methods never wait, so its state is consistent between any two
awaits. A peer whose queue is full does not read; it is dropped rather than waited for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from uuid import UUID

import anyio
import structlog
from anyio.abc import ByteStream
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from warren.errors import RemoteProtocolError, Unimplemented
from warren.net.coordinator import Auth, Close, Connection, Coordinator, Deliver, Output, Refuse, Request
from warren.net.derp_map import DERPMap, without_regions
from warren.net.node import NodeInfo
from warren.rpc import convert_tailnet as convert
from warren.rpc import drpc
from warren.rpc._pb import tailnet_pb2 as pb
from warren.rpc.drpc import Call, Handler
from warren.rpc.methods import AnyMethod, TailnetAPI
from warren.rpc.multiplexer import Multiplexer
from warren.rpc.server_websocket import ServerWebSocket
from warren.services.resume_tokens import REFRESH_IN, ResumeTokens

log = structlog.get_logger()

QUEUE_RESPONSES = 512
GIVE_UP_SECONDS = 15.0
"""How long a client whose connection was closed may take to come back: it dials again within 10 s."""

BeforeRequest = Callable[[Request], Awaitable[None]]


class DERPMaps:
    """The DERP map in force; whoever holds one hears when it changes."""

    def __init__(self, whole: DERPMap) -> None:
        self.whole = whole
        """The map with nothing left out."""
        self.current = whole
        self._withdrawn: frozenset[int] = frozenset()
        self._changed = anyio.Event()

    def replace(self, derp_map: DERPMap) -> None:
        """Put another map in force."""
        self.whole = derp_map
        self._renew()

    def withdraw(self, region_id: int, *, withdrawn: bool) -> None:
        """Leave a region out of the map in force, or put it back."""
        self._withdrawn = self._withdrawn | {region_id} if withdrawn else self._withdrawn - {region_id}
        self._renew()

    def _renew(self) -> None:
        self.current = without_regions(self.whole, self._withdrawn)
        self._changed.set()
        self._changed = anyio.Event()

    async def wait_change(self) -> None:
        """Wait until another map is in force."""
        await self._changed.wait()


@dataclass(frozen=True, slots=True)
class _Outbox:
    send: MemoryObjectSendStream[pb.CoordinateResponse]
    receive: MemoryObjectReceiveStream[pb.CoordinateResponse]


class Coordination:
    """Serves the tailnet API to any number of peers."""

    def __init__(self, derp_maps: DERPMaps, resume_tokens: ResumeTokens) -> None:
        self.derp_maps = derp_maps
        self._resume_tokens = resume_tokens
        self._coordinator = Coordinator()
        self._outboxes: dict[Connection, _Outbox] = {}
        self._departures: deque[tuple[float, UUID]] = deque()
        self._departed = anyio.Event()

    def handlers(
        self, peer_id: UUID, auth: Auth, *, before_request: BeforeRequest | None = None
    ) -> Mapping[AnyMethod, Handler]:
        """Make the handlers of the tailnet API for one peer."""

        async def coordinate(call: Call[pb.CoordinateResponse, pb.CoordinateRequest]) -> None:
            await self._coordinate(call, peer_id, auth, before_request)

        async def refresh(_: pb.RefreshResumeTokenRequest) -> pb.RefreshResumeTokenResponse:
            return await self._refresh(peer_id)

        handlers: dict[AnyMethod, Handler] = {
            TailnetAPI.Coordinate: coordinate,
            TailnetAPI.RefreshResumeToken: refresh,
            TailnetAPI.StreamDERPMaps: self._stream_derp_maps,
            TailnetAPI.PostTelemetry: _drop_telemetry,
            TailnetAPI.WorkspaceUpdates: _no_workspace_updates,
        }
        return handlers

    async def serve(
        self,
        stream: ByteStream,
        peer_id: UUID,
        auth: Auth,
        *,
        before_request: BeforeRequest | None = None,
        more: Mapping[AnyMethod, Handler] | None = None,
    ) -> None:
        """Serve a connection that has the tailnet API only; `more` adds to its handlers."""
        try:
            async with Multiplexer(stream, client=False) as mux:
                handlers = self.handlers(peer_id, auth, before_request=before_request)
                await drpc.serve(mux, {**handlers, **(more or {})})
        finally:
            if isinstance(stream, ServerWebSocket) and stream.ended_by_peer:
                self._depart(peer_id)

    def node(self, peer_id: UUID) -> NodeInfo | None:
        """Return what a connected peer published of itself."""
        return self._coordinator.node(peer_id)

    async def run(self) -> None:
        """Give up clients whose connection was closed under them and who did not come back, until cancelled.

        A client that only fell silent (a laptop asleep) is not among them: its peers keep it, so that sessions
        go on when it wakes.
        """
        while True:
            while not self._departures:
                departed = self._departed
                await departed.wait()
            at, peer_id = self._departures.popleft()
            await anyio.sleep_until(at + GIVE_UP_SECONDS)
            log.debug("peer.given_up", peer=str(peer_id))
            self._act(self._coordinator.give_up(peer_id))

    def _depart(self, peer_id: UUID) -> None:
        log.debug("peer.departed", peer=str(peer_id))
        self._departures.append((anyio.current_time(), peer_id))
        self._departed.set()
        self._departed = anyio.Event()

    def close(self) -> None:
        """End every coordination: the server stops."""
        self._act(self._coordinator.close())

    async def _refresh(self, peer_id: UUID) -> pb.RefreshResumeTokenResponse:
        issued = await self._resume_tokens.issue(peer_id)
        response = pb.RefreshResumeTokenResponse(token=issued.token)
        response.refresh_in.FromTimedelta(REFRESH_IN)
        response.expires_at.FromDatetime(issued.expires_at)
        return response

    async def _stream_derp_maps(self, call: Call[pb.DERPMap, pb.StreamDERPMapsRequest]) -> None:
        while True:
            await call.send(convert.derp_map_to_message(self.derp_maps.current))
            await self.derp_maps.wait_change()

    async def _coordinate(
        self,
        call: Call[pb.CoordinateResponse, pb.CoordinateRequest],
        peer_id: UUID,
        auth: Auth,
        before_request: BeforeRequest | None,
    ) -> None:
        connection, outputs = self._coordinator.connect(peer_id, auth)
        outbox = _Outbox(*anyio.create_memory_object_stream[pb.CoordinateResponse](QUEUE_RESPONSES))
        self._outboxes[connection] = outbox
        self._act(outputs)
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._receive, call, connection, before_request)
                async with outbox.receive:
                    async for response in outbox.receive:
                        await call.send(response)
                tasks.cancel_scope.cancel()
        finally:
            self._outboxes.pop(connection, None)
            self._act(self._coordinator.lose(connection))
            outbox.send.close()
            outbox.receive.close()

    async def _receive(
        self,
        call: Call[pb.CoordinateResponse, pb.CoordinateRequest],
        connection: Connection,
        before_request: BeforeRequest | None,
    ) -> None:
        """Feed the coordinator until the peer ends the call; then the call ends."""
        try:
            async for message in call:
                request = convert.request_from_message(message)
                if before_request is not None:
                    await before_request(request)
                self._act(self._coordinator.handle(connection, request))
            self._act(self._coordinator.lose(connection))
            self._act([Close(connection)])
        except RemoteProtocolError as error:
            self._act([*self._coordinator.lose(connection), Close(connection, str(error))])
        except (anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream):
            self._act([*self._coordinator.lose(connection), Close(connection)])

    def _act(self, outputs: Iterable[Output]) -> None:
        waiting = deque(outputs)
        while waiting:
            match waiting.popleft():
                case Deliver(connection, updates):
                    messages = [convert.peer_update_to_message(update) for update in updates]
                    if not self._put(connection, pb.CoordinateResponse(peer_updates=messages)):
                        log.info("peer.dropped", reason="does not read its updates")
                        waiting.extend(self._coordinator.drop(connection))
                case Refuse(connection, error):
                    self._put(connection, pb.CoordinateResponse(error=error))
                case Close(connection, error):
                    if error:
                        self._put(connection, pb.CoordinateResponse(error=error))
                    if outbox := self._outboxes.get(connection):
                        outbox.send.close()

    def _put(self, connection: Connection, response: pb.CoordinateResponse) -> bool:
        """Queue a response; False when the queue is full."""
        outbox = self._outboxes.get(connection)
        if outbox is None:
            return True
        try:
            outbox.send.send_nowait(response)
        except anyio.WouldBlock:
            return False
        except (anyio.ClosedResourceError, anyio.BrokenResourceError):
            return True  # it is ending already
        return True


async def _drop_telemetry(_: pb.TelemetryRequest) -> pb.TelemetryResponse:
    """Accept telemetry and forget it: Warren sends none on."""
    return pb.TelemetryResponse()


async def _no_workspace_updates(_: Call[pb.WorkspaceUpdate, pb.WorkspaceUpdatesRequest]) -> None:
    raise Unimplemented("Unimplemented")  # only connections of a whole user have them
