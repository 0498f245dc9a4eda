"""Keep a node introduced to its peers: publish what it is, program what the coordinator says.

A `Coordination` lives as long as its node; each connection to the control plane is one `serve` on it. Between two
connections nothing is torn down: peers count as lost and stay for a quarter of an hour, so a restart of the server
closes no tunnel.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from uuid import UUID

import anyio
import structlog

from warren import _engine
from warren.clock import Clock
from warren.errors import Unavailable, WarrenError
from warren.net.addresses import node_id
from warren.net.derp_map import DERPMap
from warren.net.node import NodeInfo, PeerUpdateKind
from warren.rpc import convert_tailnet as convert
from warren.rpc._pb import tailnet_pb2 as pb
from warren.rpc.drpc import GONE, Call, Client
from warren.rpc.methods import TailnetAPI
from warren.tunnel.node import Node
from warren.tunnel.peers import Command, PeerBook, RemovePeer, SetPeer

log = structlog.get_logger()

GOODBYE_SECONDS = 1.0
"""How long a graceful disconnect may take."""

CoordinateCall = Call[pb.CoordinateRequest, pb.CoordinateResponse]


class Coordination:
    """The peers of one node, kept by the coordinator. Made by `open`."""

    def __init__(
        self, node: Node, self_id: UUID, *, prepare_derp_map: Callable[[DERPMap], DERPMap], clock: Clock
    ) -> None:
        self._node, self._self_id, self._clock = node, self_id, clock
        self._prepare_derp_map = prepare_derp_map
        self.book = PeerBook()
        self.derp_map: DERPMap | None = None
        self.published: NodeInfo | None = None
        self._destinations: list[UUID] = []
        self._changed = anyio.Event()
        self._rearmed = anyio.Event()
        self._call: CoordinateCall | None = None
        self._ended = anyio.Event()
        self._programmed: dict[UUID, anyio.Event] = {}

    @classmethod
    @asynccontextmanager
    async def open(
        cls, node: Node, self_id: UUID, *, prepare_derp_map: Callable[[DERPMap], DERPMap], clock: Clock
    ) -> AsyncGenerator[Coordination]:
        """Follow the node's events and keep its peers' timers while the context lasts.

        `prepare_derp_map` rewrites a map from the server for this node (embedded regions are at our access URL).
        """
        coordination = cls(node, self_id, prepare_derp_map=prepare_derp_map, clock=clock)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(coordination._follow_node)
            tasks.start_soon(coordination._keep_timers)
            yield coordination
            tasks.cancel_scope.cancel()

    def add_destination(self, peer_id: UUID) -> None:
        """Ask for a tunnel to this peer on every connection from the next one on."""
        self.book.expect(peer_id)
        self._destinations.append(peer_id)

    def use_derp_map(self, derp_map: DERPMap) -> None:
        """Give the node a DERP map as the server sent it."""
        prepared = self._prepare_derp_map(derp_map)
        if prepared == self.derp_map:
            return
        self.derp_map = prepared
        self._node.engine.set_derp_map(json.dumps(prepared.to_json()).encode())

    async def wait_programmed(self, peer_id: UUID) -> NodeInfo:
        """Wait until the engine knows this peer; return what it is."""
        while True:
            await self._programmed_event(peer_id).wait()
            node = self.book.node(peer_id)
            if node is not None:
                return node
            self._programmed[peer_id] = anyio.Event()

    async def leave(self) -> None:
        """Say goodbye to the coordinator, so that peers forget us at once instead of believing us lost.

        Call it while the connection is still served: what is cancelled cannot speak.
        """
        call, ended = self._call, self._ended
        if call is None:
            return
        with anyio.move_on_after(GOODBYE_SECONDS, shield=True):
            try:
                await call.send(pb.CoordinateRequest(disconnect=pb.CoordinateRequest.Disconnect()))
            except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                return
            await ended.wait()

    async def serve(self, client: Client, *, acknowledge: bool) -> None:
        """Serve one connection to the control plane until it ends, which raises or returns.

        `acknowledge`: tell each new peer that we are ready for its handshake, as agents do.

        Raises:
            Unavailable: the connection ended, or the other side broke the protocol.
        """
        problem: BaseException | None = None
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._receive_derp_maps, client)
                await self._coordinate(client, acknowledge=acknowledge)
                tasks.cancel_scope.cancel()
        except* (WarrenError, *GONE) as group:
            problem = group
        finally:
            self._act(self.book.lose_all(anyio.current_time()))
        raise Unavailable("the connection to the coordinator ended") from problem

    async def _receive_derp_maps(self, client: Client) -> None:
        async with client.stream(TailnetAPI.StreamDERPMaps) as call:
            await call.send(pb.StreamDERPMapsRequest())
            await call.close_send()
            while True:
                self.use_derp_map(convert.derp_map_from_message(await call.receive()))

    async def _coordinate(self, client: Client, *, acknowledge: bool) -> None:
        async with client.stream(TailnetAPI.Coordinate) as call:
            for peer_id in self._destinations:
                self.book.expect(peer_id)
                await call.send(pb.CoordinateRequest(add_tunnel=pb.CoordinateRequest.Tunnel(id=peer_id.bytes)))
            self._call, self._ended = call, anyio.Event()
            try:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._publish, call)
                    await self._receive_updates(call, acknowledge=acknowledge)
                    tasks.cancel_scope.cancel()
            finally:
                self._call = None
                self._ended.set()

    async def _receive_updates(self, call: CoordinateCall, *, acknowledge: bool) -> None:
        while True:
            try:
                response = await call.receive()
            except anyio.EndOfStream:
                return
            if response.error:
                log.warning("coordination.refused", error=response.error)
            ready = self._apply(response.peer_updates)
            if acknowledge and ready:
                await call.send(_ready_for_handshake(ready))

    def _apply(self, messages: Iterable[pb.CoordinateResponse.PeerUpdate]) -> list[UUID]:
        """Take in updates; return the peers that should hear that we are ready for them."""
        ready: list[UUID] = []
        for message in messages:
            update = convert.peer_update_from_message(message)
            if update is None:
                continue
            log.debug("peer.updated", peer=str(update.peer_id), kind=update.kind.value, reason=update.reason)
            self._act(self.book.apply(anyio.current_time(), update))
            if update.kind is PeerUpdateKind.NODE:
                ready.append(update.peer_id)
        return ready

    def _act(self, commands: Sequence[Command]) -> None:
        """Do what the book decided; its timers may have changed with it."""
        self._rearmed.set()
        self._rearmed = anyio.Event()
        for command in commands:
            match command:
                case SetPeer(peer_id, node, keepalive):
                    self._program(node, keepalive=keepalive)
                    self._programmed_event(peer_id).set()
                case RemovePeer(peer_id, key):
                    self._node.engine.remove_peer(key)
                    self._programmed.pop(peer_id, None)

    def _program(self, node: NodeInfo, *, keepalive: bool) -> None:
        try:
            self._node.engine.set_peer(
                node.key,
                disco_key=node.disco_key,
                allowed_ips=[prefix.partition("/")[0] for prefix in node.allowed_ips],
                home_region=node.preferred_region,
                endpoints=() if self._node.config.block_direct else node.endpoints,
                keepalive=keepalive,
                fallback_regions=node.near_regions(),
            )
        except _engine.InvalidConfig as error:
            log.warning("peer.unusable", node_id=node.id, error=str(error))

    async def _publish(self, call: CoordinateCall) -> None:
        """Send what we are now, and again whenever it changed."""
        told: NodeInfo | None = None
        while True:
            changed = self._changed
            node = self._describe()
            if node is not None and not node.says_the_same_as(told):
                told = node
                self.published = node
                message = pb.CoordinateRequest.UpdateSelf(node=convert.node_to_message(node))
                await call.send(pb.CoordinateRequest(update_self=message))
            await changed.wait()

    def _describe(self) -> NodeInfo | None:
        info = self._node.net_info
        if info is None or info.preferred_region == 0:
            return None
        prefixes = tuple(f"{address}/128" for address in self._node.config.addresses)
        return NodeInfo(
            id=node_id(self._self_id),
            as_of=self._clock.now(),
            key=self._node.key,
            disco_key=self._node.disco_key,
            preferred_region=info.preferred_region,
            addresses=prefixes,
            allowed_ips=prefixes,
            endpoints=() if self._node.config.block_direct else tuple(info.endpoints),
            region_latency_seconds=dict(info.region_latency_seconds),
            forced_websocket=dict(info.forced_websocket),
        )

    async def _follow_node(self) -> None:
        async with self._node.watch() as watch:
            async for event in watch:
                match event:
                    case _engine.NetInfo():
                        self._changed.set()
                        self._changed = anyio.Event()
                    case _engine.RelayChanged(region, True, home, websocket_reason, _):
                        log.info("relay.connected", region=region, home=home, websocket_reason=websocket_reason)
                    case _engine.RelayChanged(region, False, home, _, error):
                        log.warning("relay.lost", region=region, home=home, error=error)
                    case _engine.Handshake(key):
                        self.book.saw_handshake(anyio.current_time(), key)
                    case _:
                        pass

    async def _keep_timers(self) -> None:
        while True:
            due_now = self.book.timeout(anyio.current_time())
            if due_now:
                self._act(due_now)
            rearmed, due = self._rearmed, self.book.next_timeout()
            pause = None if due is None else max(0.0, due - anyio.current_time())
            with anyio.move_on_after(pause):
                await rearmed.wait()

    def _programmed_event(self, peer_id: UUID) -> anyio.Event:
        return self._programmed.setdefault(peer_id, anyio.Event())


def _ready_for_handshake(peer_ids: Iterable[UUID]) -> pb.CoordinateRequest:
    ready = [pb.CoordinateRequest.ReadyForHandshake(id=peer_id.bytes) for peer_id in peer_ids]
    return pb.CoordinateRequest(ready_for_handshake=ready)
