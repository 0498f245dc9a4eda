"""Explain each endpoint that was tried: what was sent, what came back, why, what to do, and who has to act. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_interface

from warren.net.causes import CAUSES, Actor
from warren.net.network_report import Attempt, NodeNetwork, Report

_CARRIER_NAT = IPv4Network("100.64.0.0/10")  # RFC 6598; several VPNs use it, too
_PRIVATE = (
    IPv4Network("10.0.0.0/8"),  # RFC 1918
    IPv4Network("172.16.0.0/12"),
    IPv4Network("192.168.0.0/16"),
    IPv6Network("fc00::/7"),  # RFC 4193
)


class Way(StrEnum):
    """Who sent the pings."""

    OUT = "out"
    """We, to an endpoint of the agent."""
    IN = "in"
    """The agent, to an endpoint of ours."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """One endpoint that one side tried."""

    way: Way
    endpoint: str
    source: str
    pings_sent: int
    pongs_received: int
    latency_seconds: float | None
    works: bool
    cause: str
    code: str = ""
    fix: str = ""
    who: Actor = Actor.NOBODY
    reason: str = ""
    """What the engine that sent the pings says of it."""


def verdicts(report: Report) -> Sequence[Verdict]:
    """Explain all attempts of a report, ours first."""
    workspace, own = report.workspace, report.network or NodeNetwork()
    if workspace is None or workspace.path is None:
        return ()
    agent = workspace.report.network if workspace.report else None
    found = [_verdict(Way.OUT, each, own, agent) for each in workspace.path.attempts]
    if workspace.report is not None and workspace.report.path is not None and agent is not None:
        found += [_verdict(Way.IN, each, agent, own) for each in workspace.report.path.attempts]
    return tuple(found)


def text(attempt: Attempt) -> str:
    """Say what was sent and what came back."""
    answered = f"{attempt.pongs_received} answered" if attempt.pongs_received else "none answered"
    return f"{attempt.endpoint}: {attempt.pings_sent} pings sent, {answered}"


def public_host(network: NodeNetwork) -> str:
    """Return the address by which the internet sees a node, or nothing."""
    return _host(network.global_v4 or network.global_v6)


def one_public_address(own: NodeNetwork, agent: NodeNetwork | None, tried: Sequence[Attempt]) -> bool:
    """Say whether both sides are seen at one public address, which then is their router's."""
    mine = public_host(own)
    if not mine or not _public_address(ip_address(mine)):
        return False
    theirs = {public_host(agent)} if agent is not None else {_host(each.endpoint) for each in tried}
    return mine in theirs


def families_meet(own: NodeNetwork, tried: Sequence[Attempt]) -> bool:
    """Say whether an endpoint of the peer is of an address family that this side has."""
    return any(_family_here(own, each) for each in tried)


def _family_here(own: NodeNetwork, attempt: Attempt) -> bool:
    version = ip_address(_host(attempt.endpoint)).version
    if version == 4:
        return own.ipv4 or own.ipv4_can_send or any(_version(address) == 4 for address in _addresses(own))
    return own.ipv6 or any(_version(address) == 6 and not _local_only(address) for address in _addresses(own))


def _verdict(way: Way, attempt: Attempt, sender: NodeNetwork, target: NodeNetwork | None) -> Verdict:
    works = attempt.state == "answered"
    code, cause = ("", "works") if works else _why(way, attempt, sender, target)
    known = CAUSES.get(code)
    who = known.actor if known else Actor.NOBODY
    return Verdict(
        way=way,
        endpoint=attempt.endpoint,
        source=attempt.source,
        pings_sent=attempt.pings_sent,
        pongs_received=attempt.pongs_received,
        latency_seconds=attempt.latency_seconds,
        works=works,
        cause=(attempt.reason or cause) if works else cause,
        code=code,
        fix=known.fix if known else "",
        who=who,
        reason=attempt.reason,
    )


def _why(way: Way, attempt: Attempt, sender: NodeNetwork, target: NodeNetwork | None) -> tuple[str, str]:
    """Say why nothing came back: a code of the table of causes, if it is one, and a sentence."""
    host = ip_address(_host(attempt.endpoint))
    here = "this machine" if way is Way.OUT else "the agent"
    if not _family_here(sender, attempt):
        return "no-common-family", f"{here} has no IPv{host.version}"
    if host.is_loopback:
        return "", "reaches only the machine it belongs to"
    if host.is_link_local:
        return "", "reaches only machines on the same cable"
    if isinstance(host, IPv4Address) and host in _CARRIER_NAT:
        return "", "an address inside a carrier's network or a VPN that the other side is not in"
    if not _public_address(host):
        return _private(host, sender)
    return _public(way, sender, target)


def _public_address(host: IPv4Address | IPv6Address) -> bool:
    """Say whether an address is reachable from anywhere; those for documentation count, which labs use for it."""
    inside = host.is_loopback or host.is_link_local or (isinstance(host, IPv4Address) and host in _CARRIER_NAT)
    return not inside and not any(host in network for network in _PRIVATE if network.version == host.version)


def _private(host: IPv4Address | IPv6Address, sender: NodeNetwork) -> tuple[str, str]:
    networks = (ip_interface(address).network for each in sender.interfaces for address in each.addresses)
    if any(host in network for network in networks):
        return "direct-filtered", "on the same network, but nothing comes back: a firewall on one of the machines"
    return "", "a private address of another network"


def _public(way: Way, sender: NodeNetwork, target: NodeNetwork | None) -> tuple[str, str]:
    blocked = ("udp-blocked", "agent-udp-blocked")
    if sender.stun_answers == {} and not sender.udp:
        code = blocked[way is Way.IN]
        return code, CAUSES[code].title
    if target is not None and not target.udp:
        code = blocked[way is Way.OUT]
        return code, CAUSES[code].title
    if target is not None and public_host(sender) and public_host(sender) == public_host(target):
        return "no-hairpin", "the public address of the router that both are behind"
    if sender.mapping_varies and target is not None and target.mapping_varies:
        return "hard-nat-both", "a public port that was opened for somebody else: both NATs are hard"
    if target is not None and target.mapping_varies:
        return "hard-nat", "a public port that was opened for somebody else: the NAT there is hard"
    if sender.mapping_varies:
        return "hard-nat", "the filter there waits for another public port than this side's hard NAT uses"
    return "direct-filtered", "nothing comes back: a firewall on the way drops the packets"


def _addresses(network: NodeNetwork) -> Iterator[str]:
    for interface in network.interfaces:
        for address in interface.addresses:
            yield address.partition("/")[0]
    for endpoint in network.endpoints:
        yield _host(endpoint)


def _local_only(address: str) -> bool:
    parsed = ip_address(address)
    return parsed.is_loopback or parsed.is_link_local


def _version(address: str) -> int:
    return ip_address(address).version


def _host(endpoint: str) -> str:
    """Take the port off an endpoint: `ip:port` or `[ip6]:port`."""
    return endpoint.rpartition(":")[0].removeprefix("[").removesuffix("]")
