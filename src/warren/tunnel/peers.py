"""Which peers the engine should know, from what the coordinator says of them.

A peer that we dial (a *destination*) is programmed only when it said that it is ready for a handshake, or after
`READY_TIMEOUT_SECONDS`: an initiation that arrives before the other side knows us is thrown away and costs five
seconds. A peer that was lost stays for `LOST_TIMEOUT_SECONDS` after its last handshake, because the control plane may
be gone while the tunnel works.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeAlias
from uuid import UUID

from warren.net.node import NodeInfo, PeerUpdate, PeerUpdateKind

READY_TIMEOUT_SECONDS = 5.0
LOST_TIMEOUT_SECONDS = 15 * 60.0


@dataclass(frozen=True, slots=True)
class SetPeer:
    """Tell the engine of this peer, or of what changed about it."""

    peer_id: UUID
    node: NodeInfo
    keepalive: bool


@dataclass(frozen=True, slots=True)
class RemovePeer:
    """Make the engine forget this peer."""

    peer_id: UUID
    key: bytes


Command: TypeAlias = SetPeer | RemovePeer


@dataclass(frozen=True, slots=True)
class _Peer:
    node: NodeInfo | None = None
    destination: bool = False
    ready: bool = False
    programmed: bool = False
    ready_at: float | None = None
    """When to stop waiting for READY_FOR_HANDSHAKE."""
    lost_at: float | None = None
    """When to forget the peer."""
    last_handshake: float | None = None


class PeerBook:
    """The peers of one node. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._peers: dict[UUID, _Peer] = {}

    def expect(self, peer_id: UUID) -> None:
        """Mark a peer that we are going to dial, before the coordinator is asked for it."""
        self._peers[peer_id] = replace(self._peers.get(peer_id, _Peer()), destination=True)

    def node(self, peer_id: UUID) -> NodeInfo | None:
        """Return what is known of a peer."""
        return self._peers.get(peer_id, _Peer()).node

    def find(self, key: bytes) -> UUID | None:
        """Return which peer has this public key."""
        return next((peer_id for peer_id, peer in self._peers.items() if peer.node and peer.node.key == key), None)

    def apply(self, now: float, update: PeerUpdate) -> list[Command]:
        """Take in what the coordinator said; return what the engine must do."""
        match update.kind:
            case PeerUpdateKind.NODE:
                return self._node(now, update.peer_id, update.node)
            case PeerUpdateKind.READY_FOR_HANDSHAKE:
                return self._ready(update.peer_id)
            case PeerUpdateKind.DISCONNECTED:
                return self._remove(update.peer_id)
            case PeerUpdateKind.LOST:
                return self._lost(now, update.peer_id)

    def lose_all(self, now: float) -> list[Command]:
        """Treat every peer as lost: the connection to the coordinator ended."""
        return [command for peer_id in list(self._peers) for command in self._lost(now, peer_id)]

    def saw_handshake(self, now: float, key: bytes) -> None:
        """Note that a handshake with this key completed."""
        peer_id = self.find(key)
        if peer_id is None:
            return
        peer = self._peers[peer_id]
        lost_at = None if peer.lost_at is None else now + LOST_TIMEOUT_SECONDS
        self._peers[peer_id] = replace(peer, last_handshake=now, lost_at=lost_at)

    def timeout(self, now: float) -> list[Command]:
        """Do what is due; return what the engine must do."""
        commands: list[Command] = []
        for peer_id, peer in list(self._peers.items()):
            if peer.lost_at is not None and peer.lost_at <= now:
                commands += self._remove(peer_id)
            elif peer.ready_at is not None and peer.ready_at <= now:
                self._peers[peer_id] = replace(peer, ready=True, ready_at=None)
                commands += self._program(peer_id)
        return commands

    def next_timeout(self) -> float | None:
        """Return when `timeout` has something to do."""
        due = [at for peer in self._peers.values() for at in (peer.ready_at, peer.lost_at) if at is not None]
        return min(due, default=None)

    def _node(self, now: float, peer_id: UUID, node: NodeInfo | None) -> list[Command]:
        if node is None or node.preferred_region == 0:
            return []
        peer = self._peers.get(peer_id, _Peer())
        commands = self._forget_old_key(peer_id, peer, node)
        changed = not node.says_the_same_as(peer.node)
        peer = replace(peer, node=node, lost_at=None, programmed=peer.programmed and not commands)
        if peer.destination and not peer.ready:
            peer = replace(peer, ready_at=now + READY_TIMEOUT_SECONDS)
        self._peers[peer_id] = peer
        if not changed and peer.programmed:
            return commands
        return commands + self._program(peer_id)

    def _forget_old_key(self, peer_id: UUID, peer: _Peer, node: NodeInfo) -> list[Command]:
        if peer.node is None or peer.node.key == node.key or not peer.programmed:
            return []
        return [RemovePeer(peer_id, peer.node.key)]

    def _ready(self, peer_id: UUID) -> list[Command]:
        peer = self._peers.get(peer_id, _Peer())
        self._peers[peer_id] = replace(peer, ready=True, ready_at=None)
        return self._program(peer_id)

    def _lost(self, now: float, peer_id: UUID) -> list[Command]:
        peer = self._peers.get(peer_id)
        if peer is None or peer.node is None:
            return []
        since = now if peer.last_handshake is None else peer.last_handshake
        # Ready again only when it says so again: it may come back as another process.
        self._peers[peer_id] = replace(peer, lost_at=since + LOST_TIMEOUT_SECONDS)
        return []

    def _remove(self, peer_id: UUID) -> list[Command]:
        peer = self._peers.pop(peer_id, None)
        if peer is None or peer.node is None or not peer.programmed:
            return []
        return [RemovePeer(peer_id, peer.node.key)]

    def _program(self, peer_id: UUID) -> list[Command]:
        peer = self._peers[peer_id]
        if peer.node is None or (peer.destination and not peer.ready):
            return []
        self._peers[peer_id] = replace(peer, programmed=True)
        return [SetPeer(peer_id, peer.node, keepalive=peer.destination)]
