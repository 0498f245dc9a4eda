"""nftables rules of the lab's gateways, as text. Pure.

Linux itself is one kind of NAT: it keeps the port where it can and lets in answers only. The others are made of it:
`random,fully-random` gives every destination another port, and a map of who has used which port lets strangers in.
"""

from __future__ import annotations

from dataclasses import dataclass

from warren.netlab.kinds import Filtering, Mapping, Outbound

PROXY_PORT = 3128
INTERCEPT_PORT = 8443
_TCP_HEADERS = 40
"""Length of the headers of IPv4 and TCP."""
_FORGET = "2m"
"""How long a port that is not used stays open to strangers (RFC 4787 §4.3: two minutes at least)."""


@dataclass(frozen=True, slots=True)
class Gateway:
    """What one gateway does between its devices `lan*` and `wan`."""

    address: str
    """Its own IPv4 address on `wan`; empty where it has none."""
    mapping: Mapping = Mapping.INDEPENDENT
    filtering: Filtering = Filtering.PORT
    outbound: Outbound = Outbound.ANY
    hairpin: bool = False
    """Nodes behind it reach each other by their outer addresses."""
    says_too_big: bool = True
    mtu: int = 1500
    """Of its line."""


def ruleset(gateway: Gateway) -> str:
    """Write the rules of a gateway."""
    strangers = gateway.filtering in (Filtering.INDEPENDENT, Filtering.ADDRESS)
    chains = [
        _TABLES,
        _chain("forward", "filter hook forward priority filter; policy drop", _forward(gateway)),
        _chain("input", "filter hook input priority filter; policy accept", _INPUT),
    ]
    if not gateway.says_too_big:
        silent = ["icmp type destination-unreachable drop", "icmpv6 type packet-too-big drop"]
        chains.append(_chain("output", "filter hook output priority filter; policy accept", silent))
    if gateway.mapping is not Mapping.NONE:
        chains.append(
            _chain("pre", "nat hook prerouting priority dstnat; policy accept", _pre(gateway, strangers=strangers))
        )
        chains.append(_chain("post", "nat hook postrouting priority srcnat; policy accept", _post(gateway)))
    elif gateway.outbound is Outbound.INTERCEPTED:
        chains.append(_chain("pre", "nat hook prerouting priority dstnat; policy accept", [_INTERCEPT]))
    return "table inet lab {\n" + "\n".join(chains) + "\n}\n"


_TABLES = f"""\
    map owners {{ type inet_service : ipv4_addr; size 8192; flags dynamic,timeout; timeout {_FORGET}; }}
    set contacted {{ type ipv4_addr . inet_service; size 8192; flags dynamic,timeout; timeout {_FORGET}; }}"""
_INPUT = [
    "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-advert } accept",
    "ct state established,related accept",
    # Nothing is answered, and so no connection is noted that would take the port from a node behind us.
    'iifname "wan" drop',
]
_INTERCEPT = f'iifname "lan*" tcp dport 443 redirect to :{INTERCEPT_PORT}'


def _chain(name: str, hook: str, rules: list[str]) -> str:
    lines = "".join(f"\n        {rule}" for rule in rules)
    return f"    chain {name} {{\n        type {hook};{lines}\n    }}"


def _forward(gateway: Gateway) -> list[str]:
    rules: list[str] = []
    if not gateway.says_too_big:
        # As routers on such lines do, or no web page would load: TCP is told, and only UDP meets the silence.
        rules.append(f"tcp flags syn tcp option maxseg size set {gateway.mtu - _TCP_HEADERS}")
    match gateway.outbound:
        case Outbound.TCP:
            rules.append("meta l4proto udp drop")
        case Outbound.HTTPS:
            rules.append('iifname "lan*" oifname "wan" tcp dport != 443 drop')
            rules.append("meta l4proto != { tcp, icmp, icmpv6 } drop")
        case Outbound.HTTP_PROXY | Outbound.TLS_PROXY | Outbound.SOCKS_PROXY | Outbound.INTERCEPTED:
            rules.append("drop")  # what is allowed ends at this gateway
        case Outbound.ANY:
            pass
    outgoing = 'iifname "lan*" meta nfproto ipv4 meta l4proto udp'
    rules.append(f"{outgoing} update @owners {{ udp sport : ip saddr }}")
    rules.append(f"{outgoing} update @contacted {{ ip daddr . udp sport }}")
    rules.append("ct state established,related accept")
    rules.append('iifname "lan*" oifname "wan" accept')
    rules.append('iifname "lan" oifname "lan" accept')  # on a bridge, where bridged packets are filtered too
    rules.append("ct status dnat accept")
    return rules


def _pre(gateway: Gateway, *, strangers: bool) -> list[str]:
    rules: list[str] = []
    to_owner = "dnat ip to udp dport map @owners"
    if gateway.outbound is Outbound.INTERCEPTED:
        rules.append(_INTERCEPT)
    if strangers:
        contacted = "ip saddr . udp dport @contacted " if gateway.filtering is Filtering.ADDRESS else ""
        rules.append(f'iifname "wan" meta nfproto ipv4 meta l4proto udp {contacted}{to_owner}')
    if gateway.hairpin:
        rules.append(f'iifname "lan*" ip daddr {gateway.address} meta l4proto udp {to_owner}')
    return rules


def _post(gateway: Gateway) -> list[str]:
    random = " random,fully-random" if gateway.mapping is Mapping.DEPENDENT else ""
    rules = [f'meta nfproto ipv4 oifname "wan" masquerade{random}']
    if gateway.hairpin:
        rules.append(f'meta nfproto ipv4 iifname "lan*" oifname "lan*" ct status dnat snat ip to {gateway.address}')
    return rules
