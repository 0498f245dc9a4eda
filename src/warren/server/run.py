"""A server from start to end. The order of shutdown is the order of the contexts, from the innermost out."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import structlog

from warren.api.app import complete_app
from warren.api.parts import Parts
from warren.clock import SystemClock
from warren.metrics import CONTENT_TYPE, Metrics
from warren.relay.stun import StunServer
from warren.server import purge, relay_map
from warren.server.certificate_watch import follow, tls_context
from warren.server.certificates import TLSSettings, client_context
from warren.server.compose import VERSION, compose, control_plane_config
from warren.server.control_plane import open_control_plane
from warren.server.fleet_metrics import FleetMetrics
from warren.server.health_probes import HealthProbes
from warren.server.listeners import bind, serving
from warren.server.postgres import Postgres
from warren.services.deployment import prepare
from warren.settings import Loaded, Settings
from warren.storage.db import connected, open_database
from warren.storage.migrate import migrate, migrations
from warren.storage.notify import Notifier

if TYPE_CHECKING:
    from warren.server.relay_watch import Maps, RelayWatch

log = structlog.get_logger()

RESTART_SECONDS = 2.0  # what clients of the relay are told
DRAIN_SECONDS = 1.0  # how long the relay may take to send what waits for clients


@dataclass(frozen=True, slots=True)
class Started:
    """A server that serves: where, and the database behind it."""

    urls: tuple[str, ...]
    access_url: str
    database_url: str
    parts: Parts

    @property
    def url(self) -> str:
        """The first of the URLs."""
        return self.urls[0]


@asynccontextmanager
async def running(loaded: Loaded, config_folder: Path) -> AsyncGenerator[Started]:
    """Have a server running for as long as the context is entered.

    Raises:
        WarrenError: something it needs is not there; the message says what.
    """
    settings = loaded.settings
    clock = SystemClock()
    context = tls_context(_tls(settings), clock) if settings.tls_enable else None
    async with AsyncExitStack() as stack:
        http = None
        if address := settings.address or settings.http_address:
            http = bind(address)
            stack.callback(http.close)
        tls = bind(settings.tls_address, "--tls-address") if context is not None else None
        if tls is not None:
            stack.callback(tls.close)
        listening = http or tls
        assert listening is not None  # the settings were checked
        urls = [f"{scheme}://{_host(it.getsockname())}" for scheme, it in (("http", http), ("https", tls)) if it]
        url = urls[0]
        access_url = settings.access_url or url
        database_url = await stack.enter_async_context(_database_url(settings, config_folder))
        await _migrate(database_url)
        database = await stack.enter_async_context(
            open_database(database_url, max_size=max(2, settings.postgres_conn_max_open))
        )
        identity = await prepare(database, clock)
        notifier = Notifier(database_url)
        tasks = await stack.enter_async_context(anyio.create_task_group())
        stack.callback(tasks.cancel_scope.cancel)
        await tasks.start(notifier.run)
        tasks.start_soon(purge.run, database, clock, _retention(settings))
        metrics = Metrics(VERSION)
        relaying = _Relaying(settings, identity.derp_private_key, metrics)
        protocol = stack.enter_context(relaying)
        stun_port = await stack.enter_async_context(_stun(settings, listening.getsockname()[0]))
        config = control_plane_config(settings, access_url, os.environ, stun_port=stun_port)
        plane = await stack.enter_async_context(open_control_plane(config, database, notifier, clock))
        maps = plane.coordination.derp_maps
        tasks.start_soon(relay_map.follow, settings, access_url, stun_port, config.derp_map, maps.replace)
        probes = HealthProbes(access_url, lambda: maps.whole, relaying.problems, lambda: client_context(_tls(settings)))
        parts = compose(loaded, access_url, identity.id, plane, database, notifier, clock, probes)
        if settings.prometheus_enable:
            fleet = FleetMetrics(metrics, database, clock, agent_labels=_agent_labels(settings))
            await stack.enter_async_context(serving(_metrics_app(fleet), bind(settings.prometheus_address)))
        app = complete_app(parts, metrics.observe)
        if http is not None:
            await stack.enter_async_context(serving(app, http, protocol=protocol))
        if tls is not None:
            server = await stack.enter_async_context(serving(app, tls, protocol=protocol, tls=context))
            tasks.start_soon(follow, _tls(settings), clock, server.reload)
        plane.serving.set()
        await stack.enter_async_context(relaying.watched(access_url, plane.coordination.derp_maps))
        log.info("server.started", url=url, access_url=access_url, version=VERSION)
        try:
            yield Started(tuple(urls), access_url, database_url, parts)
        finally:
            log.info("server.stopping")
            relaying.announce_stop()


def _host(name: Any) -> str:
    """Write the address of a socket, whose shape depends on its family."""
    host, port = name[0], name[1]
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
    return f"{host}:{port}"


@asynccontextmanager
async def _database_url(settings: Settings, config_folder: Path) -> AsyncGenerator[str]:
    """Give the database: the one that was named, or our own."""
    if settings.postgres_url:
        yield str(settings.postgres_url)
    elif settings.ephemeral:
        with tempfile.TemporaryDirectory(prefix="warren-") as folder:
            async with Postgres(Path(folder) / "postgres").running() as postgres:
                yield postgres.url()
    else:
        async with Postgres(config_folder / "postgres").running() as postgres:
            yield postgres.url()


async def _migrate(url: str) -> None:
    async with connected(url, timeout_seconds=10) as connection:
        await migrate(connection, migrations())


def _retention(settings: Settings) -> purge.Retention:
    return purge.Retention(
        api_keys=settings.api_keys_retention,
        connection_logs=settings.connection_logs_retention,
        agent_logs=settings.workspace_agent_logs_retention,
    )


def _agent_labels(settings: Settings) -> Sequence[str] | None:
    """Say by what statistics of agents are told apart; None where they are not exported."""
    return settings.prometheus_aggregate_agent_stats_by if settings.prometheus_collect_agent_stats else None


@asynccontextmanager
async def _stun(settings: Settings, http_host: str) -> AsyncGenerator[int]:
    """Serve STUN, and give its port; 0 when there is none. A port that is taken is warned of, and lived without."""
    host, _, port = settings.stun_address.rpartition(":")
    if not settings.stun_address or not settings.derp_server_enable or "disable" in settings.derp_server_stun_addresses:
        yield 0
        return
    everywhere = http_host in ("0.0.0.0", "::")  # noqa: S104  compared, not bound
    async with StunServer.open(int(port), host.strip("[]") or ("" if everywhere else http_host)) as server:
        yield server.port


class _Relaying:
    """The relay inside of this server, for as long as it serves."""

    def __init__(self, settings: Settings, private_key: bytes, metrics: Metrics) -> None:
        self._settings = settings
        self._private_key = private_key
        self._metrics = metrics
        self._relay: Any = None  # the engine's class, imported only where a relay is wanted
        self._watch: RelayWatch | None = None

    def __enter__(self) -> Any:
        """Give the HTTP protocol that hands relay connections over."""
        if not self._settings.derp_server_enable:
            return "httptools"
        from warren._engine import Relay
        from warren.relay.server import relay_protocol

        self._relay = Relay(self._private_key)
        self._metrics.watch_relay(self._relay.stats)
        return relay_protocol(self._relay)

    @asynccontextmanager
    async def watched(self, access_url: str, maps: Maps) -> AsyncGenerator[None]:
        """Probe the relay by the URL that clients use, for as long as the context is entered."""
        settings = self._settings
        interval = settings.derp_server_probe_interval
        if self._relay is None or not interval:
            yield
            return
        from warren.server.relay_watch import RelayWatch

        self._watch = watch = RelayWatch(
            settings.derp_server_region_id,
            access_url,
            maps,
            lambda: self._relay.stats().accepts,
            lambda: client_context(_tls(settings)),
        )
        self._metrics.watch_relay_health(watch)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch.run, interval)
            yield
            tasks.cancel_scope.cancel()

    def problems(self) -> Sequence[str]:
        """Say what is wrong with the relay, as its probes found it."""
        if self._watch is None or not self._watch.health.error:
            return ()
        return (self._watch.health.summary,)

    def __exit__(self, *_: object) -> None:
        """Close, after what waits for clients."""
        if self._relay is not None:
            self._relay.close(drain_seconds=DRAIN_SECONDS)

    def announce_stop(self) -> None:
        """Tell clients when to come back; those that have another relay move there while this one still works."""
        if self._relay is not None:
            self._relay.announce_restart(RESTART_SECONDS)


def _tls(settings: Settings) -> TLSSettings:
    return TLSSettings(
        settings.tls_cert_file,
        settings.tls_key_file,
        settings.tls_min_version,
        settings.tls_ciphers,
        settings.tls_client_ca_file,
        settings.tls_client_auth,
    )


def _metrics_app(metrics: FleetMetrics) -> Callable[..., Any]:
    """Make the tiny ASGI application that answers every request with the metrics."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        del receive
        if scope["type"] == "http":
            body = await metrics.text()
            headers = [(b"content-type", CONTENT_TYPE.encode())]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": body})

    return app


async def serve_until_signal(loaded: Loaded, config_folder: Path, announce: Callable[[Started], None]) -> None:
    """Run a server until SIGTERM or SIGINT; a second signal ends the process at once."""
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with running(loaded, config_folder) as started:
            announce(started)
            async for received in signals:
                log.info("server.signalled", signal=received.name)
                break
            # From now on the default: whoever asks twice does not want to wait.
            signal.signal(signal.SIGTERM, _leave)
            signal.signal(signal.SIGINT, _leave)


def _leave(number: int, frame: object) -> None:
    del number, frame
    os._exit(1)
