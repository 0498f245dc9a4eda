"""The kinds of networks that nodes are in, as data, and which path each pair of them must get. Pure.

Mapping and filtering are those of RFC 4787, §4.1 and §5: whether a NAT gives one inner address and port the same outer
ones for every destination, and whom it lets in through them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Mapping(StrEnum):
    """What becomes of a node's own address and port on the way out."""

    NONE = "none"
    """Nothing: there is no NAT."""
    INDEPENDENT = "endpoint-independent"
    DEPENDENT = "address-and-port-dependent"


class Filtering(StrEnum):
    """Whose packets come in."""

    OPEN = "open"
    INDEPENDENT = "endpoint-independent"
    """Anyone's, once the node has sent anything from that port."""
    ADDRESS = "address-dependent"
    """Those of addresses that the node has sent to."""
    PORT = "address-and-port-dependent"
    """Those of addresses and ports that the node has sent to."""


class Outbound(StrEnum):
    """What a network lets out."""

    ANY = "anything"
    TCP = "TCP only"
    HTTPS = "TCP to port 443 only"
    HTTP_PROXY = "an HTTP proxy only"
    TLS_PROXY = "an HTTP proxy reached by TLS only"
    SOCKS_PROXY = "a SOCKS proxy only"
    INTERCEPTED = "TCP to port 443 only, with TLS opened by a middlebox"


class Path(StrEnum):
    """What carries the tunnel."""

    DIRECT = "direct"
    RELAY = "relay"


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of network that a node is in."""

    name: str
    description: str
    families: tuple[int, ...] = (4,)
    mapping: Mapping = Mapping.INDEPENDENT
    filtering: Filtering = Filtering.PORT
    carrier: bool = False
    """Behind a second NAT, of the provider."""
    outbound: Outbound = Outbound.ANY
    mtu: int = 1500
    says_too_big: bool = True
    """Routers say when a packet is too large, by ICMP, instead of dropping it silently."""

    @property
    def udp(self) -> bool:
        """Whether UDP gets out at all."""
        return self.outbound is Outbound.ANY


KINDS: tuple[Kind, ...] = (
    Kind("public", "a public address and nothing before it", mapping=Mapping.NONE, filtering=Filtering.OPEN),
    Kind("firewall", "a public address behind a stateful firewall", mapping=Mapping.NONE),
    Kind("full-cone", "a NAT that lets anyone in through a port in use", filtering=Filtering.INDEPENDENT),
    Kind("restricted", "a NAT that lets in whom was written to, from any port", filtering=Filtering.ADDRESS),
    Kind("easy", "a home NAT: one outer port for all, only answers come in"),
    Kind("hard", "a NAT with another outer port for each destination", mapping=Mapping.DEPENDENT),
    Kind("cgnat", "a home NAT behind the provider's", carrier=True),
    Kind("dual", "IPv4 by a home NAT, IPv6 behind a stateful firewall", families=(4, 6), mapping=Mapping.INDEPENDENT),
    Kind("v6-only", "IPv6 only, behind a stateful firewall", families=(6,), mapping=Mapping.NONE),
    Kind("low-mtu", "a home NAT on a line of 1300 bytes, which says so", mtu=1300),
    Kind("low-mtu-silent", "a home NAT on a line of 1300 bytes, which says nothing", mtu=1300, says_too_big=False),
    Kind("udp-blocked", "a home NAT that drops UDP", outbound=Outbound.TCP),
    Kind("https-only", "a home NAT that lets out TCP to port 443 only", outbound=Outbound.HTTPS),
    Kind("http-proxy", "no way out but an HTTP proxy", outbound=Outbound.HTTP_PROXY),
    Kind("tls-proxy", "no way out but an HTTP proxy that is itself reached by TLS", outbound=Outbound.TLS_PROXY),
    Kind("socks-proxy", "no way out but a SOCKS5 proxy that wants a password", outbound=Outbound.SOCKS_PROXY),
    Kind("tls-intercept", "a middlebox opens all TLS with a certificate of its own", outbound=Outbound.INTERCEPTED),
)
BY_NAME = {kind.name: kind for kind in KINDS}


SILENT = (
    r"(the one endpoint of the peer was asked \w+( times)?, and (has not answered yet|did not answer)"
    r"|\d+ endpoints of the peer were asked, up to \w+( times)? each, and none (has answered yet|answered))"
)
"""What an engine says when nothing answers, as a regular expression."""
NO_PUBLIC_ADDRESS = "; neither side knows a public address of its own"


@dataclass(frozen=True, slots=True)
class Expected:
    """Which path two nodes must get, and why."""

    path: Path
    why: str
    reason: str = ""
    """What the first node's engine must say of a relayed path, as a regular expression for all of it."""


def expected(one: Kind, other: Kind) -> Expected:
    """Say which path two nodes in these networks get: direct wherever physics allow."""
    for kind in (one, other):
        if not kind.udp:
            return _relayed(one, other, f"{kind.name} lets out {kind.outbound.value}")
    shared = set(one.families) & set(other.families)
    if not shared:
        return _relayed(one, other, " and ".join(f"{kind.name} has {_family(kind)} only" for kind in (one, other)))
    if 6 in shared:
        return Expected(Path.DIRECT, "both have IPv6, and firewalls let answers in")
    for sender, receiver in ((one, other), (other, one)):
        if admits(receiver, sender):
            return Expected(Path.DIRECT, _why_admitted(receiver, sender))
    return _relayed(one, other, _why_refused(one, other))


def _relayed(one: Kind, other: Kind, why: str) -> Expected:
    return Expected(Path.RELAY, why, _told(one, other))


def _told(one: Kind, other: Kind) -> str:
    """Say what the engine of a relayed node can know of its own network and of the other one's."""
    if not set(one.families) & set(other.families):
        return f"the peer has {_family(other)} addresses only, and this side {_family(one)} addresses only"
    nats = {
        (True, True): "; the NAT on this side gives every destination another port, and the peer's seems to, too",
        (True, False): "; the NAT on this side gives every destination another port",
        (False, True): "; the peer's NAT seems to give every destination another port",
        (False, False): "",
    }
    addresses = {
        (False, False): NO_PUBLIC_ADDRESS,
        (False, True): "; this side knows no public address of its own",
        (True, False): "; the peer knows no public address of its own",
        (True, True): "",
    }
    varies = tuple(kind.udp and kind.mapping is Mapping.DEPENDENT for kind in (one, other))
    return SILENT + nats[varies[0], varies[1]] + addresses[one.udp, other.udp]


def _family(kind: Kind) -> str:
    return {4: "IPv4", 6: "IPv6"}[kind.families[0]]


def admits(receiver: Kind, sender: Kind) -> bool:
    """Say whether a packet sent to the receiver's known endpoint arrives, when both have sent to each other's.

    A receiver whose NAT gives every destination another port has no known endpoint. A sender behind such a NAT comes
    from a port that nobody has written to. Once one packet is through, its answer goes back the way it came.
    """
    if receiver.mapping is Mapping.DEPENDENT:
        return False
    if receiver.filtering is Filtering.PORT:
        return sender.mapping is not Mapping.DEPENDENT
    return True


def _why_admitted(receiver: Kind, sender: Kind) -> str:
    if receiver.filtering is Filtering.OPEN:
        return f"{receiver.name} can be reached by anyone"
    if sender.mapping is Mapping.DEPENDENT:
        return f"{receiver.name} lets in packets from a port that it has not written to"
    return "each side's endpoint is known and both send first"


def _why_refused(one: Kind, other: Kind) -> str:
    if one.mapping is other.mapping is Mapping.DEPENDENT:
        return "both NATs use another port for each destination, so neither endpoint is known"
    hard, filtering = (one, other) if one.mapping is Mapping.DEPENDENT else (other, one)
    return f"{hard.name} sends from a port that nobody knows, and {filtering.name} lets in known ports only"
