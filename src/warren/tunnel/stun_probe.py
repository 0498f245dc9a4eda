"""Ask STUN servers ourselves, from sockets that tell why nothing comes back."""

from __future__ import annotations

import errno
import secrets
import socket
from collections.abc import Sequence
from dataclasses import replace

import anyio

from warren.errors import RemoteProtocolError
from warren.net import derp_map, stun
from warren.net.derp_map import DERPMap, DERPNode
from warren.net.network_report import STUNCheck, STUNFailure

WAITS_SECONDS = (0.3, 0.7, 1.5)
"""How long to wait after each request before the next one, and after the last."""
DNS_SECONDS = 6.0
_RANK = (
    STUNFailure.NONE,
    STUNFailure.BLOCKED_HERE,
    STUNFailure.REFUSED,
    STUNFailure.SILENCE,
    STUNFailure.NO_ROUTE,
    STUNFailure.NO_ADDRESS,
)
"""Of a server with several addresses the first of these is what is told."""


async def check_stun(known: DERPMap) -> Sequence[STUNCheck]:
    """Ask every STUN server of a map, all at once."""
    found: dict[tuple[int, str], STUNCheck] = {}

    async def check(node: DERPNode) -> None:
        found[node.region_id, node.name] = await check_server(node)

    async with anyio.create_task_group() as tasks:
        for region in known.regions.values():
            for node in region.nodes:
                if node.stun_port >= 0:
                    tasks.start_soon(check, node)
    return tuple(found[key] for key in sorted(found))


async def check_server(node: DERPNode) -> STUNCheck:
    """Ask one STUN server at its first address of each family; what worked best is returned."""
    port = node.stun_port or stun.DEFAULT_PORT
    check = STUNCheck(node.name, node.host_name, port)
    fixed = [node.stun_test_ip] if node.stun_test_ip else derp_map.own_addresses(node)
    addresses = fixed or await _addresses(node.host_name, port)
    if not addresses:
        return replace(check, failure=STUNFailure.NO_ADDRESS)
    found = [await _ask(replace(check, address=address)) for address in addresses]
    return min(found, key=lambda each: _RANK.index(each.failure))


async def _addresses(host: str, port: int) -> list[str]:
    try:
        with anyio.fail_after(DNS_SECONDS):
            found = await anyio.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    except (OSError, TimeoutError):
        return []
    by_family: dict[int, str] = {}
    for family, _, _, _, address in found:
        by_family.setdefault(family, str(address[0]))
    return list(by_family.values())


async def _ask(check: STUNCheck) -> STUNCheck:
    family = socket.AF_INET6 if ":" in check.address else socket.AF_INET
    sent = 0
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        began = anyio.current_time()
        try:
            sock.connect((check.address, check.port))
            for wait_seconds in WAITS_SECONDS:
                txid = secrets.token_bytes(12)
                sock.send(stun.request(txid))
                sent += 1
                with anyio.move_on_after(wait_seconds):
                    mapped = await _answer(sock, txid)
                    latency_seconds = anyio.current_time() - began
                    return replace(check, sent=sent, mapped=mapped, latency_seconds=latency_seconds)
                began = anyio.current_time()
        except OSError as error:
            return replace(check, sent=sent, failure=_failure(error))
    return replace(check, sent=sent, failure=STUNFailure.SILENCE)


def _failure(error: OSError) -> STUNFailure:
    match error.errno:
        case errno.EPERM | errno.EACCES:
            return STUNFailure.BLOCKED_HERE
        case errno.ECONNREFUSED:
            return STUNFailure.REFUSED
        case _:
            return STUNFailure.NO_ROUTE


async def _answer(sock: socket.socket, txid: bytes) -> str:
    """Wait for the answer to a request; anything else is ignored."""
    while True:
        await anyio.wait_readable(sock)
        packet = sock.recv(2048)
        try:
            answer = stun.parse_answer(packet)
        except RemoteProtocolError:
            continue
        if answer.txid == txid:
            return f"[{answer.host}]:{answer.port}" if ":" in answer.host else f"{answer.host}:{answer.port}"
