"""What is known of a network: of one node's, of the way to a peer, of the control plane and of each relay.

Values only. Whoever measured fills them in, `diagnosis.diagnose` judges them, `--output json` shows them as they are.
An empty `error` means that there was none; `None` means that it was not measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

TUNNEL_PACKET_BYTES = 1378
"""A packet of the tunnel (1280) with its WireGuard, UDP and IPv6 headers, padded: the documented minimum for direct."""


class Failure(StrEnum):
    """Where a connection failed; empty when it did not."""

    NONE = ""
    DNS = "dns"
    PROXY = "proxy"
    CONNECT = "connect"
    TLS = "tls"
    """The certificate is not trusted."""
    NO_TLS = "no-tls"
    """No TLS could be set up at all."""
    CLOCK = "clock"
    """The certificate's dates do not fit this machine's clock."""
    HTTP = "http"


class STUNFailure(StrEnum):
    """Why a STUN server did not answer, as it is shown."""

    NONE = ""
    SILENCE = "no answer"
    REFUSED = "refused: nothing listens on that port"
    BLOCKED_HERE = "this machine does not let the packet out"
    NO_ROUTE = "there is no route to it"
    NO_ADDRESS = "its name has no address"


@dataclass(frozen=True, slots=True)
class Interface:
    """A network interface; addresses with their prefix length."""

    name: str
    mtu: int
    addresses: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class PortMapping:
    """What became of asking the router for a port: which protocols it speaks, and the port that leads to us."""

    protocol: str = ""
    external: str = ""
    reason: str = ""
    """Why there is none."""
    pcp: bool | None = None
    nat_pmp: bool | None = None
    upnp: bool | None = None


@dataclass(frozen=True, slots=True)
class NodeNetwork:
    """What a node knows of its own network."""

    udp: bool = False
    ipv4: bool = False
    ipv6: bool = False
    ipv4_can_send: bool = False
    ipv6_can_send: bool = False
    os_has_ipv6: bool = False
    mapping_varies: bool | None = None
    """Whether the NAT gives each destination another public port; `None` with fewer than two STUN answers."""
    hairpinning: bool | None = None
    global_v4: str = ""
    global_v6: str = ""
    preferred_region: int = 0
    region_latency_seconds: Mapping[str, float] = field(default_factory=dict[str, float])
    forced_websocket: Mapping[int, str] = field(default_factory=dict[int, str])
    endpoints: Sequence[str] = ()
    stun_answers: Mapping[str, str] = field(default_factory=dict[str, str])
    port_mapping: PortMapping | None = None
    captive_portal: bool | None = None
    region_errors: Mapping[int, str] = field(default_factory=dict[int, str])
    """Regions whose relay a node cannot use, and why."""
    warnings: Sequence[str] = ()
    interfaces: Sequence[Interface] = ()
    stack: str = ""
    stack_reason: str = ""
    block_direct: bool = False


@dataclass(frozen=True, slots=True)
class Attempt:
    """One endpoint of a peer, and what became of the pings to it."""

    endpoint: str
    source: str = ""
    state: str = ""
    pings_sent: int = 0
    pongs_received: int = 0
    latency_seconds: float | None = None
    inner_mtu: int | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class PathChange:
    """A change of the way to a peer, this many seconds ago."""

    age_seconds: float
    direct: bool
    endpoint: str
    region: int
    reason: str


@dataclass(frozen=True, slots=True)
class PeerPath:
    """The way to a peer, and what was tried."""

    address: str
    direct: bool
    endpoint: str = ""
    region: int = 0
    home_region: int = 0
    latency_seconds: float | None = None
    reason: str = ""
    attempts: Sequence[Attempt] = ()
    handshake_age_seconds: float | None = None
    inner_mtu: int | None = None
    history: Sequence[PathChange] = ()


@dataclass(frozen=True, slots=True)
class AgentReport:
    """An agent's side: its network, and its way to us."""

    network: NodeNetwork
    path: PeerPath | None = None


@dataclass(frozen=True, slots=True)
class STUNCheck:
    """Requests to one STUN server, each from a socket of its own."""

    node: str
    host: str
    port: int
    address: str = ""
    sent: int = 0
    mapped: str = ""
    """The address from which the server sees the request."""
    latency_seconds: float | None = None
    failure: STUNFailure = STUNFailure.NONE

    @property
    def name(self) -> str:
        """Where the server is, as people write it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class RelayCheck:
    """A relay, tried in both ways it may be spoken to."""

    region_id: int
    region_name: str
    node: str
    url: str
    failure: Failure = Failure.NONE
    error: str = ""
    issuer: str = ""
    """Who issued the certificate that was not trusted."""
    addresses: Sequence[str] = ()
    proxy: str = ""
    upgrade_error: str = ""
    """Why `Upgrade: DERP` did not work."""
    websocket_error: str = ""
    latency_seconds: float | None = None

    @property
    def reachable(self) -> bool:
        """Whether one of the two ways works."""
        return self.failure is Failure.NONE and not (self.upgrade_error and self.websocket_error)


@dataclass(frozen=True, slots=True)
class ServerCheck:
    """The control plane, as this machine reaches it."""

    url: str
    failure: Failure = Failure.NONE
    error: str = ""
    issuer: str = ""
    proxy: str = ""
    latency_seconds: float | None = None
    version: str = ""
    own_version: str = ""
    skew_seconds: float | None = None
    """How far this machine's clock is ahead of the server's."""
    signed_in: bool = True
    direct_disabled: bool = False
    force_websockets: bool = False
    relay_count: int = 0
    stun_count: int = 0
    problems: Sequence[str] = ()
    """What the server says of itself, to those who may know."""


@dataclass(frozen=True, slots=True)
class WorkspaceCheck:
    """A workspace and its agent, as the control plane and the tunnel see them."""

    name: str
    status: str = ""
    agent: str = ""
    agent_status: str = ""
    introduced: bool = False
    relayed_latency_seconds: float | None = None
    """A round trip inside the tunnel, by relay; `None`: no answer."""
    path: PeerPath | None = None
    """The way to the agent."""
    report: AgentReport | None = None
    report_error: str = ""
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """All that was found out."""

    server: ServerCheck
    network: NodeNetwork | None = None
    direct_disabled_here: bool = False
    stun: Sequence[STUNCheck] = ()
    relays: Sequence[RelayCheck] = ()
    workspace: WorkspaceCheck | None = None
