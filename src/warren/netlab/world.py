"""An internet of namespaces: a core that routes, a server, and sites behind gateways.

    node ── gateway (── provider's gateway) ──┐
                                              core ── server (relay, STUN)
    node ── gateway ──────────────────────────┘

Every line to the core can be impaired. The core knows public addresses only, as the internet does.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from warren import _engine
from warren.netlab.kinds import Kind, Mapping, Outbound
from warren.netlab.link import Impairment, join_by_line
from warren.netlab.namespace import Namespace, join_by_wire
from warren.netlab.rules import Gateway, ruleset

CORE_ADDRESS = "198.51.100.1"
SERVER_ADDRESSES = ("198.51.100.2", "198.51.100.3")
"""Two, so that a NAT which gives every destination another port can be told from one that does not."""
SERVER_ADDRESSES6 = ("2001:db8:0:1::2", "2001:db8:0:1::3")
_LOCAL6 = "fe80::1"
_BASE_SETTINGS = {
    "ipv6/conf/default/accept_dad": "0",
    "ipv6/conf/all/accept_dad": "0",
    "ipv4/ip_forward": "1",
    "ipv6/conf/all/forwarding": "1",
}


@dataclass(frozen=True, slots=True)
class Site:
    """A node's place in the world."""

    number: int
    """From 1; addresses are derived from it."""
    kind: Kind
    node: Namespace
    gateways: tuple[Namespace, ...]
    """From the node outwards."""
    outside: str
    """The public IPv4 address of the outermost gateway; empty without IPv4."""
    inside: str
    """The node's own IPv4 address; empty without IPv4."""
    line: _engine.Impairer | None
    """The impaired line to the core, where there is one."""

    @property
    def gateway_address(self) -> str:
        """The address of the nearest gateway, as the node sees it; of homes behind a NAT."""
        return f"192.168.{self.number}.1"

    @property
    def seen_as(self) -> str:
        """The public IPv4 address from which the node's packets come; empty without IPv4."""
        return self.inside if self.kind.mapping is Mapping.NONE else self.outside

    @property
    def edge(self) -> Namespace:
        """Who holds the device `wan`: the outermost gateway, or the node itself."""
        return self.gateways[-1] if self.gateways else self.node


@dataclass(slots=True)
class World:
    """The internet and whoever is on it; everything ends with the context."""

    impairment: Impairment | None = None
    seed: int = 1
    core: Namespace = field(init=False)
    server: Namespace = field(init=False)
    _stack: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> Self:
        try:
            self._build()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def namespace(self, name: str) -> Namespace:
        """Make a namespace that ends with the world."""
        made = self._stack.enter_context(Namespace(name))
        made.sysctl(_BASE_SETTINGS)
        return made

    def _build(self) -> None:
        self.core = self.namespace("core")
        self.core.ip(f"address add {CORE_ADDRESS}/32 dev lo", "route add blackhole default metric 4000")
        self.core.ip("route add blackhole ::/0 metric 4000")
        self.server = self.namespace("server")
        self._attach(self.server, 0, SERVER_ADDRESSES, "2001:db8:0:1::/64", mtu=1500, impaired=False)
        self.server.ip(*(f"address add {address}/128 dev wan nodad" for address in SERVER_ADDRESSES6))

    def _attach(
        self, edge: Namespace, number: int, addresses: tuple[str, ...], prefix6: str, *, mtu: int, impaired: bool
    ) -> _engine.Impairer | None:
        """Join an edge to the core, with these addresses of its own and this prefix behind it."""
        device, impairer = f"site{number}", None
        if impaired and self.impairment is not None:
            impairer = self._stack.enter_context(
                join_by_line(self.core, edge, device, "wan", self.impairment, seed=self.seed + number, mtu=mtu)
            )
        else:
            join_by_wire(self.core, edge, device, "wan")
            self.core.ip(f"link set {device} mtu {mtu}")
            edge.ip(f"link set wan mtu {mtu}")
        if prefix6:
            self.core.ip(f"address add {_LOCAL6}/64 dev {device} nodad")
            self.core.ip(f"route add {prefix6} via fe80::2 dev {device}")
            edge.ip("address add fe80::2/64 dev wan nodad", f"route add ::/0 via {_LOCAL6} dev wan")
        self.core.ip(*(f"route add {address}/32 dev {device}" for address in addresses))
        if addresses:
            edge.ip(
                *(f"address add {address}/32 dev wan" for address in addresses),
                f"route add default via {CORE_ADDRESS} dev wan src {addresses[0]} onlink",
            )
        return impairer

    def add_site(self, kind: Kind, number: int, *, hairpin: bool = False) -> Site:
        """Put a node of this kind on the internet; `number` from 1 makes its addresses."""
        outside = f"198.51.100.{10 + number}" if 4 in kind.families else ""
        prefix6 = f"2001:db8:0:{10 + number}::" if 6 in kind.families else ""
        node = self.namespace(f"node{number}")
        if not needs_gateway(kind):
            line = self._attach(
                node, number, (outside,), f"{prefix6}/64" if prefix6 else "", mtu=kind.mtu, impaired=True
            )
            return Site(number, kind, node, (), outside, outside, line)
        edge = self.namespace(f"gateway{number}")
        routed = kind.mapping is Mapping.NONE
        public = f"198.51.100.{100 + number}" if routed and outside else outside
        line = self._attach(
            edge, number, (public,) if public else (), f"{prefix6}/64" if prefix6 else "", mtu=kind.mtu, impaired=True
        )
        gateways = [edge]
        if kind.carrier:
            home = self.namespace(f"home{number}")
            self.join_behind(edge, home, "lan", "wan", f"100.64.{number}.1", f"100.64.{number}.2")
            home.nft(ruleset(Gateway(f"100.64.{number}.2", hairpin=hairpin)))
            gateways.insert(0, home)
        edge.nft(
            ruleset(
                Gateway(
                    public,
                    mapping=kind.mapping,
                    filtering=kind.filtering,
                    outbound=kind.outbound,
                    hairpin=hairpin,
                    says_too_big=kind.says_too_big,
                    mtu=kind.mtu,
                )
            )
        )
        inside = (outside if routed else f"192.168.{number}.2") if outside else ""
        inner = gateways[0]
        if inside:
            own = f"198.51.100.{200 + number}" if routed else f"192.168.{number}.1"
            self.join_behind(inner, node, "lan", "eth0", own, inside)
            if routed:
                self.core.ip(f"route add {inside}/32 via {public} dev site{number}")
        else:
            join_by_wire(inner, node, "lan", "eth0")
        if prefix6:
            inner.ip(f"address add {prefix6}1/64 dev lan nodad")
            node.ip(f"address add {prefix6}2/64 dev eth0 nodad", f"route add ::/0 via {prefix6}1 dev eth0")
        return Site(number, kind, node, tuple(gateways), public, inside, line)

    def join_behind(
        self, gateway: Namespace, inner: Namespace, gateway_device: str, device: str, gateway_address: str, own: str
    ) -> None:
        """Put a namespace behind a gateway, which becomes its way out."""
        join_by_wire(gateway, inner, gateway_device, device)
        gateway.ip(
            f"address add {gateway_address}/32 dev {gateway_device}",
            f"route add {own}/32 dev {gateway_device}",
        )
        inner.ip(
            f"address add {own}/32 dev {device}",
            f"route add default via {gateway_address} dev {device} src {own} onlink",
        )


def needs_gateway(kind: Kind) -> bool:
    """Say whether anything stands between a node of this kind and the internet."""
    return kind.mapping is not Mapping.NONE or kind.filtering.value != "open" or kind.outbound is not Outbound.ANY
