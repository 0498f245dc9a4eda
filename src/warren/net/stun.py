"""STUN binding requests and answers (RFC 5389), as Tailscale's clients and servers write them."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

from warren.errors import RemoteProtocolError

COOKIE = bytes.fromhex("2112a442")
DEFAULT_PORT = 3478
HEADER_LENGTH = 20
_HEADER = struct.Struct(">HH4s12s")
_ATTRIBUTE = struct.Struct(">HH")
_BINDING_REQUEST = 0x0001
_BINDING_SUCCESS = 0x0101
_MAPPED_ADDRESS = 0x0001
_XOR_MAPPED_ADDRESS = 0x0020
_XOR_MAPPED_ADDRESS_OLD = 0x8020  # before RFC 5389 gave the attribute its number
_SOFTWARE = 0x8022
_FINGERPRINT = 0x8028
_FINGERPRINT_XOR = 0x5354554E
_PORT_XOR = 0x2112
_SOFTWARE_NAME = b"tailnode"  # Tailscale's servers answer to this name only
_FAMILY_LENGTHS = {1: 4, 2: 16}


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server says: `host` and `port` are where our request came from."""

    txid: bytes
    host: str
    port: int


def is_stun(packet: bytes) -> bool:
    """Say whether a datagram is STUN's (RFC 5389 §6)."""
    return len(packet) >= HEADER_LENGTH and packet[0] & 0xC0 == 0 and packet[4:8] == COOKIE


def request(txid: bytes) -> bytes:
    """Write a binding request."""
    head = _HEADER.pack(_BINDING_REQUEST, 20, COOKIE, txid)
    head += _ATTRIBUTE.pack(_SOFTWARE, len(_SOFTWARE_NAME)) + _SOFTWARE_NAME
    return head + _ATTRIBUTE.pack(_FINGERPRINT, 4) + struct.pack(">I", zlib.crc32(head) ^ _FINGERPRINT_XOR)


def parse_request(packet: bytes) -> bytes:
    """Read the transaction id of a binding request, of any client.

    Raises:
        RemoteProtocolError: it is something else, or malformed.
    """
    kind, txid, attributes = _split(packet)
    if kind != _BINDING_REQUEST:
        raise RemoteProtocolError(f"STUN message {kind:#06x} is not a binding request")
    for _ in _attributes(attributes):
        pass
    return txid


def answer(txid: bytes, host: str, port: int) -> bytes:
    """Write the answer to a request that came from `host` and `port`."""
    ip = _unmapped(ip_address(host.partition("%")[0]))
    family = 1 if isinstance(ip, IPv4Address) else 2
    address = _xor(ip.packed, txid)
    attribute = struct.pack(">BBH", 0, family, port ^ _PORT_XOR) + address
    head = _HEADER.pack(_BINDING_SUCCESS, _ATTRIBUTE.size + len(attribute), COOKIE, txid)
    return head + _ATTRIBUTE.pack(_XOR_MAPPED_ADDRESS, len(attribute)) + attribute


def parse_answer(packet: bytes) -> Answer:
    """Read a server's answer. Fingerprints are not verified.

    Raises:
        RemoteProtocolError: it is something else, malformed, or carries no address.
    """
    kind, txid, attributes = _split(packet)
    if kind != _BINDING_SUCCESS:
        raise RemoteProtocolError(f"STUN message {kind:#06x} is not a binding answer")
    plain: Answer | None = None
    for attribute, value in _attributes(attributes):
        if attribute in (_XOR_MAPPED_ADDRESS, _XOR_MAPPED_ADDRESS_OLD):
            address, port = _address(value)
            return Answer(txid, _text(_xor(address, txid)), port ^ _PORT_XOR)
        if attribute == _MAPPED_ADDRESS:
            address, port = _address(value)
            plain = Answer(txid, _text(address), port)
    if plain is None:
        raise RemoteProtocolError("the STUN answer carries no address")
    return plain


def _split(packet: bytes) -> tuple[int, bytes, bytes]:
    if not is_stun(packet):
        raise RemoteProtocolError("the datagram is not STUN")
    kind, length, _, txid = _HEADER.unpack_from(packet)
    body = packet[HEADER_LENGTH : HEADER_LENGTH + length]
    if len(body) != length:
        raise RemoteProtocolError(f"a STUN message announces {length} bytes and has {len(body)}")
    return kind, txid, body


def _attributes(body: bytes) -> Iterator[tuple[int, bytes]]:
    while body:
        if len(body) < _ATTRIBUTE.size:
            raise RemoteProtocolError("a STUN attribute is cut short")
        kind, length = _ATTRIBUTE.unpack_from(body)
        value = body[_ATTRIBUTE.size : _ATTRIBUTE.size + length]
        if len(value) != length:
            raise RemoteProtocolError("a STUN attribute is cut short")
        yield kind, value
        # The last attribute's padding is missing in what some servers send.
        body = body[_ATTRIBUTE.size + (length + 3) // 4 * 4 :]


def _address(value: bytes) -> tuple[bytes, int]:
    length = _FAMILY_LENGTHS.get(value[1]) if len(value) >= 4 else None
    if length is None or len(value) < 4 + length:
        raise RemoteProtocolError("a STUN address is malformed")
    return value[4 : 4 + length], int.from_bytes(value[2:4])


def _xor(address: bytes, txid: bytes) -> bytes:
    return bytes(left ^ right for left, right in zip(address, COOKIE + txid, strict=False))


def _text(address: bytes) -> str:
    return str(_unmapped(ip_address(address)))


def _unmapped(ip: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    return (ip.ipv4_mapped or ip) if isinstance(ip, IPv6Address) else ip
