"""Ask the apps of a workspace whether they are well."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit
from uuid import UUID

import anyio
import anyio.to_thread
import structlog

from warren.agent.manifest import App, AppHealth
from warren.errors import Invalid
from warren.sdk import connecting
from warren.sdk.proxies import Scheme

log = structlog.get_logger()

_SERVER_ERROR = 500
_MARGIN_SECONDS = 0.001
"""A probe ends this much before the next one begins."""


class HealthTracker:
    """The health of one app, from its probes: pure."""

    def __init__(self, app: App) -> None:
        self._threshold = app.check_threshold
        self._failures = 0
        self.health = app.health

    def probed(self, *, well: bool) -> None:
        """Take in a probe: one success heals, more than `threshold` failures in a row make unhealthy."""
        if well:
            self._failures = 0
            self.health = AppHealth.HEALTHY
            return
        self._failures += 1
        if self._failures > self._threshold:
            self.health = AppHealth.UNHEALTHY


class AppHealthMonitor:
    """Probes the apps on their intervals; a changed picture is kept until it is taken."""

    def __init__(self) -> None:
        self._trackers: dict[UUID, HealthTracker] = {}
        self._reported: dict[UUID, AppHealth] = {}

    async def run(self, apps: Sequence[App]) -> None:
        """Probe until cancelled."""
        checked = [app for app in apps if app.checked]
        self._trackers = {app.app_id: HealthTracker(app) for app in checked}
        self._reported = self._picture()
        async with anyio.create_task_group() as tasks:
            for app in checked:
                tasks.start_soon(self._watch, app, self._trackers[app.app_id])

    def changed(self) -> Mapping[UUID, AppHealth] | None:
        """Return the whole picture when it differs from what was last confirmed."""
        picture = self._picture()
        return None if picture == self._reported else picture

    def confirm(self, picture: Mapping[UUID, AppHealth]) -> None:
        """Note that this picture was received."""
        self._reported = dict(picture)

    def _picture(self) -> dict[UUID, AppHealth]:
        return {app_id: tracker.health for app_id, tracker in self._trackers.items()}

    async def _watch(self, app: App, tracker: HealthTracker) -> None:
        interval_seconds = app.check_interval.total_seconds()
        while True:
            await anyio.sleep(interval_seconds)
            limit_seconds = max(interval_seconds - _MARGIN_SECONDS, _MARGIN_SECONDS)
            well = await anyio.to_thread.run_sync(probe, app.check_url, limit_seconds)
            tracker.probed(well=well)
            log.debug("app.probed", app=app.slug, well=well)


def probe(url: str, limit_seconds: float) -> bool:
    """Ask `url`; any answer that is not a server error is well."""
    import http.client
    import urllib.error
    import urllib.request

    try:
        # By its own rules urllib would go through a proxy even to this machine.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler(_proxies(url)))
        with opener.open(url, timeout=limit_seconds) as answer:
            return answer.status < _SERVER_ERROR
    except urllib.error.HTTPError as error:
        with error:
            return error.code < _SERVER_ERROR
    except (OSError, ValueError, Invalid, http.client.HTTPException):
        return False


def _proxies(url: str) -> dict[str, str]:
    """Name the proxy for a URL as urllib takes it, which knows HTTP only; an app behind another is asked directly."""
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    proxy = connecting.proxies().find(parts.hostname or "", parts.port or (443 if secure else 80), secure=secure)
    return {parts.scheme: proxy.url} if proxy is not None and proxy.scheme is Scheme.HTTP else {}
