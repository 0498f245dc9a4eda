"""Reach one agent: a node of our own, introduced to it by the control plane.

`dial_agent` is what `ssh`, `port-forward`, `ping` and the rest stand on. The first connection to the control plane
must work, and its refusal is the caller's error; afterwards the tunnel lives by itself and the connection is renewed in
the background, so that a restart of the server is not noticed.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from uuid import UUID, uuid4

import anyio
import anyio.abc
import structlog

from warren.clock import Clock
from warren.errors import ProtocolError, RemoteError, Unauthenticated, Unavailable, WarrenError
from warren.net.addresses import tailnet_address
from warren.net.derp_map import DERPMap, rewrite_embedded
from warren.net.node import NodeInfo
from warren.retry import Backoff
from warren.rpc import websocket
from warren.rpc._pb import tailnet_pb2 as pb
from warren.rpc.drpc import Client
from warren.rpc.methods import TailnetAPI
from warren.rpc.multiplexer import Multiplexer
from warren.tunnel.coordination import Coordination
from warren.tunnel.node import Node, NodeConfig, PingResult

log = structlog.get_logger()

VERSION = "2.0"
"""What we ask for: enough for coordination, so that any server of this family accepts us."""

FIRST_PROBE_SECONDS = 0.05
LONGEST_PROBE_SECONDS = 5.0
RESUME_REFRESH_FALLBACK_SECONDS = 30 * 60.0

LOST = (OSError, EOFError, TimeoutError, anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError)
"""How a connection to the control plane ends without anybody being wrong."""


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """Where the control plane is and how we sign in to it.

    `headers` carry the credential, so they go to the control plane only; `relay_headers` go to every relay.
    `ca_pem` are authorities that relays are checked against, besides the system's.
    """

    url: str
    headers: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    relay_headers: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    tls: ssl.SSLContext | None = None
    ca_pem: bytes | None = None


@dataclass(frozen=True, slots=True)
class ConnectOptions:
    """How to connect to an agent."""

    block_direct: bool = False
    force_websockets: bool = False
    port_mapping: bool = False
    listen_port: int = 0
    stack: str = "auto"
    congestion_control: str = "auto"


class AgentConnection:
    """A tunnel to one agent. Made by `dial_agent`."""

    def __init__(self, node: Node, coordination: Coordination, agent_id: UUID) -> None:
        self.node = node
        self.coordination = coordination
        self.agent_id = agent_id
        self.address = tailnet_address(agent_id)

    async def introduced(self) -> NodeInfo:
        """Wait until the coordinator introduced us and the agent; return how the agent describes itself."""
        return await self.coordination.wait_programmed(self.agent_id)

    async def reachable(self) -> PingResult:
        """Wait until a packet went to the agent and back inside the tunnel."""
        agent = await self.introduced()
        wait_seconds = FIRST_PROBE_SECONDS
        while True:
            try:
                return await self.node.ping(agent.key, kind="tunnel", timeout_seconds=wait_seconds)
            except TimeoutError:
                wait_seconds = min(wait_seconds * 2, LONGEST_PROBE_SECONDS)

    async def dial(self, port: int, *, timeout_seconds: float = 30.0) -> socket.socket:
        """Connect to a TCP port of the workspace; raises as `Node.dial` does."""
        await self.introduced()
        return await self.node.dial(self.address, port, timeout_seconds=timeout_seconds)

    async def dial_udp(self, port: int) -> socket.socket:
        """Open a UDP flow to a port of the workspace."""
        await self.introduced()
        return self.node.dial_udp(self.address, port)

    async def ping(self, *, timeout_seconds: float = 5.0) -> PingResult:
        """Ping the agent on its present path.

        Raises:
            TimeoutError: no answer in time.
        """
        agent = await self.introduced()
        return await self.node.ping(agent.key, timeout_seconds=timeout_seconds)


@asynccontextmanager
async def dial_agent(
    server: ServerAddress, agent_id: UUID, derp_map: DERPMap, options: ConnectOptions, *, clock: Clock
) -> AsyncGenerator[AgentConnection]:
    """Open a tunnel to an agent; it is closed, and the agent told, when the context ends.

    Raises:
        WarrenError: the control plane refused us at the first try.
    """
    self_id = uuid4()
    config = NodeConfig(
        addresses=(tailnet_address(self_id),),
        block_direct=options.block_direct,
        force_websockets=options.force_websockets,
        port_mapping=options.port_mapping,
        listen_port=options.listen_port,
        stack=options.stack,
        congestion_control=options.congestion_control,
        tls_ca_pem=server.ca_pem,
        relay_headers=server.relay_headers,
    )
    prepare = partial(rewrite_embedded, access_url=server.url)
    async with (
        Node.open(config) as node,
        Coordination.open(node, self_id, prepare_derp_map=prepare, clock=clock) as coordination,
    ):
        coordination.use_derp_map(derp_map)
        coordination.add_destination(agent_id)
        control = _Control(server, agent_id, coordination)
        async with anyio.create_task_group() as tasks:
            await tasks.start(control.keep)
            try:
                yield AgentConnection(node, coordination, agent_id)
            finally:
                await coordination.leave()
                tasks.cancel_scope.cancel()


class _Control:
    """The connection to the control plane, renewed for ever; keeps our peer id by its resume token."""

    def __init__(self, server: ServerAddress, agent_id: UUID, coordination: Coordination) -> None:
        self._server, self._agent_id, self._coordination = server, agent_id, coordination
        self._resume_token = ""
        self._backoff = Backoff()

    async def keep(self, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        """Serve connections one after the other; `started` once the first stands."""
        failures = 0
        started = False

        def connected() -> None:
            nonlocal failures, started
            failures = 0
            if not started:
                started = True
                task_status.started()

        while True:
            try:
                await self._hold(connected)
            except Unauthenticated as error:
                if self._resume_token and any(violation.field == "resume_token" for violation in error.violations):
                    self._resume_token = ""
                    continue
                if not started:
                    raise
                log.info("control.refused", error=str(error))
            except (WarrenError, *LOST) as error:
                if not started:
                    raise
                log.info("control.lost", error=str(error) or repr(error))
            failures += 1
            await anyio.sleep(self._backoff.pause_seconds(failures))

    async def _hold(self, connected: Callable[[], None]) -> None:
        async with (
            websocket.connect(self._url(), headers=self._server.headers, tls=self._server.tls) as stream,
            Multiplexer(stream, client=True) as mux,
        ):
            connected()
            client = Client(mux)
            lost: BaseException | None = None
            try:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._refresh_resume_token, client)
                    await self._coordination.serve(client, acknowledge=False)
            except* Unavailable as group:
                lost = group
        raise Unavailable("the connection to the control plane ended") from lost

    def _url(self) -> str:
        base = self._server.url.rstrip("/").replace("http", "ws", 1)
        resume = f"&resume_token={self._resume_token}" if self._resume_token else ""
        return f"{base}/api/v2/workspaceagents/{self._agent_id}/coordinate?version={VERSION}{resume}"

    async def _refresh_resume_token(self, client: Client) -> None:
        """Keep a token that gives us the same peer id after a reconnect."""
        while True:
            try:
                answer = await client.unary(TailnetAPI.RefreshResumeToken, pb.RefreshResumeTokenRequest())
            except (RemoteError, ProtocolError, Unavailable) as error:
                log.debug("resume_token.unsupported", error=str(error))
                return
            self._resume_token = answer.token
            refresh_seconds = answer.refresh_in.ToTimedelta().total_seconds()
            await anyio.sleep(refresh_seconds if refresh_seconds > 0 else RESUME_REFRESH_FALLBACK_SECONDS)
