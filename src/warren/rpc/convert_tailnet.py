"""Tailnet messages to and from values; the only place that knows both."""

from __future__ import annotations

from datetime import UTC
from uuid import UUID

from warren.errors import RemoteProtocolError
from warren.net.node import NodeInfo, PeerUpdate, PeerUpdateKind
from warren.rpc._pb import tailnet_pb2 as pb

NODE_KEY_PREFIX = b"np"
DISCO_KEY_PREFIX = "discokey:"

_KIND_TO_MESSAGE = {
    PeerUpdateKind.NODE: pb.CoordinateResponse.PeerUpdate.KIND_NODE,
    PeerUpdateKind.DISCONNECTED: pb.CoordinateResponse.PeerUpdate.KIND_DISCONNECTED,
    PeerUpdateKind.LOST: pb.CoordinateResponse.PeerUpdate.KIND_LOST,
    PeerUpdateKind.READY_FOR_HANDSHAKE: pb.CoordinateResponse.PeerUpdate.KIND_READY_FOR_HANDSHAKE,
}
_KIND_FROM_MESSAGE = {message: kind for kind, message in _KIND_TO_MESSAGE.items()}


def node_to_message(node: NodeInfo) -> pb.Node:
    """Write a node."""
    message = pb.Node(
        id=node.id,
        key=NODE_KEY_PREFIX + node.key,
        disco=DISCO_KEY_PREFIX + node.disco_key.hex(),
        preferred_derp=node.preferred_region,
        derp_latency=dict(node.region_latency_seconds),
        derp_forced_websocket=dict(node.forced_websocket),
        addresses=node.addresses,
        allowed_ips=node.allowed_ips,
        endpoints=node.endpoints,
    )
    message.as_of.FromDatetime(node.as_of)
    return message


def node_from_message(message: pb.Node) -> NodeInfo:
    """Read a node.

    Raises:
        RemoteProtocolError: a key is malformed.
    """
    return NodeInfo(
        id=message.id,
        as_of=message.as_of.ToDatetime(UTC),
        key=_node_key(message.key),
        disco_key=_disco_key(message.disco),
        preferred_region=message.preferred_derp,
        addresses=tuple(message.addresses),
        allowed_ips=tuple(message.allowed_ips),
        endpoints=tuple(message.endpoints),
        region_latency_seconds=dict(message.derp_latency),
        forced_websocket=dict(message.derp_forced_websocket),
    )


def peer_update_to_message(update: PeerUpdate) -> pb.CoordinateResponse.PeerUpdate:
    """Write news of a peer."""
    return pb.CoordinateResponse.PeerUpdate(
        id=update.peer_id.bytes,
        node=None if update.node is None else node_to_message(update.node),
        kind=_KIND_TO_MESSAGE[update.kind],
        reason=update.reason,
    )


def peer_update_from_message(message: pb.CoordinateResponse.PeerUpdate) -> PeerUpdate | None:
    """Read news of a peer; None for a kind that we do not know, which is to be ignored.

    Raises:
        RemoteProtocolError: an id or key is malformed.
    """
    kind = _KIND_FROM_MESSAGE.get(message.kind)
    if kind is None:
        return None
    node = node_from_message(message.node) if kind is PeerUpdateKind.NODE else None
    return PeerUpdate(uuid_from_bytes(message.id), kind, node, message.reason)


def uuid_from_bytes(value: bytes) -> UUID:
    """Read a UUID of 16 bytes.

    Raises:
        RemoteProtocolError: it has another length.
    """
    if len(value) != 16:
        raise RemoteProtocolError(f"unable to convert bytes to UUID: invalid UUID (got {len(value)} bytes)")
    return UUID(bytes=value)


def _node_key(value: bytes) -> bytes:
    if len(value) != 34 or not value.startswith(NODE_KEY_PREFIX):
        raise RemoteProtocolError(f"malformed node key: want 34 bytes that begin with `np`, got {len(value)}")
    return value[2:]


def _disco_key(text: str) -> bytes:
    try:
        key = bytes.fromhex(text.removeprefix(DISCO_KEY_PREFIX))
    except ValueError as error:
        raise RemoteProtocolError(f"malformed disco key: {text!r}") from error
    if len(key) != 32 or not text.startswith(DISCO_KEY_PREFIX):
        raise RemoteProtocolError(f"malformed disco key: {text!r}")
    return key
