"""Text and binary forms of node and disco keys, and what is derived from a UUID: addresses and node ids."""

from __future__ import annotations

from ipaddress import IPv6Address
from uuid import UUID

from warren.errors import Invalid

KEY_LENGTH = 32
NODE_BINARY_PREFIX = b"np"
"""In front of a node key in protobuf messages."""
NODE_PREFIX = "nodekey:"
DISCO_PREFIX = "discokey:"
PRIVATE_PREFIX = "privkey:"

TAILNET_PREFIX = bytes.fromhex("fd7a115ca1e0")
"""Every node has an address with this prefix; clients dial it."""
SERVICE_PREFIX = bytes.fromhex("fd60627aa42b")
"""Agents have a second address with this one, for VPN clients and DNS."""
LEGACY_AGENT_ADDRESS = "fd7a:115c:a1e0:49d6:b259:b7ac:b1b2:48f4"
"""All old agents share this address; it is still accepted from agents."""


def clamp(private_key: bytes) -> bytes:
    """Make random bytes a Curve25519 private key."""
    _check_length(private_key)
    return bytes([private_key[0] & 248, *private_key[1:31], (private_key[31] & 127) | 64])


def key_to_text(prefix: str, key: bytes) -> str:
    """Write a key as text; the prefix says of which kind it is, empty for none."""
    _check_length(key)
    return prefix + key.hex()


def key_from_text(prefix: str, text: str) -> bytes:
    """Read a key of the kind that `prefix` says.

    Raises:
        Invalid: it is of another kind, or not 64 hexadecimal digits.
    """
    digits = text.removeprefix(prefix)
    if len(digits) + len(prefix) != len(text) or len(digits) != 2 * KEY_LENGTH:
        raise Invalid(f"a key must be `{prefix}` and {2 * KEY_LENGTH} hexadecimal digits")
    try:
        return bytes.fromhex(digits)
    except ValueError as error:
        raise Invalid("a key must be hexadecimal") from error


def node_key_to_binary(key: bytes) -> bytes:
    """Write a node key as protobuf messages carry it."""
    _check_length(key)
    return NODE_BINARY_PREFIX + key


def node_key_from_binary(value: bytes) -> bytes:
    """Read a node key of a protobuf message.

    Raises:
        Invalid: it lacks the prefix, or has another length.
    """
    if len(value) != len(NODE_BINARY_PREFIX) + KEY_LENGTH or not value.startswith(NODE_BINARY_PREFIX):
        raise Invalid(f"a node key must be `np` and {KEY_LENGTH} bytes, got {len(value)} bytes")
    return value[len(NODE_BINARY_PREFIX) :]


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


def _check_length(key: bytes) -> None:
    if len(key) != KEY_LENGTH:
        raise Invalid(f"a key has {KEY_LENGTH} bytes, not {len(key)}")
