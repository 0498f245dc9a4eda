"""Scenarios where two nodes share more than the internet: a LAN, a NAT, a VPN."""

from __future__ import annotations

from warren.netlab import pair
from warren.netlab.internet import Servers
from warren.netlab.kinds import BY_NAME, NO_PUBLIC_ADDRESS, SILENT, Expected, Path
from warren.netlab.namespace import Namespace, join_by_wire
from warren.netlab.report import Report, judge
from warren.netlab.rules import Gateway, ruleset
from warren.netlab.world import Site, World

_EASY = BY_NAME["easy"]
COMPANY_STUN = "10.0.0.2"


async def same_lan(name: str, world: World) -> Report:
    """Two nodes on one network behind one NAT."""
    first = world.add_site(_EASY, 1)
    gateway, node = first.edge, world.namespace("node2")
    # What was point to point becomes a network of several nodes.
    join_by_wire(gateway, node, "port2", "eth0")
    gateway.ip(
        "link set lan down",
        "link set lan name port1",
        "link add lan type bridge",
        "link set port1 master lan up",
        "link set port2 master lan",
        "address flush dev port1",
        "address add 192.168.1.1/24 dev lan",
        "link set lan up",
    )
    first.node.ip("address flush dev eth0", "address add 192.168.1.2/24 dev eth0", "route add default via 192.168.1.1")
    node.ip("address add 192.168.1.3/24 dev eth0", "route add default via 192.168.1.1")
    second = Site(2, _EASY, node, first.gateways, first.outside, "192.168.1.3", None)
    wanted = Expected(Path.DIRECT, "both are on one network")
    outcome = await pair.run_sites(world, first, second, wanted)
    problems = () if outcome.endpoint.startswith("192.168.1.3:") else (f"the path is not local: {outcome.endpoint}",)
    return judge(name, wanted, outcome, problems)


async def hairpin(name: str, world: World) -> Report:
    """Two networks behind one NAT that turns packets to its own address around."""
    return await _behind_one_nat(name, world, Expected(Path.DIRECT, "the NAT turns packets around"), hairpin=True)


async def no_hairpin(name: str, world: World) -> Report:
    """Two networks behind one NAT that drops packets to its own address."""
    wanted = Expected(Path.RELAY, "the NAT lets nobody inside reach its outer address", SILENT)
    return await _behind_one_nat(name, world, wanted, hairpin=False)


async def _behind_one_nat(name: str, world: World, wanted: Expected, *, hairpin: bool) -> Report:
    first = world.add_site(_EASY, 1, hairpin=hairpin)
    node = world.namespace("node2")
    world.join_behind(first.edge, node, "lan2", "eth0", "192.168.2.1", "192.168.2.2")
    second = Site(2, _EASY, node, first.gateways, first.outside, "192.168.2.2", None)
    return judge(name, wanted, await pair.run_sites(world, first, second, wanted))


async def without_stun(name: str, world: World) -> Report:
    """Two home NATs, and no STUN server that answers."""
    wanted = Expected(Path.RELAY, "nobody says which addresses the NATs give them", SILENT + NO_PUBLIC_ADDRESS)
    sites = world.add_site(_EASY, 1), world.add_site(_EASY, 2)
    return judge(name, wanted, await pair.run_sites(world, *sites, wanted, Servers(stun=False)))


async def vpn(name: str, world: World) -> Report:
    """Two VPN clients that may use UDP inside the company only, where a STUN server says how they are seen."""
    wanted = Expected(Path.DIRECT, "the company's STUN server says which addresses its VPN gives them")
    return await _over_vpn(name, world, wanted, stun=((COMPANY_STUN, ""),))


async def vpn_without_stun(name: str, world: World) -> Report:
    """The same without the company's STUN server."""
    wanted = Expected(Path.RELAY, "nobody says which addresses the VPN gives them", SILENT + NO_PUBLIC_ADDRESS)
    return await _over_vpn(name, world, wanted, stun=())


async def _over_vpn(name: str, world: World, wanted: Expected, *, stun: tuple[tuple[str, str], ...]) -> Report:
    first, second = world.add_site(BY_NAME["https-only"], 1), world.add_site(BY_NAME["https-only"], 2)
    company = world.namespace("company")
    company.ip(f"address add {COMPANY_STUN}/32 dev lo")
    for site in (first, second):
        _join_company(world, company, site)
    servers = Servers(more_stun=stun, more_stun_in=company)
    outcome = await pair.run_sites(world, first, second, wanted, servers)
    return judge(name, wanted, outcome)


def _join_company(world: World, company: Namespace, site: Site) -> None:
    """Give a node a VPN whose gateway hides it behind an address of the company."""
    number = site.number
    gateway = world.namespace(f"vpn{number}")
    own = f"10.{number}.0.1"
    join_by_wire(company, gateway, f"vpn{number}", "wan")
    company.ip(f"route add {own}/32 dev vpn{number}")
    gateway.ip(
        f"address add {own}/32 dev wan",
        f"route add {COMPANY_STUN}/32 dev wan",
        f"route add 10.0.0.0/8 via {COMPANY_STUN} dev wan src {own} onlink",
    )
    gateway.nft(ruleset(Gateway(own)))
    join_by_wire(gateway, site.node, "lan", "vpn0")
    gateway.ip(f"address add 172.16.{number}.1/24 dev lan")
    site.node.ip(f"address add 172.16.{number}.2/24 dev vpn0", f"route add 10.0.0.0/8 via 172.16.{number}.1")
