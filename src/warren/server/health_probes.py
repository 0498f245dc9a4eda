"""Ask the deployment how it is from outside: by its access URL, its relays and its STUN servers, as clients do.

The probes are imported when they are used, so that they do not slow the start of the server.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping, Sequence

import anyio

from warren.domain.health import Fetched
from warren.net import netcheck
from warren.net.derp_map import DERPMap
from warren.net.network_report import RelayCheck, STUNCheck

SHOWN_BYTES = 200


class HealthProbes:
    """Probes of one deployment."""

    def __init__(
        self,
        access_url: str,
        derp_map: Callable[[], DERPMap],
        relay_problems: Callable[[], Sequence[str]],
        tls: Callable[[], ssl.SSLContext],
    ) -> None:
        """`relay_problems`: what the server's own relay says of itself; nothing where it is well."""
        self._access_url, self._derp_map, self._relay_problems, self._tls = access_url, derp_map, relay_problems, tls

    async def healthz(self) -> Fetched:
        """GET `/healthz` by the access URL."""
        from warren.tunnel import probes

        try:
            status, body = await probes.fetch(self._access_url.rstrip("/") + "/healthz", tls=self._tls())
        except probes.ProbeError as error:
            return Fetched(error=error.error)
        return Fetched(status, body[:SHOWN_BYTES].decode(errors="replace"))

    async def websocket(self) -> Fetched:
        """Open a WebSocket by the access URL; the relay's is one that needs no credential."""
        from warren.tunnel import probes

        error = await probes.check_websocket(self._access_url, tls=self._tls())
        return Fetched(error=error) if error else Fetched(101)

    async def relays(self) -> Mapping[str, object]:
        """Try every relay and STUN server of the map."""
        from warren.tunnel import probes, stun_probe

        derp_map = self._derp_map()
        relays: list[RelayCheck] = []
        stun: list[STUNCheck] = []

        async def check_relays() -> None:
            relays.extend(await probes.check_relays(derp_map, tls=self._tls(), headers={}))

        async def check_stun() -> None:
            stun.extend(await stun_probe.check_stun(derp_map))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(check_relays)
            tasks.start_soon(check_stun)
        return netcheck.derp(None, derp_map, relays, stun)

    def relay_problems(self) -> Sequence[str]:
        """Say what the server's own relay says of itself."""
        return self._relay_problems()
