"""`netcheck`: what this machine's network allows, as a JSON report."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import TYPE_CHECKING

import anyio

from warren.cli import connect, ui
from warren.cli.command import command
from warren.cli.context import Context
from warren.errors import Unavailable

if TYPE_CHECKING:
    from warren import _engine
    from warren.net.derp_map import DERPMap, DERPRegion

LIMIT_SECONDS = 30.0
SMALLEST_MTU = 1378  # a packet of the tunnel (1280) with its WireGuard, UDP and IPv6 headers


@command()
async def netcheck(context: Context) -> None:
    """Report on this machine's network: relays, STUN, NAT, interfaces."""
    connect.quiet_imports()
    connect.quiet_logs(verbose=context.options.verbose)
    from uuid import uuid4

    from warren.net import derp_map
    from warren.net.addresses import tailnet_address
    from warren.tunnel.node import Node, NodeConfig

    info = await context.client.agents.connection_generic()
    regions = derp_map.rewrite_embedded(derp_map.parse(info.derp_map or {}), context.client.url)
    options = connect.connect_options(context, info)
    server = connect.server_address(context)
    config = NodeConfig(
        addresses=(tailnet_address(uuid4()),),
        block_direct=options.block_direct,
        force_websockets=options.force_websockets,
        tls_ca_pem=server.ca_pem,
        relay_headers=server.relay_headers,
    )
    async with Node.open(config) as node:
        node.engine.set_derp_map(_encode(regions))
        with anyio.move_on_after(LIMIT_SECONDS) as limit:
            net = await node.netcheck()
            context.terminal.out(ui.json_text(report(net, regions, interfaces())))
    if limit.cancelled_caught:
        raise Unavailable(f"the network could not be measured within {LIMIT_SECONDS:.0f} s")


def report(net: _engine.NetInfo, regions: DERPMap, own_interfaces: Mapping[str, object]) -> Mapping[str, object]:
    """Shape what was measured as upstream's report."""
    reached = {int(name.partition("-")[0]) for name in net.region_latency_seconds}
    checked = {
        str(number): _region(region, net, reached=number in reached) for number, region in regions.regions.items()
    }
    relays = {number for number, region in regions.regions.items() if any(not node.stun_only for node in region.nodes)}
    healthy = relays <= reached
    warnings = [] if net.udp else [_message("EUN01", "No STUN server answered: UDP may be blocked.")]
    return {
        "derp": {
            "severity": "ok" if healthy and not warnings else "warning" if healthy else "error",
            "warnings": warnings,
            "dismissed": False,
            "healthy": healthy,
            "regions": checked,
            "netcheck": _netcheck(net),
            "netcheck_logs": [],
        },
        "interfaces": own_interfaces,
    }


def _netcheck(net: _engine.NetInfo) -> Mapping[str, object]:
    """Use the field names and the nanoseconds of the original."""
    by_family = {
        family: {
            name.partition("-")[0]: round(seconds * 1e9)
            for name, seconds in net.region_latency_seconds.items()
            if name.endswith(family)
        }
        for family in ("v4", "v6")
    }
    nearest = {
        number: min(family[number] for family in by_family.values() if number in family)
        for number in {number for family in by_family.values() for number in family}
    }
    return {
        "UDP": net.udp,
        "IPv6": net.ipv6,
        "IPv4": net.ipv4,
        "IPv6CanSend": net.ipv6_can_send,
        "IPv4CanSend": net.ipv4_can_send,
        "OSHasIPv6": net.os_has_ipv6,
        "ICMPv4": False,
        "MappingVariesByDestIP": net.mapping_varies_by_destination,
        "HairPinning": net.hairpinning,
        "UPnP": None,
        "PMP": None,
        "PCP": None,
        "PreferredDERP": net.preferred_region,
        "RegionLatency": nearest,
        "RegionV4Latency": by_family["v4"],
        "RegionV6Latency": by_family["v6"],
        "GlobalV4": net.global_v4,
        "GlobalV6": net.global_v6,
        "CaptivePortal": None,
    }


def _region(region: DERPRegion, net: _engine.NetInfo, *, reached: bool) -> Mapping[str, object]:
    relay = any(not node.stun_only for node in region.nodes)
    healthy = reached or not relay
    websocket = net.forced_websocket.get(region.region_id, "")
    warnings = [_message("EDERP01", f"Node uses WebSockets: {websocket}")] if websocket else []
    milliseconds = [
        seconds * 1000
        for name, seconds in net.region_latency_seconds.items()
        if int(name.partition("-")[0]) == region.region_id
    ]
    return {
        "healthy": healthy,
        "severity": "error" if not healthy else "warning" if warnings else "ok",
        "warnings": warnings,
        "region": {
            "RegionID": region.region_id,
            "RegionCode": region.region_code,
            "RegionName": region.region_name,
            "EmbeddedRelay": region.embedded_relay,
        },
        "node_reports": [
            {
                "healthy": healthy,
                "severity": "ok" if healthy else "error",
                "node": {"Name": node.name, "HostName": node.host_name, "DERPPort": node.derp_port},
                "round_trip_ping_ms": round(min(milliseconds)) if milliseconds else 0,
                "round_trip_ping": f"{min(milliseconds):.3f}ms" if milliseconds else "",
                "uses_websocket": bool(websocket),
                "can_exchange_messages": healthy and not node.stun_only,
                "stun": {"Enabled": node.stun_port >= 0, "CanSTUN": _answered(net, node.name), "Error": None},
            }
            for node in region.nodes
        ],
    }


def _answered(net: _engine.NetInfo, node_name: str) -> bool:
    return node_name in net.stun_answers or (len(net.stun_answers) == 0 and net.udp)


def interfaces() -> Mapping[str, object]:
    """List this machine's network interfaces; those with an MTU too small for a packet of the tunnel are warned of."""
    import psutil

    found: list[Mapping[str, object]] = []
    warnings: list[Mapping[str, str]] = []
    states = psutil.net_if_stats()
    for name, addresses in psutil.net_if_addrs().items():
        mtu = states[name].mtu if name in states else 0
        own = [item.address for item in addresses if item.family in {socket.AF_INET, socket.AF_INET6}]
        found.append({"name": name, "mtu": mtu, "addresses": own})
        if 0 < mtu < SMALLEST_MTU:
            text = f"Network interface {name} has MTU {mtu}, less than {SMALLEST_MTU}: direct connections may fail."
            warnings.append(_message("EIF01", text))
    return {
        "severity": "warning" if warnings else "ok",
        "warnings": warnings,
        "dismissed": False,
        "interfaces": found,
    }


def _message(code: str, text: str) -> Mapping[str, str]:
    return {"code": code, "message": text}


def _encode(regions: DERPMap) -> bytes:
    import msgspec

    return msgspec.json.encode(regions.to_json())
