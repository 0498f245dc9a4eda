"""What `port-forward` listens on and where it leads: `[address:]ports[:ports]`, with ranges."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address

from warren.errors import Invalid

_RANGE = r"\d+(?:-\d+)?"
_SPEC = re.compile(rf"(?:(\[[0-9a-fA-F:.%]+\]|\d+\.\d+\.\d+\.\d+):)?({_RANGE})(?::({_RANGE}))?")
HINT = "write it like 8080, 8080:80, 9090-9092 or 127.0.0.1:8080:80"


@dataclass(frozen=True, slots=True)
class Forward:
    """One local port that leads to one of the workspace. An empty host means this machine, by IPv4 and IPv6."""

    protocol: str
    host: str
    local_port: int
    remote_port: int

    @property
    def listen_hosts(self) -> tuple[str, ...]:
        """Where to listen; only the first must work."""
        return (self.host,) if self.host else ("127.0.0.1", "::1")

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host or "localhost"
        return f"{self.protocol}://{host}:{self.local_port} -> {self.remote_port}"


def parse(tcp: Iterable[str], udp: Iterable[str]) -> list[Forward]:
    """Read the specs of both protocols.

    Raises:
        Invalid: one cannot be read, a local port is used twice, or there are none.
    """
    forwards = [
        forward
        for protocol, specs in (("tcp", tcp), ("udp", udp))
        for spec in specs
        for forward in _one(protocol, spec)
    ]
    if not forwards:
        raise Invalid("no port to forward", hint="pass --tcp or --udp; " + HINT)
    seen: set[tuple[str, str, int]] = set()
    for forward in forwards:
        place = (forward.protocol, forward.host, forward.local_port)
        if place in seen:
            raise Invalid(f"local {forward.protocol} port {forward.local_port} is given twice")
        seen.add(place)
    return forwards


def _one(protocol: str, spec: str) -> list[Forward]:
    found = _SPEC.fullmatch(spec.strip())
    if found is None:
        raise Invalid(f"`{spec}` is not a port to forward", hint=HINT)
    host = (found[1] or "").strip("[]")
    if host:
        try:
            ip_address(host)
        except ValueError as error:
            raise Invalid(f"`{host}` is not an IP address") from error
    local = _ports(found[2])
    remote = _ports(found[3] or found[2])
    if len(local) != len(remote):
        raise Invalid(f"`{spec}` has {len(local)} local and {len(remote)} remote ports")
    return [Forward(protocol, host, mine, theirs) for mine, theirs in zip(local, remote, strict=True)]


def _ports(text: str) -> range:
    first, _, last = text.partition("-")
    ports = range(int(first), int(last or first) + 1)
    if not ports or ports[0] < 1 or ports[-1] > 65535:
        raise Invalid(f"`{text}` is not a port or a range of ports")
    return ports
