"""What is derived from a UUID: the addresses of a node inside the tunnel, and its number."""

from __future__ import annotations

from ipaddress import IPv6Address
from uuid import UUID

TAILNET_PREFIX = bytes.fromhex("fd7a115ca1e0")
"""Every node has an address with this prefix; clients dial it."""
SERVICE_PREFIX = bytes.fromhex("fd60627aa42b")
"""Agents have a second address with this one, for VPN clients and DNS."""
LEGACY_AGENT_ADDRESS = "fd7a:115c:a1e0:49d6:b259:b7ac:b1b2:48f4"
"""All old agents share this address; it is still accepted from agents."""


def tailnet_address(node: UUID) -> str:
    """Give the inner address of a node, at which it is dialled."""
    return _address(TAILNET_PREFIX, node)


def service_address(node: UUID) -> str:
    """Give the second address of an agent."""
    return _address(SERVICE_PREFIX, node)


def node_id(node: UUID) -> int:
    """Give the number by which WireGuard implementations label a node; nothing is decided by it."""
    number = int.from_bytes(node.bytes[8:], signed=True)
    # The one number without a positive counterpart stays as it is, as 64-bit arithmetic leaves it.
    return number if number == -(1 << 63) else abs(number)


def _address(prefix: bytes, node: UUID) -> str:
    return str(IPv6Address(prefix + node.bytes[len(prefix) :]))
