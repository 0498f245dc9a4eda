"""What nodes find on the internet: relays, STUN servers, and the middleboxes of their own networks."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from urllib.parse import quote

from warren.netlab.certificates import Authority
from warren.netlab.kinds import Outbound
from warren.netlab.namespace import Namespace
from warren.netlab.node import new_config
from warren.netlab.proxies import SOCKS_PASSWORD, SOCKS_USER, serving_http_proxy, serving_socks
from warren.netlab.services import (
    NEAR,
    RELAY_NAME,
    STUN_ADDRESSES,
    RelayPlace,
    RelayServer,
    StunServers,
    derp_map,
    serving_interceptor,
    serving_stun,
)
from warren.netlab.world import SERVER_ADDRESSES, SERVER_ADDRESSES6, Site, World
from warren.tunnel.node import NodeConfig

Addresses = Sequence[tuple[str, str]]
"""IPv4 and IPv6 addresses of STUN servers; empty where a server has none."""


@dataclass(frozen=True, slots=True)
class Servers:
    """What there is on the internet when nodes start."""

    relays: tuple[RelayPlace, ...] = (NEAR,)
    """The nearest first."""
    unlisted: tuple[RelayPlace, ...] = ()
    """Relays that are not in the map yet."""
    stun: bool = True
    """Whether the STUN servers of the map answer."""
    more_stun: Addresses = ()
    more_stun_in: Namespace | None = None
    """Where these further servers are."""


@dataclass(frozen=True, slots=True)
class Internet:
    """What is there now."""

    relays: tuple[RelayServer, ...]
    stun: StunServers
    derp_map: bytes
    configs: tuple[NodeConfig, ...]
    """How the user of each site has configured a node there."""


@asynccontextmanager
async def serving_internet(world: World, sites: Sequence[Site], servers: Servers) -> AsyncGenerator[Internet]:
    """Serve all that is wanted, and what stands between the sites and it."""
    authority = Authority.make("lab relay CA")
    async with AsyncExitStack() as stack:
        shown = authority.server_context(RELAY_NAME)
        relays = [
            await stack.enter_async_context(RelayServer.open(world.server, shown, place.port))
            for place in (*servers.relays, *servers.unlisted)
        ]
        addresses = (*SERVER_ADDRESSES, *SERVER_ADDRESSES6)
        stun = await stack.enter_async_context(serving_stun(world.server, addresses, started=servers.stun))
        if servers.more_stun_in is not None:
            inside = [address for server in servers.more_stun for address in server if address]
            await stack.enter_async_context(serving_stun(servers.more_stun_in, inside))
        configs = [await _serve_middlebox(stack, site, authority) for site in sites]
        known = derp_map((*STUN_ADDRESSES, *servers.more_stun), servers.relays)
        yield Internet(tuple(relays), stun, known, tuple(configs))


async def _serve_middlebox(stack: AsyncExitStack, site: Site, authority: Authority) -> NodeConfig:
    """Serve what stands between a site and the internet, if anything; configure its node as its user would."""
    match site.kind.outbound:
        case Outbound.HTTP_PROXY:
            port = await stack.enter_async_context(serving_http_proxy(site.gateways[0]))
            return new_config(trusted_pem=authority.pem, proxy=f"http://{site.gateway_address}:{port}")
        case Outbound.TLS_PROXY:
            company = Authority.make("lab proxy CA")
            shown = company.server_context(site.gateway_address)
            port = await stack.enter_async_context(serving_http_proxy(site.gateways[0], shown))
            return new_config(trusted_pem=authority.pem + company.pem, proxy=f"https://{site.gateway_address}:{port}")
        case Outbound.SOCKS_PROXY:
            port = await stack.enter_async_context(serving_socks(site.gateways[0]))
            login = f"{SOCKS_USER}:{quote(SOCKS_PASSWORD)}"
            return new_config(trusted_pem=authority.pem, proxy=f"socks5://{login}@{site.gateway_address}:{port}")
        case Outbound.INTERCEPTED:
            middlebox = Authority.make("lab middlebox CA")
            shown = middlebox.server_context(RELAY_NAME)
            await stack.enter_async_context(serving_interceptor(site.gateways[0], shown, authority.client_context()))
            return new_config(trusted_pem=middlebox.pem)
        case Outbound.ANY | Outbound.TCP | Outbound.HTTPS:
            return new_config(trusted_pem=authority.pem)
