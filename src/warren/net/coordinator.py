"""Introduce nodes to each other: who hears of whom, and what, without I/O.

A peer is known by its UUID and connected at most once; a second connection takes the first one's place. A *tunnel* is
asked for by one side and lets both hear of each other. What a peer was last told about another is remembered, so that
nothing is said twice.

```text
 connect ─► request* ─► disconnect (graceful: neighbours hear DISCONNECTED)
                    └─► lost       (neighbours hear LOST, and may keep the peer for a while)
```

Every method returns what must be sent: `Deliver`, `Refuse` and `Close`, in order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv6Address
from typing import NewType, Protocol, TypeAlias
from uuid import UUID

from warren.net.addresses import LEGACY_AGENT_ADDRESS, service_address, tailnet_address
from warren.net.node import NodeInfo, PeerUpdate, PeerUpdateKind

MAX_UPDATES = 1024
"""Peer updates in one response; more are split."""

Connection = NewType("Connection", int)

OVERWRITTEN = "peer ID overwritten by new connection"
CLOSED = "coordinator closed"
FAILED_UPDATE = "failed update"


@dataclass(frozen=True, slots=True)
class Request:
    """What a peer asks; the parts are independent of each other."""

    node: NodeInfo | None = None
    add_tunnel: UUID | None = None
    remove_tunnel: UUID | None = None
    disconnect: bool = False
    ready_for: tuple[UUID, ...] = ()


@dataclass(frozen=True, slots=True)
class Deliver:
    """Tell a connection about peers."""

    connection: Connection
    updates: tuple[PeerUpdate, ...]


@dataclass(frozen=True, slots=True)
class Refuse:
    """Tell a connection that a request was refused, and go on."""

    connection: Connection
    error: str


@dataclass(frozen=True, slots=True)
class Close:
    """End a connection, with an error to tell first unless it is empty."""

    connection: Connection
    error: str = ""


Output: TypeAlias = Deliver | Refuse | Close


class Auth(Protocol):
    """What one kind of peer may do; each answer is the reason for a refusal, or empty."""

    def refuse_tunnel(self, destination: UUID) -> str:
        """Say why this tunnel is not allowed."""
        ...

    def refuse_node(self, node: NodeInfo) -> str:
        """Say why this node may not be published."""
        ...

    def refuse_ready(self) -> str:
        """Say why readiness may not be told."""
        ...


@dataclass(frozen=True, slots=True)
class ServerAuth:
    """The control plane itself, and proxies: may reach every agent."""

    def refuse_tunnel(self, destination: UUID) -> str:
        """Allow it."""
        return ""

    def refuse_node(self, node: NodeInfo) -> str:
        """Allow it."""
        return ""

    def refuse_ready(self) -> str:
        """Allow it."""
        return ""


@dataclass(frozen=True, slots=True)
class ClientAuth:
    """A client that was let in for one agent."""

    agent_id: UUID

    def refuse_tunnel(self, destination: UUID) -> str:
        """Allow the one agent."""
        if destination == self.agent_id:
            return ""
        return f"invalid agent id, expected {self.agent_id}, got {destination}"

    def refuse_node(self, node: NodeInfo) -> str:
        """Allow host prefixes."""
        return refuse_prefixes(node.addresses) or refuse_prefixes(node.allowed_ips)

    def refuse_ready(self) -> str:
        """Refuse: only agents wait for handshakes."""
        return "clients may not send ready_for_handshake"


@dataclass(slots=True)
class UserAuth:
    """A user's client for all of their workspaces; who asks the database adds to `allowed` before a request."""

    allowed: set[UUID] = field(default_factory=set[UUID])

    def refuse_tunnel(self, destination: UUID) -> str:
        """Allow agents that the user may reach."""
        return "" if destination in self.allowed else "workspace agent not found or you do not have permission"

    def refuse_node(self, node: NodeInfo) -> str:
        """Allow host prefixes."""
        return refuse_prefixes(node.addresses) or refuse_prefixes(node.allowed_ips)

    def refuse_ready(self) -> str:
        """Refuse: only agents wait for handshakes."""
        return "clients may not send ready_for_handshake"


@dataclass(frozen=True, slots=True)
class AgentAuth:
    """An agent: has its own addresses only, and never opens a tunnel."""

    agent_id: UUID

    def refuse_tunnel(self, destination: UUID) -> str:
        """Refuse: agents wait for clients."""
        return "agents cannot open tunnels"

    def refuse_node(self, node: NodeInfo) -> str:
        """Allow the addresses that belong to this agent."""
        texts = (tailnet_address(self.agent_id), service_address(self.agent_id), LEGACY_AGENT_ADDRESS)
        own = {IPv6Address(text) for text in texts}
        for name, prefixes in (("Addresses", node.addresses), ("AllowedIps", node.allowed_ips)):
            reason = refuse_prefixes(prefixes) or _refuse_foreign(prefixes, own)
            if reason:
                return f"{name}: {reason}"
        return ""

    def refuse_ready(self) -> str:
        """Allow it."""
        return ""


def refuse_prefixes(prefixes: Iterable[str]) -> str:
    """Say why these are not all host prefixes."""
    for prefix in prefixes:
        address, _, bits = prefix.partition("/")
        try:
            IPv6Address(address)
        except ValueError:
            return f"parse node address: {prefix!r} is not an IPv6 prefix"
        if bits != "128":
            return f"invalid address bits, expected 128, got {bits or 'none'}"
    return ""


def _refuse_foreign(prefixes: Iterable[str], own: set[IPv6Address]) -> str:
    for prefix in prefixes:
        address = IPv6Address(prefix.partition("/")[0])
        if address not in own:
            return f"invalid node address, got {address}"
    return ""


@dataclass(slots=True)
class _Peer:
    connection: Connection
    auth: Auth
    node: NodeInfo | None = None
    told: dict[UUID, NodeInfo] = field(default_factory=dict[UUID, NodeInfo])
    """What this peer last heard of others."""


class Coordinator:
    """All peers of one deployment, on one replica."""

    def __init__(self) -> None:
        self._peers: dict[UUID, _Peer] = {}
        self._by_connection: dict[Connection, UUID] = {}
        self._tunnels: dict[UUID, set[UUID]] = {}
        """Destinations by source."""
        self._sources: dict[UUID, set[UUID]] = {}
        """The same, the other way round."""
        self._absent: dict[UUID, frozenset[UUID]] = {}
        """Peers whose connection broke, with those who were told that they are lost."""
        self._next = 0

    def connect(self, peer_id: UUID, auth: Auth) -> tuple[Connection, list[Output]]:
        """Take in a connection; an older one of the same peer ends."""
        outputs: list[Output] = []
        self._absent.pop(peer_id, None)
        old = self._peers.pop(peer_id, None)
        if old is not None:
            del self._by_connection[old.connection]
            outputs.append(Close(old.connection, OVERWRITTEN))
            self._drop_tunnels_from(peer_id)
        self._next += 1
        connection = Connection(self._next)
        self._peers[peer_id] = _Peer(connection, auth)
        self._by_connection[connection] = peer_id
        outputs += self._deliver(peer_id, self._known_neighbours(peer_id, "init"))
        return connection, outputs

    def handle(self, connection: Connection, request: Request) -> list[Output]:
        """Take in a request; nothing comes of it when the connection was replaced."""
        peer_id = self._by_connection.get(connection)
        if peer_id is None:
            return []
        refusal = self._refusal(self._peers[peer_id].auth, request)
        if refusal:
            return [*self._leave(peer_id, PeerUpdateKind.LOST, "lost"), Close(connection, f"authorization: {refusal}")]
        outputs: list[Output] = []
        if request.node is not None:
            outputs += self._update(peer_id, request.node)
        if request.add_tunnel is not None:
            outputs += self._add_tunnel(peer_id, request.add_tunnel)
        if request.remove_tunnel is not None:
            outputs += self._remove_tunnel(peer_id, request.remove_tunnel)
        if request.disconnect:
            return [
                *outputs,
                *self._leave(peer_id, PeerUpdateKind.DISCONNECTED, "graceful disconnect"),
                Close(connection),
            ]
        for ready_for in request.ready_for:
            outputs += self._ready(peer_id, connection, ready_for)
        return outputs

    def lose(self, connection: Connection, *, reason: str = "lost") -> list[Output]:
        """Note that a connection broke."""
        peer_id = self._by_connection.get(connection)
        if peer_id is None:
            return []
        self._absent[peer_id] = frozenset(self._neighbours(peer_id))
        return self._leave(peer_id, PeerUpdateKind.LOST, reason)

    def give_up(self, peer_id: UUID) -> list[Output]:
        """Tell those who heard that a peer is lost that it did not come back: they may forget it."""
        news = PeerUpdate(peer_id, PeerUpdateKind.DISCONNECTED, reason="did not come back")
        hearers = [self._peers.get(hearer) for hearer in self._absent.pop(peer_id, ())]
        return [Deliver(hearer.connection, (news,)) for hearer in hearers if hearer is not None]

    def drop(self, connection: Connection) -> list[Output]:
        """End a connection that does not take what it is sent."""
        peer_id = self._by_connection.get(connection)
        if peer_id is None:
            return []
        return [*self._leave(peer_id, PeerUpdateKind.DISCONNECTED, FAILED_UPDATE), Close(connection)]

    def close(self) -> list[Output]:
        """End everything: this coordinator goes away, the peers do not."""
        return [Close(connection, CLOSED) for connection in list(self._by_connection)]

    def node(self, peer_id: UUID) -> NodeInfo | None:
        """Return what a connected peer published."""
        peer = self._peers.get(peer_id)
        return None if peer is None else peer.node

    def __len__(self) -> int:
        return len(self._peers)

    @staticmethod
    def _refusal(auth: Auth, request: Request) -> str:
        if request.node is not None and (reason := auth.refuse_node(request.node)):
            return reason
        if request.add_tunnel is not None and (reason := auth.refuse_tunnel(request.add_tunnel)):
            return reason
        if request.ready_for and (reason := auth.refuse_ready()):
            return reason
        return ""

    def _update(self, peer_id: UUID, node: NodeInfo) -> list[Output]:
        self._peers[peer_id].node = node
        news = PeerUpdate(peer_id, PeerUpdateKind.NODE, node, "node update")
        return [output for other in self._neighbours(peer_id) for output in self._deliver(other, [news])]

    def _add_tunnel(self, peer_id: UUID, destination: UUID) -> list[Output]:
        self._tunnels.setdefault(peer_id, set()).add(destination)
        self._sources.setdefault(destination, set()).add(peer_id)
        outputs: list[Output] = []
        for hearer, subject in ((peer_id, destination), (destination, peer_id)):
            node = self.node(subject)
            if node is not None:
                outputs += self._deliver(hearer, [PeerUpdate(subject, PeerUpdateKind.NODE, node, "add tunnel")])
        return outputs

    def _remove_tunnel(self, peer_id: UUID, destination: UUID) -> list[Output]:
        self._drop_tunnel(peer_id, destination)
        if self._share_tunnel(peer_id, destination):
            return []  # the other side asked for one as well
        gone = PeerUpdateKind.DISCONNECTED
        return [
            *self._deliver(peer_id, [PeerUpdate(destination, gone, reason="remove tunnel")]),
            *self._deliver(destination, [PeerUpdate(peer_id, gone, reason="remove tunnel")]),
        ]

    def _ready(self, peer_id: UUID, connection: Connection, ready_for: UUID) -> list[Output]:
        if not self._share_tunnel(peer_id, ready_for):
            return [Refuse(connection, f'ready for handshake error: you do not share a tunnel with "{ready_for}"')]
        other = self._peers.get(ready_for)
        if other is None:
            return []
        return [Deliver(other.connection, (PeerUpdate(peer_id, PeerUpdateKind.READY_FOR_HANDSHAKE),))]

    def _leave(self, peer_id: UUID, kind: PeerUpdateKind, reason: str) -> list[Output]:
        peer = self._peers.pop(peer_id)
        del self._by_connection[peer.connection]
        neighbours = list(self._neighbours(peer_id))
        self._drop_tunnels_from(peer_id)
        news = PeerUpdate(peer_id, kind, reason=reason)
        return [output for other in neighbours for output in self._deliver(other, [news])]

    def _drop_tunnels_from(self, peer_id: UUID) -> None:
        for destination in list(self._tunnels.get(peer_id, ())):
            self._drop_tunnel(peer_id, destination)

    def _drop_tunnel(self, source: UUID, destination: UUID) -> None:
        for ends, key, value in ((self._tunnels, source, destination), (self._sources, destination, source)):
            found = ends.get(key, set())
            found.discard(value)
            if not found:
                ends.pop(key, None)

    def _neighbours(self, peer_id: UUID) -> Iterator[UUID]:
        yield from self._tunnels.get(peer_id, set()) | self._sources.get(peer_id, set())

    def _share_tunnel(self, left: UUID, right: UUID) -> bool:
        return right in self._tunnels.get(left, set()) or left in self._tunnels.get(right, set())

    def _known_neighbours(self, peer_id: UUID, reason: str) -> list[PeerUpdate]:
        nodes = ((other, self.node(other)) for other in self._neighbours(peer_id))
        return [PeerUpdate(other, PeerUpdateKind.NODE, node, reason) for other, node in nodes if node is not None]

    def _deliver(self, hearer: UUID, news: Iterable[PeerUpdate]) -> list[Output]:
        """Tell a peer what it does not know yet."""
        peer = self._peers.get(hearer)
        if peer is None:
            return []
        fresh = [update for update in news if _remember(peer.told, update)]
        batches = [tuple(fresh[start : start + MAX_UPDATES]) for start in range(0, len(fresh), MAX_UPDATES)]
        return [Deliver(peer.connection, batch) for batch in batches]


def _remember(told: dict[UUID, NodeInfo], update: PeerUpdate) -> bool:
    """Say whether an update is news to whom was told this, and remember it."""
    if update.node is not None:
        same = told.get(update.peer_id)
        if same is not None and same == update.node:
            return False
        told[update.peer_id] = update.node
        return True
    return told.pop(update.peer_id, None) is not None
