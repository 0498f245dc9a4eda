"""The packet engine, as Python sees it.

An `Engine` is one node: it runs on an OS thread of its own and never calls Python. Python asks, or waits on
`fileno()` and then drains `events()`. A tunnelled connection is the end of a real socket, handed over as a file
descriptor that the receiver owns and must close.

Keys are raw 32-byte Curve25519 values. Addresses are text; an endpoint is `ip:port` or `[ip6]:port`. Times are seconds.
"""

from collections.abc import Mapping, Sequence
from typing import TypeAlias, final

__version__: str

class EngineError(Exception):
    """Base of what the engine raises."""

class EngineClosed(EngineError):
    """The engine was closed."""

class InvalidConfig(EngineError):
    """A key, address, port or map that the engine cannot use; the message says which and why."""

class AddressInUse(EngineError):
    """A listener for that port exists already."""

def generate_key() -> bytes:
    """Make a private key, clamped for Curve25519."""

def public_key(private_key: bytes) -> bytes:
    """Derive the public key of `private_key`."""

@final
class Engine:
    """One node of the network."""

    def __init__(
        self,
        private_key: bytes,
        disco_private_key: bytes,
        addresses: Sequence[str],
        *,
        listen_port: int = 0,
        stack: str = "auto",
        block_direct: bool = False,
        force_websockets: bool = False,
        tls_ca_pem: bytes | None = None,
        relay_headers: Mapping[str, str] | None = None,
        proxies: Mapping[str, str] | None = None,
        port_mapping: bool = False,
        forward_to_loopback: bool = False,
        mtu: int = 1280,
        congestion_control: str = "auto",
    ) -> None:
        """Start a node with these inner `addresses` (plain IPv6 texts, no prefix length).

        `stack`: "kernel", "portable" or "auto" (try the kernel's TCP, fall back; `stack_reason` says why).
        `tls_ca_pem`: authorities to trust besides the system's (or those of `SSL_CERT_FILE`).
        `proxies`: HTTP, HTTPS or SOCKS5 proxies to reach relays by: `{"https": …, "http": …, "no": …}`, values as those
        of the variables `HTTPS_PROXY` (relays with TLS), `HTTP_PROXY` (without) and `NO_PROXY`.
        `port_mapping`: ask the gateway for a port that leads to us (PCP, NAT-PMP, UPnP).
        `forward_to_loopback`: a TCP or UDP port without a listener is spliced to 127.0.0.1, then [::1]
        (an agent); otherwise it is refused (a client).
        `congestion_control`: how the kernel's TCP finds its speed: "bbr", "cubic" or "auto" (BBR where the kernel has
        it); the portable stack has its own.

        Raises:
            InvalidConfig: a value that cannot be used, or the kernel's TCP was asked for and cannot be had.
        """

    @property
    def public_key(self) -> bytes: ...
    @property
    def disco_public_key(self) -> bytes: ...
    @property
    def stack(self) -> str:
        """Which stack runs: "kernel" or "portable"."""

    @property
    def stack_reason(self) -> str:
        """Why that stack: which steps of the chain failed; empty when the first choice works."""

    @property
    def congestion_control(self) -> str:
        """What the kernel's TCP uses, as the kernel calls it; empty with the portable stack."""

    @property
    def local_port(self) -> int:
        """The bound UDP port."""

    def fileno(self) -> int:
        """A descriptor that is readable while `events()` has something; owned by the engine."""

    def events(self) -> list[Event]:
        """Drain what happened since the last call; never blocks."""

    def set_derp_map(self, derp_map_json: bytes) -> None:
        """Use this DERP map (JSON as `tailnet.md` §5.1, embedded regions already rewritten); keeps live connections
        to nodes that did not change."""

    def set_block_direct(self, block: bool, /) -> None:
        """Forbid or allow direct paths from now on."""

    def set_peer(
        self,
        key: bytes,
        *,
        disco_key: bytes,
        allowed_ips: Sequence[str],
        home_region: int,
        endpoints: Sequence[str],
        keepalive: bool,
        fallback_regions: Sequence[int] = (),
    ) -> None:
        """Add a peer, or change what is known of it; a changed disco key drops its session and path.

        `fallback_regions`: where else it is likely to be found when its home is gone, best first.
        """

    def remove_peer(self, key: bytes) -> None:
        """Forget a peer; its connections are reset. Unknown keys are ignored."""

    def dial(self, address: str, port: int, *, timeout_seconds: float = 30.0) -> int:
        """Begin a TCP connection to a peer; returns a token that `Dialed` or `DialFailed` will carry."""

    def cancel_dial(self, token: int) -> None:
        """Give up a dial; no event follows."""

    def listen(self, port: int) -> None:
        """Accept TCP connections to `port` on our own addresses; each arrives as `Accepted`.

        Raises:
            AddressInUse: it is listened on already.
        """

    def unlisten(self, port: int) -> None:
        """Stop accepting on `port`; accepted connections live on."""

    def dial_udp(self, address: str, port: int) -> int:
        """Open a UDP flow to a peer's port; returns the descriptor of a datagram socketpair end.

        After ten minutes without a packet the flow ends, and sending raises `ConnectionRefusedError`.
        """

    def ping(self, key: bytes, *, kind: str = "disco", timeout_seconds: float = 5.0) -> int:
        """Ping a peer; returns a token that a `Pong` or `PingFailed` will carry.

        `kind`: "disco" (the path), "tunnel" (TSMP inside the tunnel: proves WireGuard works end to end).
        """

    def rebind(self) -> None:
        """The network changed: re-open sockets, probe endpoints and paths again; connections stay."""

    def netcheck(self) -> int:
        """Measure the network now; a `NetInfo` with this token follows."""

    def peers(self) -> list[PeerStats]:
        """Per-peer statistics, with the path in use and why."""

    def stats(self) -> EngineStats: ...
    def capture(self, fd: int | None) -> None:
        """Write inner packets to `fd` as pcap (link type raw IP) until `None`; the engine takes its own copy of it."""

    def close(self) -> None:
        """Stop the thread and close every connection; waits at most a second. Idempotent.

        What was written to a connection that is closed already has most of that second to arrive.
        """

Event: TypeAlias = Dialed | DialFailed | Accepted | PathChanged | Pong | PingFailed | NetInfo | RelayChanged | Handshake

@final
class Dialed:
    __match_args__ = ("token", "fd")
    token: int
    fd: int

@final
class DialFailed:
    """`code`: "refused", "timeout", "unreachable" (no such peer) or "closed"; `reason` is a sentence for a person."""

    __match_args__ = ("token", "code", "reason")
    token: int
    code: str
    reason: str

@final
class Accepted:
    __match_args__ = ("port", "fd", "peer_address", "peer_port")
    port: int
    fd: int
    peer_address: str
    peer_port: int

@final
class PathChanged:
    """The path to a peer changed, or it became clear why it stays by relay; `reason` is a sentence.

    `direct` with its `endpoint`, else by relay `region`.
    """

    __match_args__ = ("key", "direct", "endpoint", "region", "latency_seconds", "reason")
    key: bytes
    direct: bool
    endpoint: str
    region: int
    latency_seconds: float
    reason: str

@final
class Pong:
    __match_args__ = ("token", "latency_seconds", "direct", "endpoint", "region")
    token: int
    latency_seconds: float
    direct: bool
    endpoint: str
    region: int

@final
class PingFailed:
    __match_args__ = ("token", "reason")
    token: int
    reason: str

@final
class Handshake:
    """A WireGuard handshake with a peer completed."""

    __match_args__ = ("key",)
    key: bytes

@final
class RelayChanged:
    """The connection to a relay region changed; `websocket_reason` is set when WebSocket had to be used."""

    __match_args__ = ("region", "connected", "home", "websocket_reason", "error")
    region: int
    connected: bool
    home: bool
    websocket_reason: str
    error: str

@final
class NetInfo:
    """What is known of this node's network; sent whenever any part changed (`token` 0) or when asked for.

    `region_latency_seconds` keys are `"<region>-v4"` and `"<region>-v6"`. `endpoints` are what peers should be told,
    best first; empty while direct paths are blocked. Unknown booleans are `None`.
    """

    token: int
    preferred_region: int
    region_latency_seconds: dict[str, float]
    forced_websocket: dict[int, str]
    endpoints: list[str]
    udp: bool
    ipv4: bool
    ipv6: bool
    ipv4_can_send: bool
    ipv6_can_send: bool
    os_has_ipv6: bool
    mapping_varies_by_destination: bool | None
    hairpinning: bool | None
    global_v4: str
    global_v6: str
    stun_answers: dict[str, str]
    standby_region: int
    """The region whose relay takes over when that of the preferred one is lost; 0 for none."""
    stun_servers: list[StunServer]
    region_errors: dict[int, str]
    """Regions whose relay cannot be used, and why."""
    captive_portal: bool | None
    port_mapping: PortMapping
    warnings: list[str]
    """What a person should know, in sentences."""

@final
class StunServer:
    """A STUN server at one `address` (empty: its name could not be resolved), and what it said.

    `mapped` is how it sees us, empty without an answer; `error` then says why.
    """

    region: int
    name: str
    address: str
    mapped: str
    latency_seconds: float | None
    error: str

@final
class PortMapping:
    """What became of asking the gateway for a port.

    `protocol` is "PCP", "NAT-PMP" or "UPnP", with the `external` endpoint that leads to us; both are empty when there
    is none, and `reason` says why. The booleans tell who answered; `None` when nobody was asked.
    """

    protocol: str
    external: str
    reason: str
    pcp: bool | None
    nat_pmp: bool | None
    upnp: bool | None

@final
class Candidate:
    """One endpoint tried for a peer. `state`: "untried", "sent", "answered" or "failed".

    `inner_mtu` is the largest packet inside the tunnel that it was seen to carry, in bytes; 0 when that is not known.
    `reason` says in a sentence what became of it, and why it is not used where it is not.
    """

    endpoint: str
    source: str
    state: str
    latency_seconds: float | None
    pings_sent: int
    pongs_received: int
    last_ping_age_seconds: float | None
    last_pong_age_seconds: float | None
    inner_mtu: int
    reason: str

@final
class PathRecord:
    """One change of the path to a peer; `reason` is a sentence. Also what happened to a path that stayed in use."""

    age_seconds: float
    direct: bool
    endpoint: str
    region: int
    reason: str

@final
class PeerStats:
    """`reason`: why the path is what it is, as far as is known now. `history`: the last 20 changes of path, the oldest
    first. `inner_mtu`: bytes of the largest packet inside the tunnel that the path in use carries."""

    key: bytes
    addresses: list[str]
    home_region: int
    direct: bool
    endpoint: str
    region: int
    latency_seconds: float | None
    reason: str
    candidates: list[Candidate]
    history: list[PathRecord]
    inner_mtu: int
    last_handshake_age_seconds: float | None
    last_receive_age_seconds: float | None
    rx_bytes: int
    tx_bytes: int
    rx_packets: int
    tx_packets: int

@final
class EngineStats:
    rx_bytes: int
    tx_bytes: int
    rx_packets: int
    tx_packets: int
    dropped_packets: int
    tcp_flows: int
    udp_flows: int
    flows_by_protocol: dict[str, int]

def splice(left_fd: int, right_fd: int) -> None:
    """Join two stream sockets until both directions end, on a thread the engine shares; takes both descriptors."""

@final
class Relay:
    """A DERP relay's bytes. Python accepts and authorises a connection and hands its socket over."""

    def __init__(self, private_key: bytes) -> None: ...
    @property
    def public_key(self) -> bytes: ...
    def add(self, fd: int, *, initial: bytes = b"", websocket: bool = False, remote: str = "") -> None:
        """Take over a socket right after the HTTP upgrade was answered; the relay owns `fd` from here.

        `initial`: bytes already read past the request. `websocket`: DERP frames travel in binary messages (RFC 6455,
        server side). The relay sends ServerKey, does the login and then moves frames (`tailnet.md` §4).
        """

    def stats(self) -> RelayStats: ...
    def announce_restart(self, seconds: float) -> None:
        """Tell clients (frame Restarting) when to come back; all goes on until `close`, so that they may move."""

    def close(self, *, restarting_in_seconds: float | None = None, drain_seconds: float = 0.0) -> None:
        """Tell clients (frame Restarting) where a time is given, and close every connection. Idempotent.

        What waits for clients is sent first, for at most `drain_seconds`.
        """

def derp_login(private_key: bytes, relay_key: bytes, *, prober: bool = False) -> bytes:
    """Make a client's login: the frame ClientInfo, for the relay with this key."""

def derp_login_answered(private_key: bytes, relay_key: bytes, sealed: bytes) -> bool:
    """Say whether a relay's answer to a login was sealed by the relay with this key."""

@final
class TLSConfig:
    """What a TLS server shows and accepts.

    `pairs`: chain and key as PEM, and the DNS names the certificate is for; the first is shown to whom no other fits.
    `ciphers`: suites of TLS 1.2 by OpenSSL's names, all when empty. `client_auth`: "none", "optional" or "required".
    Raises `InvalidConfig` with the reason where this engine cannot do it.
    """

    def __init__(
        self,
        pairs: Sequence[tuple[bytes, bytes, Sequence[str]]],
        *,
        tls13_only: bool = False,
        ciphers: Sequence[str] = ...,
        client_ca: bytes = ...,
        client_auth: str = "none",
    ) -> None: ...

@final
class TLSConnection:
    """A connection whose handshake is done. `fd` is a socket with plain bytes, and the caller's."""

    number: int
    fd: int
    peer: tuple[str, int]
    local: tuple[str, int]
    server_name: str | None
    version: str
    cipher: str
    alpn: str | None

@final
class TLSServer:
    """A port that speaks TLS on a thread of the engine; Python gets plain bytes."""

    def __init__(self, listener: int, config: TLSConfig) -> None:
        """Serve a listening socket, which is the server's from here."""

    def fileno(self) -> int:
        """Readable while `accepted` has something to give."""

    def accepted(self) -> list[TLSConnection]: ...
    def reload(self, config: TLSConfig) -> None:
        """Show other certificates from the next handshake on."""

    def hand_over(
        self,
        number: int,
        fd: int,
        relay: Relay,
        *,
        response: bytes = b"",
        initial: bytes = b"",
        websocket: bool = False,
    ) -> None:
        """Give a connection to a relay, TLS and all.

        `fd`: another descriptor of the socket that came with it, the server's from here; what was not read is read
        from it. `response` is sent before anything of the relay's, `initial` was read beyond the request.
        """

    def stop_accepting(self) -> None: ...
    def stats(self) -> dict[str, int]:
        """Counters: accepted, handshakes, handshakes_failed, handshakes_dropped, accept_pauses, handed_over; gauges:
        handshaking, open."""

    def close(self, *, within_seconds: float = 0.0) -> None:
        """Send what was written, for at most so long, and close every connection. Idempotent."""

@final
class RelayStats:
    """Counters since start, and gauges, as `http-api.md` §5 names them (`coder_derp_server_*`)."""

    clients: int
    connections: int
    accepts: int
    bytes_received: int
    bytes_sent: int
    packets_received: int
    packets_sent: int
    packets_dropped: int
    dropped_by_reason: dict[str, int]
    got_ping: int
    sent_pong: int
    home_moves_in: int
    home_moves_out: int
    peer_gone_disconnected: int
    peer_gone_not_here: int
    unknown_frames: int
    home_connections: int
    dropped_by_kind: dict[str, int]
    received_by_kind: dict[str, int]
    average_queue_seconds: float

@final
class Impairer:
    """A line between two TUN devices that delays, loses, reorders and duplicates packets. Linux only.

    The devices must have been opened with `IFF_TUN | IFF_NO_PI | IFF_VNET_HDR`; the impairer takes copies of their
    descriptors. Super-segments (TCP and UDP GSO) are treated packet by packet, and what shares its fate stays whole.
    Shares are from 0 to 1; the same seed makes the same choices. Lengths are those of IP packets.
    """

    def __init__(
        self,
        left_fd: int,
        right_fd: int,
        *,
        seed: int = 1,
        delay_seconds: float | None = None,
        loss: float | None = None,
        reorder: float | None = None,
        reorder_seconds: float | None = None,
        duplicate: float | None = None,
        rate_bits_per_second: float | None = None,
        queue_bytes: int | None = None,
    ) -> None:
        """Start; both directions get the same settings.

        `reorder` is the share of packets that arrive `reorder_seconds` later than the others. `rate_bits_per_second`
        0 is no limit; `queue_bytes` may wait for it, by default a tenth of a second of the rate.

        Raises:
            InvalidConfig: a value or descriptor that cannot be used.
        """

    def set(
        self,
        *,
        direction: str = "both",
        delay_seconds: float | None = None,
        loss: float | None = None,
        reorder: float | None = None,
        reorder_seconds: float | None = None,
        duplicate: float | None = None,
        rate_bits_per_second: float | None = None,
        queue_bytes: int | None = None,
    ) -> None:
        """Change what happens to packets from now on; what is not named stays.

        `direction`: "right" (from the left device to the right one), "left" or "both".
        """

    def stats(self) -> tuple[LineStats, LineStats]:
        """Counters of the directions to the right and to the left."""

    def close(self) -> None:
        """End the line; what is under way is lost. Idempotent."""

@final
class LineStats:
    """Counters of one direction, in packets of the wire.

    `overflowed`: the queue before the rate was full. `refused`: the device did not take it, or too much was held.
    """

    packets: int
    bytes: int
    delivered: int
    lost: int
    reordered: int
    duplicated: int
    overflowed: int
    refused: int
