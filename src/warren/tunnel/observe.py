"""What an engine and the operating system know of the network, as values that `warren.net` judges."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING

from warren.net.derp_map import DERPMap
from warren.net.network_report import (
    Attempt,
    Interface,
    NodeNetwork,
    PathChange,
    PeerPath,
    PortMapping,
    STUNCheck,
    STUNFailure,
)
from warren.net.stun import DEFAULT_PORT

if TYPE_CHECKING:
    from warren import _engine


def network(net: _engine.NetInfo, engine: _engine.Engine, *, block_direct: bool) -> NodeNetwork:
    """Take over what an engine measured; looks at the interfaces, too."""
    return NodeNetwork(
        udp=net.udp,
        ipv4=net.ipv4,
        ipv6=net.ipv6,
        ipv4_can_send=net.ipv4_can_send,
        ipv6_can_send=net.ipv6_can_send,
        os_has_ipv6=net.os_has_ipv6,
        mapping_varies=net.mapping_varies_by_destination,
        hairpinning=net.hairpinning,
        global_v4=net.global_v4,
        global_v6=net.global_v6,
        preferred_region=net.preferred_region,
        region_latency_seconds=dict(net.region_latency_seconds),
        forced_websocket=dict(net.forced_websocket),
        endpoints=tuple(net.endpoints),
        stun_answers=dict(net.stun_answers),
        port_mapping=_port_mapping(net.port_mapping),
        captive_portal=net.captive_portal,
        region_errors=dict(net.region_errors),
        warnings=tuple(net.warnings),
        interfaces=interfaces(),
        stack=engine.stack,
        stack_reason=engine.stack_reason,
        block_direct=block_direct,
    )


def _port_mapping(found: _engine.PortMapping | None) -> PortMapping | None:
    if found is None:
        return None
    return PortMapping(found.protocol, found.external, found.reason, found.pcp, found.nat_pmp, found.upnp)


def stun(derp_map: DERPMap, found: NodeNetwork) -> Sequence[STUNCheck]:
    """Say what became of an engine's requests to each STUN server of a map."""
    return tuple(
        STUNCheck(
            node.name,
            node.host_name,
            node.stun_port or DEFAULT_PORT,
            mapped=found.stun_answers.get(node.name, ""),
            failure=STUNFailure.NONE if node.name in found.stun_answers else STUNFailure.SILENCE,
        )
        for region in derp_map.regions.values()
        for node in region.nodes
        if node.stun_port >= 0
    )


def path(peer: _engine.PeerStats) -> PeerPath:
    """Take over what an engine knows of the way to a peer."""
    return PeerPath(
        address=peer.addresses[0].partition("/")[0] if peer.addresses else "",
        direct=peer.direct,
        endpoint=peer.endpoint,
        region=peer.region,
        home_region=peer.home_region,
        latency_seconds=peer.latency_seconds,
        reason=peer.reason,
        attempts=tuple(_attempt(candidate) for candidate in peer.candidates),
        handshake_age_seconds=peer.last_handshake_age_seconds,
        inner_mtu=peer.inner_mtu or None,
        history=tuple(
            PathChange(record.age_seconds, record.direct, record.endpoint, record.region, record.reason)
            for record in peer.history
        ),
    )


def _attempt(candidate: _engine.Candidate) -> Attempt:
    return Attempt(
        endpoint=candidate.endpoint,
        source=candidate.source,
        state=candidate.state,
        pings_sent=candidate.pings_sent,
        pongs_received=candidate.pongs_received,
        latency_seconds=candidate.latency_seconds,
        inner_mtu=candidate.inner_mtu or None,
        reason=candidate.reason,
    )


def interfaces() -> Sequence[Interface]:
    """List this machine's interfaces that are up, with their MTU and addresses."""
    import psutil

    states = psutil.net_if_stats()
    return tuple(
        Interface(name, states[name].mtu, tuple(filter(None, map(_prefix, addresses))))
        for name, addresses in psutil.net_if_addrs().items()
        if name in states and states[name].isup
    )


def _prefix(address: object) -> str:
    """Write an address of psutil's with its prefix length; nothing if it is no IP address."""
    family, host, mask = (getattr(address, name, None) for name in ("family", "address", "netmask"))
    if family not in {socket.AF_INET, socket.AF_INET6} or not host:
        return ""
    plain = str(host).partition("%")[0]
    if not mask:
        return plain
    bits = bin(int(ipaddress.ip_address(str(mask)))).count("1")
    return f"{plain}/{bits}"
