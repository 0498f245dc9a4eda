"""Look after the built-in relay: probe it as clients reach it, say what is wrong, and keep the map of relays honest."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Protocol

import anyio
import structlog

from warren.domain.relay_health import Observation, RelayHealth, observe
from warren.net.derp_map import DERPMap, DERPNode
from warren.server.relay_probe import ProbeFailed, Route, probe, probe_websocket

log = structlog.get_logger()

Probe = Callable[[Route, Callable[[], ssl.SSLContext]], Awaitable[float]]
MAX_OTHERS = 3
"""Relays of other regions that are asked before we say that none answers."""


class Maps(Protocol):
    """The map in force, which regions may be left out of."""

    @property
    def whole(self) -> DERPMap:
        """The map with nothing left out."""
        ...

    def withdraw(self, region_id: int, *, withdrawn: bool) -> None:
        """Leave a region out, or put it back."""
        ...


class RelayWatch:
    """Probes one relay on a timer; `health` is what came of it."""

    def __init__(
        self,
        region_id: int,
        access_url: str,
        maps: Maps,
        accepts: Callable[[], int],
        context: Callable[[], ssl.SSLContext],
    ) -> None:
        """`accepts`: how many connections the relay has taken since it started."""
        self._region_id = region_id
        self._route = Route.from_url(access_url)
        self._access_url = access_url
        self._maps = maps
        self._accepts = accepts
        self._context = context
        self._accepted = accepts()
        self.health = RelayHealth()
        self.seconds: Mapping[str, float] = {}
        """How long the last probe took, by transport."""
        self.websocket_error = ""
        """Why the last probe by WebSocket failed, which only matters where a proxy strips the upgrade."""

    async def run(self, interval: timedelta) -> None:
        """Look at once, and every `interval` from then on."""
        while True:
            await self.look()
            await anyio.sleep(interval.total_seconds())

    async def look(self) -> None:
        """Probe, and act on it."""
        arrived = self._accepts() > self._accepted
        seconds: dict[str, float] = {}
        error = await self._try(probe, "native", seconds)
        self.websocket_error = await self._try(probe_websocket, "websocket", seconds)
        if error and not self.websocket_error:
            # Clients find that way by themselves: the relay is slower to reach, not gone.
            log.warning("relay.upgrade_refused", url=self._access_url, error=error)
            error = ""
        others = bool(error) and await self._others_answer()
        self.seconds = seconds
        self._accepted = self._accepts()  # our own probes are nobody's arrival
        self._act(observe(self.health, Observation(error, clients_arrived=arrived, others_answer=others)))

    async def _try(self, ask: Probe, transport: str, seconds: dict[str, float]) -> str:
        try:
            seconds[transport] = await ask(self._route, self._context)
        except ProbeFailed as failed:
            return str(failed)
        return ""

    async def _others_answer(self) -> bool:
        """Say whether clients would have another relay to go to."""
        asked = 0
        for number, region in self._maps.whole.regions.items():
            node = next((node for node in region.nodes if not node.stun_only), None)
            if number == self._region_id or node is None or asked == MAX_OTHERS:
                continue
            asked += 1
            try:
                await probe(_route_of(node), self._context)
            except ProbeFailed as failed:
                log.info("relay.other_failed", region=region.region_code, error=str(failed))
                continue
            return True
        return False

    def _act(self, health: RelayHealth) -> None:
        before, self.health = self.health, health
        if before.listed != health.listed:
            self._maps.withdraw(self._region_id, withdrawn=not health.listed)
        if (before.error, before.summary) != (health.error, health.summary):
            event = "relay.healthy" if not health.error else "relay.unhealthy"
            say = log.info if not health.error else log.warning if health.listed else log.error
            say(event, url=self._access_url, in_map=health.listed, summary=health.summary, error=health.error)


def _route_of(node: DERPNode) -> Route:
    host = node.ipv4 or node.host_name
    return Route(host, node.derp_port or 443, node.cert_name or node.host_name, tls=not node.force_http)
