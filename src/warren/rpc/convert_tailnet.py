"""Tailnet messages to and from values; the only place that knows both."""

from __future__ import annotations

from datetime import UTC
from uuid import UUID

from warren.domain.workspace_updates import AgentState, Update, WorkspaceState
from warren.errors import RemoteProtocolError
from warren.net.coordinator import Request
from warren.net.derp_map import DERPMap, DERPNode, DERPRegion
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


def derp_map_to_message(derp_map: DERPMap) -> pb.DERPMap:
    """Write a DERP map. `home_params` is always there, as clients are used to."""
    message = pb.DERPMap(home_params=pb.DERPMap.HomeParams(region_score=dict(derp_map.region_score)))
    for region_id, region in derp_map.regions.items():
        message.regions[region_id].CopyFrom(_region_to_message(region))
    return message


def derp_map_from_message(message: pb.DERPMap) -> DERPMap:
    """Read a DERP map."""
    regions = {region_id: _region_from_message(region) for region_id, region in message.regions.items()}
    return DERPMap(regions=regions, region_score=dict(message.home_params.region_score))


def _region_to_message(region: DERPRegion) -> pb.DERPMap.Region:
    return pb.DERPMap.Region(
        region_id=region.region_id,
        embedded_relay=region.embedded_relay,
        region_code=region.region_code,
        region_name=region.region_name,
        avoid=region.avoid,
        nodes=[_node_to_region_message(node) for node in region.nodes],
    )


def _node_to_region_message(node: DERPNode) -> pb.DERPMap.Region.Node:
    return pb.DERPMap.Region.Node(
        name=node.name,
        region_id=node.region_id,
        host_name=node.host_name,
        cert_name=node.cert_name,
        ipv4=node.ipv4,
        ipv6=node.ipv6,
        stun_port=node.stun_port,
        stun_only=node.stun_only,
        derp_port=node.derp_port,
        insecure_for_tests=node.insecure_for_tests,
        force_http=node.force_http,
        stun_test_ip=node.stun_test_ip,
        can_port_80=node.can_port_80,
    )


def _region_from_message(message: pb.DERPMap.Region) -> DERPRegion:
    return DERPRegion(
        region_id=message.region_id,
        region_code=message.region_code,
        region_name=message.region_name,
        embedded_relay=message.embedded_relay,
        avoid=message.avoid,
        nodes=tuple(_node_from_region_message(node) for node in message.nodes),
    )


def _node_from_region_message(message: pb.DERPMap.Region.Node) -> DERPNode:
    return DERPNode(
        name=message.name,
        region_id=message.region_id,
        host_name=message.host_name,
        cert_name=message.cert_name,
        ipv4=message.ipv4,
        ipv6=message.ipv6,
        stun_port=message.stun_port,
        stun_only=message.stun_only,
        derp_port=message.derp_port,
        insecure_for_tests=message.insecure_for_tests,
        force_http=message.force_http,
        stun_test_ip=message.stun_test_ip,
        can_port_80=message.can_port_80,
    )


def request_from_message(message: pb.CoordinateRequest) -> Request:
    """Read what a peer asks of the coordinator.

    Raises:
        RemoteProtocolError: an id or key is malformed.
    """
    return Request(
        node=node_from_message(message.update_self.node) if message.HasField("update_self") else None,
        add_tunnel=uuid_from_bytes(message.add_tunnel.id) if message.HasField("add_tunnel") else None,
        remove_tunnel=uuid_from_bytes(message.remove_tunnel.id) if message.HasField("remove_tunnel") else None,
        disconnect=message.HasField("disconnect"),
        ready_for=tuple(uuid_from_bytes(ready.id) for ready in message.ready_for_handshake),
    )


def workspace_update_to_message(update: Update) -> pb.WorkspaceUpdate:
    """Write what changed of a user's workspaces."""
    return pb.WorkspaceUpdate(
        upserted_workspaces=[_workspace_to_message(each) for each in update.upserted_workspaces],
        upserted_agents=[_agent_to_message(each) for each in update.upserted_agents],
        deleted_workspaces=[_workspace_to_message(each) for each in update.deleted_workspaces],
        deleted_agents=[_agent_to_message(each) for each in update.deleted_agents],
    )


def _workspace_to_message(workspace: WorkspaceState) -> pb.Workspace:
    return pb.Workspace(id=workspace.id.bytes, name=workspace.name, status=workspace.status.name)


def _agent_to_message(agent: AgentState) -> pb.Agent:
    return pb.Agent(id=agent.id.bytes, name=agent.name, workspace_id=agent.workspace_id.bytes)
