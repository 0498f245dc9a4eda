"""A scripted control plane: a real WebSocket, real yamux and DRPC, and answers that a test chooses."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from http import HTTPStatus
from typing import Any

import anyio
import anyio.abc
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message
from websockets.exceptions import WebSocketException
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol

from warren.rpc._pb import agent_pb2 as pb
from warren.rpc._pb import tailnet_pb2 as tailnet
from warren.rpc.drpc import Call, serve
from warren.rpc.methods import AgentAPI, TailnetAPI
from warren.rpc.multiplexer import Multiplexer


class ServerSocket(anyio.abc.ByteStream):
    """The server's end of a WebSocket on a TCP stream."""

    def __init__(self, stream: anyio.abc.ByteStream) -> None:
        self._stream = stream
        self._protocol = ServerProtocol()
        self._received: list[bytes] = []
        self.request: Request | None = None

    @property
    def extra_attributes(self) -> Mapping[Any, Any]:  # Any: anyio's own type
        return {}

    async def shake_hands(self, refuse: Callable[[Request], tuple[HTTPStatus, str] | None]) -> bool:
        while self.request is None:
            await self._pump()
        refusal = refuse(self.request)
        if refusal is None:
            self._protocol.send_response(self._protocol.accept(self.request))
        else:
            response = self._protocol.reject(*refusal)
            del response.headers["Content-Type"]
            response.headers["Content-Type"] = "application/json"
            self._protocol.send_response(response)
        await self._flush()
        return refusal is None

    async def _pump(self) -> None:
        self._protocol.receive_data(await self._stream.receive())
        for event in self._protocol.events_received():
            if isinstance(event, Request):
                self.request = event
            elif isinstance(event, Frame) and event.opcode in (Opcode.BINARY, Opcode.CONT):
                self._received.append(bytes(event.data))
            elif isinstance(event, Frame) and event.opcode is Opcode.CLOSE:
                raise anyio.EndOfStream
        await self._flush()

    async def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            if data:
                await self._stream.send(data)

    async def receive(self, max_bytes: int = 65536) -> bytes:
        while not self._received:
            await self._pump()
        return self._received.pop(0)

    async def send(self, item: bytes) -> None:
        try:
            self._protocol.send_binary(item)
        except WebSocketException as error:
            raise anyio.BrokenResourceError from error
        await self._flush()

    async def send_eof(self) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        await self._stream.aclose()


@dataclass
class ControlPlane:
    """What agents told, and what they are answered."""

    manifest: pb.Manifest
    port: int = 0
    refusal: tuple[HTTPStatus, str] | None = None
    log_limit_exceeded: bool = False
    plan: pb.GetResourcesMonitoringConfigurationResponse = field(
        default_factory=pb.GetResourcesMonitoringConfigurationResponse
    )
    tailnet: Mapping[Any, Any] = field(default_factory=dict[Any, Any])  # Any: as `drpc.serve` has it
    """Handlers of a real coordinator, where a test wants one."""
    failing: set[str] = field(default_factory=set[str])
    """Names of calls that are answered with an error."""
    requests: list[Request] = field(default_factory=list[Request])
    calls: list[tuple[str, Message]] = field(default_factory=list[tuple[str, Message]])
    connections: list[Multiplexer] = field(default_factory=list[Multiplexer])
    changed: anyio.Event = field(default_factory=anyio.Event)

    def named(self, name: str) -> list[Any]:  # Any: the messages of that call, which the test knows
        return [message for called, message in self.calls if called == name]

    def states(self) -> list[str]:
        return [pb.Lifecycle.State.Name(each.lifecycle.state) for each in self.named("UpdateLifecycle")]

    def output(self) -> list[str]:
        return [line.output for request in self.named("BatchCreateLogs") for line in request.logs]

    async def wait_for(self, condition: Callable[[], object], seconds: float = 10) -> None:
        with anyio.fail_after(seconds):
            while not condition():
                await self.changed.wait()

    def note(self, name: str, message: Message) -> None:
        self.calls.append((name, message))
        self._wake()

    def _wake(self) -> None:
        self.changed.set()
        self.changed = anyio.Event()

    async def serve(self, stream: anyio.abc.ByteStream) -> None:
        socket = ServerSocket(stream)
        try:
            accepted = await socket.shake_hands(lambda _: self.refusal)
            assert socket.request is not None
            self.requests.append(socket.request)
            self._wake()
            if not accepted:
                return
            async with Multiplexer(socket, client=False) as mux:
                self.connections.append(mux)
                self._wake()
                await serve(mux, self._handlers())
        except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
            pass
        finally:
            await socket.aclose()

    def _handlers(self) -> Mapping[Any, Any]:  # Any: as `drpc.serve` has it
        from warren.errors import Conflict

        def answer(name: str, make: Callable[[], Message]) -> Callable[[Message], Any]:
            async def handle(request: Message) -> Message:
                self.note(name, request)
                if name in self.failing:
                    raise Conflict(f"{name} is refused by the test")
                return make()

            return handle

        async def maps(call: Call[tailnet.DERPMap, tailnet.StreamDERPMapsRequest]) -> None:
            await call.receive()
            await anyio.sleep_forever()

        async def coordinate(call: Call[tailnet.CoordinateResponse, tailnet.CoordinateRequest]) -> None:
            async for request in call:
                self.note("Coordinate", request)

        def interval() -> pb.UpdateStatsResponse:
            response = pb.UpdateStatsResponse()
            response.report_interval.FromTimedelta(timedelta(seconds=0.3))
            return response

        def logs() -> pb.BatchCreateLogsResponse:
            return pb.BatchCreateLogsResponse(log_limit_exceeded=self.log_limit_exceeded)

        banners = pb.GetAnnouncementBannersResponse()
        makers: dict[Any, Callable[[], Message]] = {
            AgentAPI.GetManifest: lambda: self.manifest,
            AgentAPI.GetAnnouncementBanners: lambda: banners,
            AgentAPI.GetResourcesMonitoringConfiguration: lambda: self.plan,
            AgentAPI.UpdateStartup: pb.Startup,
            AgentAPI.UpdateLifecycle: pb.Lifecycle,
            AgentAPI.UpdateStats: interval,
            AgentAPI.BatchCreateLogs: logs,
            AgentAPI.ScriptCompleted: pb.WorkspaceAgentScriptCompletedResponse,
            AgentAPI.BatchUpdateMetadata: pb.BatchUpdateMetadataResponse,
            AgentAPI.BatchUpdateAppHealths: pb.BatchUpdateAppHealthResponse,
            AgentAPI.PushResourcesMonitoringUsage: pb.PushResourcesMonitoringUsageResponse,
            AgentAPI.ReportConnection: Empty,
        }
        handlers: dict[Any, Any] = {
            method: answer(method.path.rpartition("/")[2], make) for method, make in makers.items()
        }
        return {**handlers, TailnetAPI.StreamDERPMaps: maps, TailnetAPI.Coordinate: coordinate, **self.tailnet}


@asynccontextmanager
async def control_plane(manifest: pb.Manifest) -> AsyncGenerator[ControlPlane]:
    """Run a control plane on a loopback port."""
    plane = ControlPlane(manifest)
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    plane.port = listener.extra(anyio.abc.SocketAttribute.local_port)
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, plane.serve)
        yield plane
        tasks.cancel_scope.cancel()
