"""What is reached without a proxy: this machine, and what `NO_PROXY` names, as Go's programs understand it.

Both sides of Warren pass the table in `tests/vectors/no_proxy.json`, which was checked against Go's own
(`golang.org/x/net/http/httpproxy`). We are more lenient in three things that people write: white space separates, too,
a dot at the end of a name says nothing, and an IPv6 address may have brackets without a port.
"""

from __future__ import annotations

import ipaddress

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def cover(no: str, host: str, port: int) -> bool:
    """Say whether a server is reached without a proxy; `no` is the value of `NO_PROXY`."""
    name = host.strip("[]").rstrip(".").lower()
    address = _address(name)
    if name == "localhost" or (address is not None and address.is_loopback):
        return True
    return any(_covers(exception, name, address, port) for exception in no.lower().replace(",", " ").split())


def _covers(exception: str, name: str, address: Address | None, port: int) -> bool:
    if exception == "*":
        return True
    if "/" in exception:
        return address is not None and _within(address, *exception.split("/", 1))
    place, wanted_port = (exception, "") if _address(exception) else split_port(exception)
    if wanted_port and (not wanted_port.isdecimal() or int(wanted_port) != port):
        return False
    if address is not None:
        return _address(place) == address
    domain = place.removeprefix("*") if place.startswith("*.") else place
    domain = domain.rstrip(".")
    if domain.startswith("."):
        return name.endswith(domain) and domain != "."
    return bool(domain) and (name == domain or name.endswith(f".{domain}"))


def _within(address: Address, start: str, bits: str) -> bool:
    """Say whether an address is in a network; an IPv4 address written as an IPv6 one is an IPv4 address."""
    try:
        written = ipaddress.ip_address(start)
        length = int(bits) if bits.isdecimal() else -1
        first = _address(start) or written
        mapped = first.version != written.version
        network = ipaddress.ip_network((str(first), max(length - 96, 0) if mapped else length), strict=False)
    except ValueError:
        return False
    return 0 <= length <= written.max_prefixlen and address in network


def _address(text: str) -> Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def split_port(place: str) -> tuple[str, str]:
    """Cut `host:port`, `[v6]:port`, `host` or `[v6]`."""
    if place.startswith("[") and "]" in place:
        host, _, rest = place[1:].partition("]")
        return host, rest.removeprefix(":")
    host, separator, port = place.rpartition(":")
    return (host, port) if separator else (place, "")
