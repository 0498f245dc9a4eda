"""Take up certificates that were renewed: their files are looked at now and then, and the next handshake shows them."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path

import anyio
import structlog

from warren._engine import InvalidConfig, TLSConfig
from warren.clock import Clock
from warren.errors import Invalid
from warren.server.certificates import TLSSettings, engine_config, server_context

log = structlog.get_logger()

CHECK_SECONDS = 60.0
_Stamp = tuple[int, int, int]


def tls_context(settings: TLSSettings, clock: Clock) -> TLSConfig | ssl.SSLContext:
    """Check certificates, and say who will serve them: the engine, or OpenSSL where only it can.

    Raises:
        Invalid: something is wrong with them; all problems are told together.
    """
    context = server_context(settings, clock.now())
    try:
        return engine_config(settings)
    except InvalidConfig as error:
        log.info("tls.served_by_openssl", reason=str(error))
        return context


async def follow(settings: TLSSettings, clock: Clock, reload: Callable[[TLSConfig | ssl.SSLContext], None]) -> None:
    """Call `reload` whenever the files have changed and are good, until cancelled; else say why they are not used."""
    seen = _stamps(settings)
    while True:
        await anyio.sleep(CHECK_SECONDS)
        if (now := _stamps(settings)) == seen:
            continue
        # Certificate and key are rarely written at one moment: what does not fit now may fit at the next look.
        seen = now
        try:
            reload(tls_context(settings, clock))
        except Invalid as error:
            problems = [f"{each.field}: {each.detail}" for each in error.violations]
            log.warning("tls.certificates_refused", problems=problems)
        else:
            log.info("tls.certificates_renewed", files=list(settings.certificates))


def _stamps(settings: TLSSettings) -> tuple[_Stamp | None, ...]:
    files = [*settings.certificates, *settings.keys, *([settings.client_ca_file] if settings.client_ca_file else [])]
    return tuple(_stamp(Path(file)) for file in files)


def _stamp(path: Path) -> _Stamp | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
