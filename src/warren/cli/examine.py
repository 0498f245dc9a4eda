"""Find out about the network what `doctor` and `netcheck` judge: measure here, ask the server, ask the agent."""

from __future__ import annotations

import http.client
import socket
import ssl
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
import msgspec

from warren.cli import connect, target
from warren.clock import SystemClock
from warren.errors import Unauthenticated, Unavailable, WarrenError
from warren.net.network_report import AgentReport, Failure, NodeNetwork, Report, ServerCheck, WorkspaceCheck

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator, Mapping

    from warren.cli.context import Context
    from warren.net.derp_map import DERPMap
    from warren.sdk.types.agents import AgentConnectionInfo, WorkspaceAgent
    from warren.sdk.types.workspaces import Workspace
    from warren.tunnel.connection import AgentConnection
    from warren.tunnel.node import Node

NETCHECK_SECONDS = 30.0
INTRODUCE_SECONDS = 10.0
REACH_SECONDS = 10.0
DIRECT_SECONDS = 6.0
"""How long a direct path may take: pings, a call by relay, pings back; what comes later is not found by waiting."""
AGENT_REPORT_SECONDS = 15.0
AGENT_API_PORT = 4
OWN_RELAY = "EDERP02"
"""What a server's own relay says of itself."""


class _Warning(msgspec.Struct, frozen=True):
    """A warning of the server's health report."""

    code: str = ""
    message: str = ""


class _Section(msgspec.Struct, frozen=True):
    """A section of the server's health report."""

    error: str | None = None
    warnings: list[_Warning] = []
    dismissed: bool = False


@dataclass(frozen=True, slots=True)
class Measured:
    """A report, and the map it is about."""

    report: Report
    derp_map: DERPMap


async def machine(context: Context, server: ServerCheck | None = None) -> Measured:
    """Measure this machine's network: STUN, relays, NAT, interfaces.

    Raises:
        WarrenError: the server does not tell which relays there are.
    """
    from warren.net import derp_map

    info = await context.client.agents.connection_generic()
    regions = derp_map.rewrite_embedded(derp_map.parse(info.derp_map or {}), context.client.url)
    server = _with_map(server or ServerCheck(url=context.client.url), info, regions)
    report = Report(server=server, direct_disabled_here=context.options.disable_direct)
    return Measured(await _measure(context, report, info, regions), regions)


def _with_map(server: ServerCheck, info: AgentConnectionInfo, regions: DERPMap) -> ServerCheck:
    nodes = [node for region in regions.regions.values() for node in region.nodes]
    return replace(
        server,
        direct_disabled=info.disable_direct_connections,
        force_websockets=info.derp_force_websockets,
        relay_count=sum(not node.stun_only for node in nodes),
        stun_count=sum(node.stun_port >= 0 for node in nodes),
    )


async def _measure(context: Context, report: Report, info: AgentConnectionInfo, regions: DERPMap) -> Report:
    from warren.tunnel import probes, stun_probe

    tls = context.client.tls_context or _default_tls(context)
    found: dict[str, Report] = {}

    async def network() -> None:
        found["network"] = replace(report, network=await node_network(context, info, regions))

    async def stun() -> None:
        found["stun"] = replace(report, stun=await stun_probe.check_stun(regions))

    async def relays() -> None:
        headers = dict(context.client.extra_headers)
        found["relays"] = replace(report, relays=await probes.check_relays(regions, tls=tls, headers=headers))

    async with anyio.create_task_group() as tasks:
        for each in (network, stun, relays):
            tasks.start_soon(each)
    return replace(report, network=found["network"].network, stun=found["stun"].stun, relays=found["relays"].relays)


def _default_tls(context: Context) -> ssl.SSLContext:
    """Make the context for relays with TLS of a server without."""
    return context.client.tls_options.context()


async def node_network(context: Context, info: AgentConnectionInfo, regions: DERPMap) -> NodeNetwork:
    """Have a node of our own measure the network.

    Raises:
        Unavailable: it does not finish.
    """
    from warren.tunnel import observe

    options = connect.connect_options(context, info)
    async with _own_node(context, info) as node:
        node.engine.set_derp_map(_encode(regions))
        with anyio.move_on_after(NETCHECK_SECONDS):
            net = await node.netcheck()
            return observe.network(net, node.engine, block_direct=options.block_direct)
    raise Unavailable(f"the network could not be measured within {NETCHECK_SECONDS:.0f} s")


@asynccontextmanager
async def _own_node(context: Context, info: AgentConnectionInfo) -> AsyncGenerator[Node]:
    from uuid import uuid4

    from warren.net.addresses import tailnet_address
    from warren.tunnel.node import Node, NodeConfig

    options, server = connect.connect_options(context, info), connect.server_address(context)
    config = NodeConfig(
        addresses=(tailnet_address(uuid4()),),
        block_direct=options.block_direct,
        force_websockets=options.force_websockets,
        port_mapping=options.port_mapping,
        listen_port=options.listen_port,
        stack=options.stack,
        congestion_control=options.congestion_control,
        tls_ca_pem=server.ca_pem,
        relay_headers=server.relay_headers,
    )
    async with Node.open(config) as node:
        yield node


def _encode(regions: DERPMap) -> bytes:
    return msgspec.json.encode(regions.to_json())


async def server(context: Context, url: str) -> ServerCheck:
    """Reach the control plane."""
    from warren import __version__
    from warren.tunnel import probes

    client = context.client_for(url, token=context.token)
    return await probes.check_server(
        url,
        tls=client.trust,
        headers={**client.extra_headers, "User-Agent": "warren-doctor"},
        clock=SystemClock(),
        own_version=__version__,
    )


async def everything(context: Context, wanted: str) -> Report:
    """Examine the server, this machine's network and, if `wanted` names one, a workspace.

    Raises:
        NotFound: there is no such workspace.
    """
    found = await server(context, context.url)
    if found.failure is not Failure.NONE:
        return Report(server=found)
    try:
        measured = (await machine(context, found)).report
        workspace = await context.workspace(target.parse(wanted).path) if wanted else None
    except Unauthenticated as error:
        return Report(server=replace(found, signed_in=False, error=error.message))
    measured = replace(measured, server=replace(measured.server, problems=await _problems(context)))
    if workspace is None:
        return measured
    return replace(measured, workspace=await _workspace(context, workspace, target.parse(wanted).agent))


async def _problems(context: Context) -> tuple[str, ...]:
    """Ask the server how it is; most users may not know."""
    try:
        health = await context.client.get("/debug/health", dict[str, object])
    except WarrenError:
        return ()
    return tuple(_unwell(health))


def _unwell(health: Mapping[str, object]) -> Iterator[str]:
    """Name what a health report says of the ways to the server; what we see of relays ourselves is not repeated."""
    for name in ("access_url", "websocket", "derp"):
        found = msgspec.convert(health.get(name) or {}, _Section)
        if found.dismissed:
            continue
        if found.error:
            yield f"{name}: {found.error}"
        for warning in found.warnings:
            if name != "derp" or warning.code == OWN_RELAY:
                yield f"{name}: {warning.message}"


async def _workspace(context: Context, workspace: Workspace, agent_name: str) -> WorkspaceCheck:
    name, status = workspace.name, workspace.latest_build.status
    if status != "running":
        return WorkspaceCheck(name, status)
    agent = target.pick_agent(workspace, agent_name)
    check = WorkspaceCheck(name, status, agent.name, agent.status)
    if agent.status != "connected":
        advice = agent.troubleshooting_url
        return replace(check, problem=f"see {advice}" if advice else "")
    try:
        return await _reach(context, agent, check)
    except WarrenError as error:
        return replace(check, problem=error.message)


async def _reach(context: Context, agent: WorkspaceAgent, check: WorkspaceCheck) -> WorkspaceCheck:
    """Open a tunnel, see which way it takes, and ask the agent for its side."""
    from warren.tunnel import observe

    info = await context.client.agents.connection(agent.id)
    async with connect.open_agent(context, agent.id, info=info) as connection:
        try:
            with anyio.fail_after(INTRODUCE_SECONDS):
                node = await connection.introduced()
        except TimeoutError:
            return replace(check, problem=f"the coordinator told nothing of the agent in {INTRODUCE_SECONDS:.0f} s")
        check = replace(check, introduced=True)
        try:
            with anyio.fail_after(REACH_SECONDS):
                pong = await connection.reachable()
        except TimeoutError:
            return replace(check, problem=f"no packet came back through the tunnel in {REACH_SECONDS:.0f} s")
        check = replace(check, relayed_latency_seconds=pong.latency_seconds)
        if not connect.connect_options(context, info).block_direct:
            await until_direct(connection, DIRECT_SECONDS)
        report, error = await _agent_report(connection)
        peer = connection.node.peer(node.key)
        path = observe.path(peer) if peer else None
        return replace(check, path=path, report=report, report_error=error)


async def connection(
    context: Context, connection: AgentConnection, info: AgentConnectionInfo, *, ask_agent: bool
) -> Report:
    """Report on an open connection, from what its node has seen; asks nobody but the agent."""
    from warren.net import derp_map
    from warren.tunnel import observe

    regions = derp_map.rewrite_embedded(derp_map.parse(info.derp_map or {}), context.client.url)
    agent = await connection.introduced()
    peer = connection.node.peer(agent.key)
    net = connection.node.net_info
    block_direct = connect.connect_options(context, info).block_direct
    network = observe.network(net, connection.node.engine, block_direct=block_direct) if net else None
    report, error = await _agent_report(connection) if ask_agent else (None, "")
    path = observe.path(peer) if peer else None
    return Report(
        server=_with_map(ServerCheck(url=context.client.url), info, regions),
        network=network,
        direct_disabled_here=context.options.disable_direct,
        stun=observe.stun(regions, network) if network else (),
        workspace=WorkspaceCheck(
            name="",
            status="running",
            agent_status="connected",
            introduced=True,
            relayed_latency_seconds=path.latency_seconds or 0.0 if path else None,
            path=path,
            report=report,
            report_error=error,
        ),
    )


def region_names(info: AgentConnectionInfo) -> Mapping[int, str]:
    """Name the relay regions that the server told of."""
    from warren.net import derp_map

    return {number: region.region_name for number, region in derp_map.parse(info.derp_map or {}).regions.items()}


async def until_direct(connection: AgentConnection, seconds: float) -> bool:
    """Keep the connection in use until it is direct, for so long at most."""
    with anyio.move_on_after(seconds):
        while True:
            try:
                if (await connection.ping(timeout_seconds=1.0)).direct:
                    return True
            except TimeoutError:
                continue
            await anyio.sleep(0.1)
    return False


async def _agent_report(connection: AgentConnection) -> tuple[AgentReport | None, str]:
    """Ask the agent for its side; of agents that only know upstream's report, take that."""
    own = connection.node.config.addresses[0]
    try:
        with anyio.fail_after(AGENT_REPORT_SECONDS):
            status, body = await _get(connection, f"/debug/network?peer={own}")
            with suppress(msgspec.MsgspecError):  # an agent of another version says it in another way
                if status == http.HTTPStatus.OK:
                    return msgspec.json.decode(body, type=AgentReport), ""
            status, body = await _get(connection, "/api/v0/netcheck")
            if status == http.HTTPStatus.OK:
                return _upstream_report(body), ""
    except (OSError, TimeoutError, WarrenError, http.client.HTTPException, msgspec.MsgspecError) as error:
        return None, f"the agent did not tell of its network: {error}"
    return None, f"the agent answered with status {status}"


async def _get(connection: AgentConnection, path: str) -> tuple[int, bytes]:
    sock = await connection.dial(AGENT_API_PORT)
    return await anyio.to_thread.run_sync(_get_blocking, sock, path, abandon_on_cancel=True)


def _get_blocking(sock: socket.socket, path: str) -> tuple[int, bytes]:
    sock.setblocking(True)
    sock.settimeout(AGENT_REPORT_SECONDS)
    client = http.client.HTTPConnection("agent")
    client.sock = sock
    try:
        client.request("GET", path)
        answer = client.getresponse()
        return answer.status, answer.read()
    finally:
        client.close()


def _upstream_report(body: bytes) -> AgentReport:
    """Read the report that every agent of this family gives."""
    info = msgspec.convert(msgspec.json.decode(body, type=dict[str, object]).get("net_info"), dict[str, object])
    varies, hairpin, region = (info.get(name) for name in ("MappingVariesByDestIP", "HairPinning", "PreferredDERP"))
    return AgentReport(
        NodeNetwork(
            udp=info.get("WorkingUDP") is not False,
            ipv6=bool(info.get("WorkingIPv6")),
            os_has_ipv6=bool(info.get("OSHasIPv6")),
            mapping_varies=varies if isinstance(varies, bool) else None,
            hairpinning=hairpin if isinstance(hairpin, bool) else None,
            preferred_region=region if isinstance(region, int) else 0,
        )
    )
