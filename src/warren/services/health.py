"""The health of the deployment: what it is made of is asked, judged, and remembered for a while."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

import anyio
from psycopg import Error
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from warren.authz.policy import Action, Actor, Object
from warren.clock import Clock
from warren.domain import health as rules
from warren.domain.health import Fetched, Section, SectionName, Severity
from warren.errors import Unavailable, WarrenError
from warren.storage import deployment, provisioner_daemons
from warren.storage.provisioner_daemons import ListedDaemon

SETTINGS = "health_settings"
PINGS = 5
REPORT_SECONDS = 30.0


class Probes(Protocol):
    """What is asked of the deployment from outside, by the URL that clients use."""

    async def healthz(self) -> Fetched:
        """GET `/healthz`."""
        ...

    async def websocket(self) -> Fetched:
        """Open a WebSocket."""
        ...

    async def relays(self) -> Mapping[str, object]:
        """Try every relay and STUN server of the map; the section as `net.netcheck.derp` writes it."""
        ...

    def relay_problems(self) -> Sequence[str]:
        """Say what the server's own relay says of itself."""
        ...


@dataclass(frozen=True, slots=True)
class HealthSettings:
    """How health is judged."""

    access_url: str
    version: str
    refresh: timedelta
    database_threshold: timedelta


@dataclass(frozen=True, slots=True)
class HealthReport:
    """How the deployment was at a time."""

    at: datetime
    version: str
    sections: Mapping[SectionName, Section]

    @property
    def severity(self) -> Severity:
        """How bad it is."""
        return rules.overall(self.sections.values())

    @property
    def healthy(self) -> bool:
        """Whether everything works that is not dismissed."""
        return self.severity is not Severity.ERROR


class Health:
    """Use cases around the deployment's health."""

    def __init__(self, pool: AsyncConnectionPool, clock: Clock, settings: HealthSettings, probes: Probes) -> None:
        self._pool, self._clock, self._settings, self._probes = pool, clock, settings, probes
        self._lock = anyio.Lock()
        self._last: HealthReport | None = None

    async def report(self, actor: Actor, *, force: bool, show: Callable[[ListedDaemon], object]) -> HealthReport:
        """Report; a report is good for a while unless `force`. `show` shapes a daemon as clients see it.

        Raises:
            Unavailable: it takes too long.
        """
        actor.allow(Action.READ, Object("debug_info"))
        async with self._lock:  # who asks meanwhile gets the same report
            fresh = self._last is not None and self._clock.now() - self._last.at < self._settings.refresh
            if not fresh or force or self._last is None:
                self._last = await self._measure(show)
            return HealthReport(
                self._last.at, self._last.version, rules.dismiss(self._last.sections, await self.dismissed(actor))
            )

    async def dismissed(self, actor: Actor) -> Sequence[SectionName]:
        """List the sections that an operator does not want to hear of."""
        actor.allow(Action.READ, Object("debug_info"))
        async with self._pool.connection() as db:
            stored = await deployment.read_config(db, SETTINGS)
        names = stored if isinstance(stored, list) else []  # pyright: ignore[reportUnknownVariableType]  our own JSON
        return [SectionName(name) for name in names if name in set(SectionName)]  # pyright: ignore[reportUnknownVariableType]  checked here

    async def dismiss(self, actor: Actor, names: Sequence[SectionName]) -> bool:
        """Choose those sections anew; say whether that changed anything."""
        actor.allow(Action.UPDATE, Object("deployment_config"))
        wanted = sorted(set(names))
        if sorted(await self.dismissed(actor)) == wanted:
            return False
        async with self._pool.connection() as db:
            await deployment.write_config(db, SETTINGS, [name.value for name in wanted])
        return True

    async def _measure(self, show: Callable[[ListedDaemon], object]) -> HealthReport:
        found: dict[SectionName, Section] = {SectionName.WORKSPACE_PROXY: _NO_PROXIES}
        at = self._clock.now()

        async def put(name: SectionName, measured: Awaitable[Section]) -> None:
            found[name] = await measured

        measurements: Mapping[SectionName, Awaitable[Section]] = {
            SectionName.ACCESS_URL: self._access_url(),
            SectionName.WEBSOCKET: self._websocket(),
            SectionName.DERP: self._relays(),
            SectionName.DATABASE: self._database(),
            SectionName.PROVISIONER_DAEMONS: self._daemons(show),
        }
        try:
            with anyio.fail_after(REPORT_SECONDS):
                async with anyio.create_task_group() as tasks:
                    for name, measured in measurements.items():
                        tasks.start_soon(put, name, measured)
        except TimeoutError as error:
            raise Unavailable("Healthcheck timed out.") from error
        return HealthReport(at, self._settings.version, {name: found[name] for name in SectionName})

    async def _access_url(self) -> Section:
        return rules.access_url(self._settings.access_url, await self._probes.healthz())

    async def _websocket(self) -> Section:
        return rules.websocket(await self._probes.websocket())

    async def _relays(self) -> Section:
        return rules.relays(await self._probes.relays(), self._probes.relay_problems())

    async def _database(self) -> Section:
        latencies: list[timedelta] = []
        try:
            async with self._pool.connection() as db:
                for _ in range(PINGS):
                    began = time.perf_counter()
                    await db.execute("SELECT 1")
                    latencies.append(timedelta(seconds=time.perf_counter() - began))
        except (WarrenError, PoolTimeout, Error, OSError) as error:
            return rules.database((), self._settings.database_threshold, str(error))
        return rules.database(latencies, self._settings.database_threshold, "")

    async def _daemons(self, show: Callable[[ListedDaemon], object]) -> Section:
        try:
            async with self._pool.connection() as db:
                live = await provisioner_daemons.list_live(db)
        except (WarrenError, PoolTimeout, Error, OSError) as error:
            return Section(Severity.ERROR, (), f"EPD01: {error}", {"items": []})
        return rules.provisioner_daemons([show(daemon) for daemon in live])


_NO_PROXIES = Section(details={"workspace_proxies": {"regions": []}})
