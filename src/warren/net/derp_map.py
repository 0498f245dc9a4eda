"""The DERP map: which relays and STUN servers there are. Reads, writes, builds, rewrites and compares it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from ipaddress import ip_address
from types import MappingProxyType
from typing import TypeVar
from urllib.parse import urlsplit

from warren.errors import Invalid

NO_STUN = -1
MAX_PORT = 65535
MAX_REGION_ID = 65535
"""Region numbers travel as the port of a pseudo address."""
_NUMBER_DIGITS = 10
_DISABLE = "disable"


@dataclass(frozen=True, slots=True)
class DERPNode:
    """One relay or STUN server of a region."""

    name: str
    region_id: int
    host_name: str
    cert_name: str = ""
    ipv4: str = ""
    """Empty: ask DNS. Anything that is no IPv4 address: not reachable that way."""
    ipv6: str = ""
    stun_port: int = 0
    """0 means 3478, -1 none."""
    stun_only: bool = False
    derp_port: int = 0
    """0 means 443."""
    insecure_for_tests: bool = False
    force_http: bool = False
    stun_test_ip: str = ""
    can_port_80: bool = False


@dataclass(frozen=True, slots=True)
class DERPRegion:
    """Servers of one place, in order of preference."""

    region_id: int
    region_code: str
    region_name: str
    embedded_relay: bool = False
    """Served by the control plane itself: each client reaches it at the URL by which it reaches the control plane."""
    avoid: bool = False
    nodes: tuple[DERPNode, ...] = ()


@dataclass(frozen=True, slots=True)
class DERPMap:
    """All regions, by number."""

    regions: Mapping[int, DERPRegion] = field(default_factory=lambda: MappingProxyType[int, DERPRegion]({}))
    region_score: Mapping[int, float] = field(default_factory=lambda: MappingProxyType[int, float]({}))
    """Factors on measured latencies: below 1 prefers a region, above 1 penalises it."""
    omit_default_regions: bool = False

    def to_json(self) -> dict[str, object]:
        """Write the map as its JSON document, with numbers and texts that say nothing left out."""
        regions = {str(number): _region_to_json(self.regions[number]) for number in sorted(self.regions)}
        document: dict[str, object] = {"Regions": regions}
        if self.region_score:
            document["HomeParams"] = {
                "RegionScore": {str(number): score for number, score in self.region_score.items()}
            }
        if self.omit_default_regions:
            document["omitDefaultRegions"] = True
        return document


@dataclass(frozen=True, slots=True)
class EmbeddedRegion:
    """The region that the control plane itself serves."""

    access_url: str
    region_id: int = 999
    region_code: str = "coder"
    region_name: str = "Coder Embedded Relay"
    stun_port: int = NO_STUN
    """The UDP port of the embedded STUN server, where one listens."""


_NODE_NAMES = {
    "name": "Name",
    "region_id": "RegionID",
    "host_name": "HostName",
    "cert_name": "CertName",
    "ipv4": "IPv4",
    "ipv6": "IPv6",
    "stun_port": "STUNPort",
    "stun_only": "STUNOnly",
    "derp_port": "DERPPort",
    "insecure_for_tests": "InsecureForTests",
    "force_http": "ForceHTTP",
    "stun_test_ip": "STUNTestIP",
    "can_port_80": "CanPort80",
}
_ALWAYS_WRITTEN = {"Name", "RegionID", "HostName"}
_T = TypeVar("_T", str, int, bool, float)


def build(
    embedded: EmbeddedRegion | None,
    *,
    stun_addresses: Sequence[str] = (),
    loaded: DERPMap | None = None,
    loaded_from: str = "",
    block_direct: bool = False,
) -> DERPMap:
    """Build the map that the server gives out.

    `loaded` is the operator's own map and `loaded_from` where it was read; `stun_addresses` are `host:port`, or the
    word `disable`. With neither a region of its own nor a loaded one the map is empty: the caller should warn.

    Raises:
        Invalid: an address is malformed, two regions have one number, or no relay is left.
    """
    if embedded is None and loaded is None:
        return DERPMap()
    loaded = loaded or DERPMap()
    defaults = _default_regions(embedded, () if block_direct else stun_addresses)
    for region in defaults:
        if region.region_id in loaded.regions:
            raise Invalid(
                f'a default region ID {region.region_id} ({region.region_code} - "{region.region_name}") '
                f'conflicts with a remote region from "{loaded_from}"'
            )
    regions = dict(loaded.regions) | {region.region_id: region for region in defaults}
    if block_direct:
        regions = {number: _without_stun(region) for number, region in regions.items()}
    _check_usable(regions)
    return replace(loaded, regions=MappingProxyType(regions))


def rewrite_embedded(derp_map: DERPMap, access_url: str) -> DERPMap:
    """Point embedded relays to where this client reaches the control plane.

    Raises:
        Invalid: `access_url` is not an HTTP URL with a host.
    """
    host, port, force_http = _split_url(access_url)

    def rewrite(node: DERPNode) -> DERPNode:
        if node.stun_only:
            return node
        return replace(node, host_name=host, derp_port=port, force_http=force_http)

    def rewrite_region(region: DERPRegion) -> DERPRegion:
        if not region.embedded_relay:
            return region
        return replace(region, nodes=tuple(rewrite(node) for node in region.nodes))

    regions = {number: rewrite_region(region) for number, region in derp_map.regions.items()}
    return replace(derp_map, regions=MappingProxyType(regions))


def without_regions(derp_map: DERPMap, left_out: Collection[int]) -> DERPMap:
    """Leave regions out."""
    if not left_out:
        return derp_map
    kept = {number: region for number, region in derp_map.regions.items() if number not in left_out}
    return replace(derp_map, regions=MappingProxyType(kept))


def own_addresses(node: DERPNode) -> Sequence[str]:
    """List the addresses that a node is to be reached at; none means that DNS knows them."""
    found: list[str] = []
    for text, version in ((node.ipv4, 4), (node.ipv6, 6)):
        try:
            if ip_address(text).version == version:
                found.append(text)
        except ValueError:
            continue  # empty, or a word that says "not by this family"
    return found


def same(left: DERPMap, right: DERPMap) -> bool:
    """Say whether two maps mean the same to a client that holds one of them, so that it need not be told.

    Scores, the order of nodes and the port 80 probe do not count.
    """

    def essence(derp_map: DERPMap) -> object:
        return derp_map.omit_default_regions, {
            number: (
                replace(region, nodes=()),
                {node.name: replace(node, can_port_80=False) for node in region.nodes},
            )
            for number, region in derp_map.regions.items()
        }

    return essence(left) == essence(right)


def parse(document: object) -> DERPMap:
    """Read the JSON document of a map. Names are accepted in any case, unknown ones ignored.

    Raises:
        Invalid: a value has the wrong type, or a region's number is not its key.
    """
    top = _object(document, "the DERP map")
    regions: dict[int, DERPRegion] = {}
    for key, value in _object(top.get("regions"), "Regions").items():
        region = _parse_region(key, value)
        regions[region.region_id] = region
    home = _object(top.get("homeparams"), "HomeParams")
    scores = _object(home.get("regionscore"), "HomeParams.RegionScore")
    return DERPMap(
        regions=MappingProxyType(regions),
        region_score=MappingProxyType(
            {_number(key): float(_value(scores, key, 0.0, f"RegionScore.{key}")) for key in scores}
        ),
        omit_default_regions=_value(top, "omitdefaultregions", False, "omitDefaultRegions"),
    )


def check(derp_map: DERPMap) -> None:
    """Check what an operator wrote, beyond its form: a map that no client could use is better refused.

    Raises:
        Invalid: a node has no address, a port is none, or two nodes have one name.
    """
    seen: dict[str, int] = {}
    for number, region in derp_map.regions.items():
        for node in region.nodes:
            where = f"region {number}, node `{node.name}`"
            if not node.host_name:
                raise Invalid(f"{where}: HostName is missing")
            if node.region_id not in (0, number):
                raise Invalid(f"{where}: RegionID {node.region_id} is that of another region")
            if not 0 <= node.derp_port <= MAX_PORT:
                raise Invalid(f"{where}: DERPPort {node.derp_port} is no port")
            if not NO_STUN <= node.stun_port <= MAX_PORT:
                raise Invalid(f"{where}: STUNPort {node.stun_port} is no port, nor -1 for none")
            if node.name and seen.setdefault(node.name, number) != number:
                raise Invalid(f"{where}: region {seen[node.name]} has a node of that name")


def _default_regions(embedded: EmbeddedRegion | None, stun_addresses: Sequence[str]) -> list[DERPRegion]:
    if embedded is None:
        return []
    regions = [_embedded_region(embedded)]
    if _DISABLE in stun_addresses:
        return regions
    for index, address in enumerate(stun_addresses):
        regions.append(_stun_region(embedded.region_id + 1 + index, address))
    return regions


def _embedded_region(embedded: EmbeddedRegion) -> DERPRegion:
    host, port, force_http = _split_url(embedded.access_url)
    node = DERPNode(
        name=f"{embedded.region_id}b",
        region_id=embedded.region_id,
        host_name=host,
        stun_port=embedded.stun_port,
        derp_port=port,
        force_http=force_http,
    )
    return DERPRegion(
        region_id=embedded.region_id,
        region_code=embedded.region_code,
        region_name=embedded.region_name,
        embedded_relay=True,
        nodes=(node,),
    )


def _stun_region(region_id: int, address: str) -> DERPRegion:
    host, separator, port_text = address.rpartition(":")
    if not separator or not host:
        raise Invalid(f'create stun regions: split host port for "{address}": missing port in address')
    if not port_text.isdecimal() or not 0 < int(port_text) < 65536:
        raise Invalid(f'create stun regions: parse port for "{address}": "{port_text}" is not a port')
    node = DERPNode(
        name=f"{region_id}stun0",
        region_id=region_id,
        host_name=host.removeprefix("[").removesuffix("]"),
        stun_port=int(port_text),
        stun_only=True,
    )
    return DERPRegion(
        region_id=region_id,
        region_code=f"coder_stun_{region_id}",
        region_name=f"Coder STUN {region_id}",
        nodes=(node,),
    )


def _without_stun(region: DERPRegion) -> DERPRegion:
    relays = (replace(node, stun_port=NO_STUN) for node in region.nodes if not node.stun_only)
    return replace(region, nodes=tuple(relays))


def _check_usable(regions: Mapping[int, DERPRegion]) -> None:
    if not regions:
        raise Invalid(
            "DERP map has no regions. A valid DERP map is required for networking to work. "
            "You must either supply your own DERP map or use the built-in DERP server"
        )
    if all(node.stun_only for region in regions.values() for node in region.nodes):
        raise Invalid(
            "DERP map has no DERP nodes. A valid DERP map is required for networking to work. "
            "You must either supply your own DERP map or use the built-in DERP server"
        )


def _split_url(url: str) -> tuple[str, int, bool]:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise Invalid(f"`{url}` is not a URL", detail=str(error)) from error
    if parts.scheme not in ("http", "https") or not host:
        raise Invalid(f"`{url}` is not an HTTP URL with a host")
    plain = parts.scheme == "http"
    return host, port or (80 if plain else 443), plain


def _region_to_json(region: DERPRegion) -> dict[str, object]:
    document: dict[str, object] = {
        "EmbeddedRelay": region.embedded_relay,
        "RegionID": region.region_id,
        "RegionCode": region.region_code,
        "RegionName": region.region_name,
    }
    if region.avoid:
        document["Avoid"] = True
    document["Nodes"] = [_node_to_json(node) for node in region.nodes]
    return document


def _node_to_json(node: DERPNode) -> dict[str, object]:
    values: dict[str, object] = {_NODE_NAMES[each.name]: getattr(node, each.name) for each in fields(node)}
    return {name: value for name, value in values.items() if value or name in _ALWAYS_WRITTEN}


def _parse_region(key: str, document: object) -> DERPRegion:
    where = f"Regions.{key}"
    region = _object(document, where)
    region_id = _value(region, "regionid", 0, f"{where}.RegionID")
    if region_id != _number(key) or not 0 < region_id <= MAX_REGION_ID:
        raise Invalid(f"{where}: RegionID {region_id} must equal its key and lie between 1 and {MAX_REGION_ID}")
    nodes = region.get("nodes")
    if nodes is not None and not isinstance(nodes, list):
        raise Invalid(f"{where}.Nodes must be a list")
    # isinstance gives a list of unknown elements; each is checked when it is parsed.
    elements: list[object] = nodes or []  # pyright: ignore[reportUnknownVariableType]
    return DERPRegion(
        region_id=region_id,
        region_code=_value(region, "regioncode", "", f"{where}.RegionCode"),
        region_name=_value(region, "regionname", "", f"{where}.RegionName"),
        embedded_relay=_value(region, "embeddedrelay", False, f"{where}.EmbeddedRelay"),
        avoid=_value(region, "avoid", False, f"{where}.Avoid"),
        nodes=tuple(_parse_node(f"{where}.Nodes[{index}]", node) for index, node in enumerate(elements)),
    )


def _parse_node(where: str, document: object) -> DERPNode:
    node = _object(document, where)

    def text(name: str) -> str:
        return _value(node, name.lower(), "", f"{where}.{name}")

    def number(name: str) -> int:
        return _value(node, name.lower(), 0, f"{where}.{name}")

    def flag(name: str) -> bool:
        return _value(node, name.lower(), False, f"{where}.{name}")

    return DERPNode(
        name=text("Name"),
        region_id=number("RegionID"),
        host_name=text("HostName"),
        cert_name=text("CertName"),
        ipv4=text("IPv4"),
        ipv6=text("IPv6"),
        stun_port=number("STUNPort"),
        stun_only=flag("STUNOnly"),
        derp_port=number("DERPPort"),
        insecure_for_tests=flag("InsecureForTests"),
        force_http=flag("ForceHTTP"),
        stun_test_ip=text("STUNTestIP"),
        can_port_80=flag("CanPort80"),
    )


def _object(value: object, where: str) -> dict[str, object]:
    """Read an object with its names in lower case; null is empty."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Invalid(f"{where} must be an object")
    # isinstance gives a dict of unknown types; JSON has text keys only.
    document: dict[str, object] = value  # pyright: ignore[reportUnknownVariableType]
    return {str(name).lower(): each for name, each in document.items()}


def _value(document: Mapping[str, object], name: str, default: _T, where: str) -> _T:
    value = document.get(name)
    if value is None:
        return default
    if isinstance(default, float) and type(value) is int:
        try:
            return type(default)(value)
        except OverflowError as error:
            raise Invalid(f"{where} is too large") from error
    # bool is a kind of int in Python, but not in JSON.
    if type(value) is not type(default):
        raise Invalid(f"{where} must be of type {type(default).__name__}")
    # The types are equal, which the checker cannot see.
    return value  # pyright: ignore[reportReturnType]


def _number(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= _NUMBER_DIGITS):
        raise Invalid(f"region number `{text[:100]}` is not a number")
    return int(text)
