"""A provisioner daemon in a process of its own, connected to its server by a WebSocket."""

from __future__ import annotations

import fcntl
import os
import signal
import ssl
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio
import structlog
from anyio.abc import ByteStream

from warren.clock import SystemClock
from warren.errors import Conflict, WarrenError
from warren.provisioner.daemon import DaemonConfig, ProvisionerDaemon
from warren.provisioner.session import ProvisionerConfig
from warren.provisioner.workdir import Cache
from warren.rpc import websocket

log = structlog.get_logger()

HEARTBEAT_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Place:
    """Where a daemon serves, what it shows of itself there, and its name."""

    url: str
    headers: Mapping[str, str]
    tls: ssl.SSLContext | None
    name: str


def cache_of(folder: Path, name: str) -> Cache:
    """Give the cache of a daemon: its own, as it may run beside a server and other daemons."""
    return Cache(folder / "provisioners" / name)


async def run(place: Place, config: ProvisionerConfig) -> None:
    """Serve until told to stop: SIGTERM lets the job in hand finish, SIGINT cancels it, a second signal cuts it short.

    Raises:
        Unavailable: there is no Terraform; the hint says what to install.
        Forbidden, Unauthenticated: the server does not want this daemon.
        Conflict: a daemon of this name runs on this machine already.
    """
    connector = _Connector(place)
    daemon_config = DaemonConfig(place.name, config, heartbeat_seconds=HEARTBEAT_SECONDS)
    daemon = ProvisionerDaemon(daemon_config, connector.connect, SystemClock())
    with _only_one(config.cache, place.name):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_stop_on_signal, daemon, tasks.cancel_scope)
            await daemon.run()
            tasks.cancel_scope.cancel()


class _Connector:
    """Connects, and says once what is in the way, until that changes."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._said = ""

    async def connect(self) -> ByteStream:
        """Open the WebSocket."""
        place = self._place
        try:
            stream = await websocket.dial(place.url, headers=place.headers, tls=place.tls)
        except WarrenError as error:
            words = "; ".join([error.message, *(violation.detail for violation in error.violations)])
            if words != self._said:
                log.warning("server.unreachable", error=words)
            self._said = words
            raise
        self._said = ""
        log.info("server.connected", daemon=place.name)
        return stream


async def _stop_on_signal(daemon: ProvisionerDaemon, everything: anyio.CancelScope) -> None:
    stopping = False
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for number in signals:
            log.info("provisioner_daemon.signalled", signal=number.name, busy=daemon.busy)
            if stopping:
                everything.cancel()
                return
            daemon.stop(cancel_job=number is signal.SIGINT)
            stopping = True


@contextmanager
def _only_one(cache: Cache, name: str) -> Generator[None]:
    """Hold the daemon's folder: a second one of the same name would take our jobs for those of a dead one."""
    cache.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(cache.folder / "daemon.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise Conflict(f"a daemon named `{name}` runs here already", hint="give this one a --name") from error
    try:
        yield
    finally:
        os.close(descriptor)
