"""The network report in the JSON that upstream's tools read: `warren netcheck`, the agent's API, the health report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from warren.net.derp_map import DERPMap, DERPNode, DERPRegion
from warren.net.network_report import (
    TUNNEL_PACKET_BYTES,
    Failure,
    Interface,
    NodeNetwork,
    PortMapping,
    RelayCheck,
    STUNCheck,
    STUNFailure,
)

WEBSOCKET_WARNING = (
    'Node uses WebSockets because the "Upgrade: DERP" header may be blocked on the load balancer. '
    "Please ensure the load balancer can handle this custom header."
)


def report(
    network: NodeNetwork, derp_map: DERPMap, relays: Sequence[RelayCheck], stun: Sequence[STUNCheck]
) -> Mapping[str, object]:
    """Write the whole report."""
    return {"derp": derp(network, derp_map, relays, stun), "interfaces": interfaces(network.interfaces)}


def derp(
    network: NodeNetwork | None, derp_map: DERPMap, relays: Sequence[RelayCheck], stun: Sequence[STUNCheck]
) -> Mapping[str, object]:
    """Write the section of relays and STUN servers; without a node's own measurements, where there is no node."""
    by_node = {(check.region_id, check.node): check for check in relays}
    stun_by_node = {check.node: check for check in stun}
    forced = network.forced_websocket if network else dict[int, str]()
    regions = {
        str(number): _region(region, by_node, stun_by_node, forced.get(number, ""))
        for number, region in derp_map.regions.items()
    }
    warnings = _stun_warnings(stun, network)
    healthy = all(region["healthy"] for region in regions.values())
    worst = _worst(str(region["severity"]) for region in regions.values())
    return {
        "severity": _worst([worst, "warning" if warnings else "ok"]),
        "warnings": warnings,
        "dismissed": False,
        "healthy": healthy,
        "regions": regions,
        "netcheck": measured(network) if network else None,
        "netcheck_logs": [],
    }


def _stun_warnings(stun: Sequence[STUNCheck], network: NodeNetwork | None) -> list[Mapping[str, str]]:
    if not stun:
        return [_message("ESTUN01", "No STUN servers available.")]
    if network is not None and network.mapping_varies:
        return [_message("ESTUN02", "STUN returned different addresses; you may be behind a hard NAT.")]
    if any(check.mapped for check in stun):
        return []
    return [_message("ESTUN01", "STUN is not working: no server answered; UDP may be blocked.")]


def measured(network: NodeNetwork) -> Mapping[str, object]:
    """Write what a node measured, with the field names and the nanoseconds of the original."""
    by_family = {
        family: {
            name.partition("-")[0]: round(seconds * 1e9)
            for name, seconds in network.region_latency_seconds.items()
            if name.endswith(family)
        }
        for family in ("v4", "v6")
    }
    numbers = {number for family in by_family.values() for number in family}
    nearest = {number: min(family[number] for family in by_family.values() if number in family) for number in numbers}
    return {
        "UDP": network.udp,
        "IPv6": network.ipv6,
        "IPv4": network.ipv4,
        "IPv6CanSend": network.ipv6_can_send,
        "IPv4CanSend": network.ipv4_can_send,
        "OSHasIPv6": network.os_has_ipv6,
        "ICMPv4": False,
        "MappingVariesByDestIP": network.mapping_varies,
        "HairPinning": network.hairpinning,
        **_port_mapping(network),
        "PreferredDERP": network.preferred_region,
        "RegionLatency": nearest,
        "RegionV4Latency": by_family["v4"],
        "RegionV6Latency": by_family["v6"],
        "GlobalV4": network.global_v4,
        "GlobalV6": network.global_v6,
        "CaptivePortal": network.captive_portal,
    }


def _port_mapping(network: NodeNetwork) -> Mapping[str, bool | None]:
    """Say which protocols the router speaks; null where nobody asked."""
    found = network.port_mapping or PortMapping()
    return {"UPnP": found.upnp, "PMP": found.nat_pmp, "PCP": found.pcp}


def _region(
    region: DERPRegion,
    relays: Mapping[tuple[int, str], RelayCheck],
    stun: Mapping[str, STUNCheck],
    websocket: str,
) -> Mapping[str, object]:
    nodes = [_node(node, relays.get((region.region_id, node.name)), stun.get(node.name)) for node in region.nodes]
    unhealthy = sum(not node["healthy"] for node in nodes)
    healthy = unhealthy == 0 or (unhealthy == 1 and len(nodes) > 1)  # one of several may be down
    warnings = [_message("EDERP01", f"{WEBSOCKET_WARNING} ({websocket})")] if websocket else []
    worst = _worst(str(node["severity"]) for node in nodes)
    return {
        "healthy": healthy,
        "severity": "error" if not healthy else "warning" if warnings or worst != "ok" else "ok",
        "warnings": warnings,
        "region": {
            "EmbeddedRelay": region.embedded_relay,
            "RegionID": region.region_id,
            "RegionCode": region.region_code,
            "RegionName": region.region_name,
            "Nodes": [_described(node) for node in region.nodes],
        },
        "node_reports": nodes,
    }


def _described(node: DERPNode) -> Mapping[str, object]:
    return {
        "Name": node.name,
        "RegionID": node.region_id,
        "HostName": node.host_name,
        "STUNPort": node.stun_port,
        "STUNOnly": node.stun_only,
        "DERPPort": node.derp_port,
        "ForceHTTP": node.force_http,
    }


def _node(node: DERPNode, relay: RelayCheck | None, stun: STUNCheck | None) -> Mapping[str, object]:
    errors: list[str] = []
    warnings: list[Mapping[str, str]] = []
    latency_seconds = relay.latency_seconds if relay else None
    if relay is not None and not relay.reachable:
        errors.append(relay.error or relay.upgrade_error)
    elif relay is not None and relay.upgrade_error:
        warnings.append(_message("EDERP01", f"{WEBSOCKET_WARNING} ({relay.upgrade_error})"))
    stun_error = stun.failure.value if stun and stun.failure is not STUNFailure.NONE else None
    if node.stun_only and stun_error:
        errors.append(stun_error)
    severity = "error" if errors else "warning" if warnings or stun_error else "ok"
    found: dict[str, object] = {
        "healthy": not errors,
        "severity": severity,
        "warnings": warnings,
        "node": _described(node),
        "node_info": {"TokenBucketBytesPerSecond": 0, "TokenBucketBytesBurst": 0},
        "can_exchange_messages": relay is not None and relay.reachable,
        "round_trip_ping": f"{latency_seconds * 1000:.3f}ms" if latency_seconds is not None else "",
        "round_trip_ping_ms": round(latency_seconds * 1000) if latency_seconds is not None else 0,
        "uses_websocket": relay is not None and relay.failure is Failure.NONE and bool(relay.upgrade_error),
        "client_logs": [[f"through the proxy {relay.proxy}"]] if relay is not None and relay.proxy else [],
        "client_errs": [[error] for error in errors],
        "stun": {"Enabled": node.stun_port >= 0, "CanSTUN": bool(stun and stun.mapped), "Error": stun_error},
    }
    return found | ({"error": errors[0]} if errors else {})


def interfaces(found: Sequence[Interface]) -> Mapping[str, object]:
    """Write the section of interfaces; those with an MTU too small for a packet of the tunnel are warned of."""
    warnings = [small_mtu(each) for each in found if 0 < each.mtu < TUNNEL_PACKET_BYTES and each.addresses]
    return {
        "severity": "warning" if warnings else "ok",
        "warnings": warnings,
        "dismissed": False,
        "interfaces": [{"name": each.name, "mtu": each.mtu, "addresses": list(each.addresses)} for each in found],
    }


def small_mtu(interface: Interface) -> Mapping[str, str]:
    """Warn of a small MTU."""
    text = (
        f"Network interface {interface.name} has MTU {interface.mtu}, less than {TUNNEL_PACKET_BYTES}: "
        "direct connections may be slower."
    )
    return _message("EIF01", text)


def _message(code: str, text: str) -> Mapping[str, str]:
    return {"code": code, "message": text}


def _worst(severities: Iterable[str]) -> str:
    return max(severities, key=("ok", "warning", "error").index, default="ok")
