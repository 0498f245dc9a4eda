"""What nodes tell each other through the coordinator, as values.

Keys are raw 32-byte Curve25519 values; addresses are host prefixes (`…/128`); endpoints are `ip:port` or `[ip6]:port`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import Enum
from uuid import UUID

MAX_REGION_ID = 65535
MAX_NEAR_REGIONS = 2
"""In which further regions a peer is looked for."""


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """A node as it describes itself."""

    id: int
    as_of: datetime
    key: bytes
    disco_key: bytes
    preferred_region: int
    """Home relay region; 0 means that the node cannot be reached yet."""
    addresses: tuple[str, ...]
    allowed_ips: tuple[str, ...]
    endpoints: tuple[str, ...] = ()
    region_latency_seconds: Mapping[str, float] = field(default_factory=dict[str, float])
    """Keys are `"<region>-v4"` and `"<region>-v6"`."""
    forced_websocket: Mapping[int, str] = field(default_factory=dict[int, str])
    """Regions that are reached by WebSocket, and why."""

    def says_the_same_as(self, other: NodeInfo | None) -> bool:
        """Say whether nothing changed but the time."""
        return other is not None and replace(self, as_of=other.as_of) == other

    def near_regions(self) -> tuple[int, ...]:
        """List the regions beside its home where it is likely to be found when home is gone, nearest first."""
        nearest: dict[int, float] = {}
        for name, latency_seconds in self.region_latency_seconds.items():
            number = name.partition("-")[0]
            if number.isdecimal() and 0 < int(number) <= MAX_REGION_ID:
                nearest[int(number)] = min(latency_seconds, nearest.get(int(number), latency_seconds))
        nearest.pop(self.preferred_region, None)
        return tuple(sorted(nearest, key=lambda region: (nearest[region], region)))[:MAX_NEAR_REGIONS]


class PeerUpdateKind(Enum):
    """What the coordinator says of a peer."""

    NODE = "node"
    DISCONNECTED = "disconnected"
    LOST = "lost"
    READY_FOR_HANDSHAKE = "ready for handshake"


@dataclass(frozen=True, slots=True)
class PeerUpdate:
    """News of one peer. `node` is set for `NODE` only."""

    peer_id: UUID
    kind: PeerUpdateKind
    node: NodeInfo | None = None
    reason: str = ""
