"""The map of relays that this server gives out: its own region and the operator's map, read again on a timer."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
import msgspec
import structlog

from warren.errors import NOT_JSON, Invalid
from warren.net import derp_map
from warren.net.derp_map import DERPMap, EmbeddedRegion
from warren.sdk import downloads

if TYPE_CHECKING:
    from datetime import timedelta

    from warren.settings import Settings

log = structlog.get_logger()

FETCH_SECONDS = 10.0
MAX_MAP_BYTES = 4 << 20


def build(settings: Settings, access_url: str, stun_port: int) -> DERPMap:
    """Read the operator's map, where there is one, and build the one to give out.

    Raises:
        Invalid: it cannot be read, is no such map, or leaves no relay; the message says where it was looked for.
    """
    embedded = None
    if settings.derp_server_enable:
        embedded = EmbeddedRegion(
            access_url=access_url,
            region_id=settings.derp_server_region_id,
            region_code=settings.derp_server_region_code,
            region_name=settings.derp_server_region_name,
            stun_port=stun_port or derp_map.NO_STUN,
        )
    loaded_from = settings.derp_config_path or settings.derp_config_url
    built = derp_map.build(
        embedded,
        stun_addresses=settings.derp_server_stun_addresses,
        loaded=load(settings.derp_config_path, settings.derp_config_url) if loaded_from else None,
        loaded_from=loaded_from,
        block_direct=settings.block_direct_connections,
    )
    if not built.regions:
        log.warning(
            "relay_map.empty", hint="no workspace can be reached: use --derp-server-enable or --derp-config-url"
        )
    return built


async def follow(
    settings: Settings, access_url: str, stun_port: int, first: DERPMap, use: Callable[[DERPMap], None]
) -> None:
    """Read the operator's map again and again, until cancelled; `use` what is new, keep the last good one."""
    interval: timedelta = settings.derp_config_interval
    if not (settings.derp_config_path or settings.derp_config_url) or not interval:
        return
    current, problem = first, ""
    while True:
        await anyio.sleep(interval.total_seconds())
        try:
            # Reading waits for a disk or a server. What has begun is awaited: it has a deadline of its own.
            found = await anyio.to_thread.run_sync(partial(build, settings, access_url, stun_port))
        except Invalid as error:
            if str(error) != problem:
                log.warning("relay_map.kept", reason=str(error), hint="clients go on with the map they have")
            problem = str(error)
            continue
        if problem:
            log.info("relay_map.readable")
        problem = ""
        if not derp_map.same(found, current) or found.region_score != current.region_score:
            log.info("relay_map.changed", regions=sorted(found.regions))
            current = found
            use(found)


def load(path: str, url: str) -> DERPMap:
    """Read the operator's own map of relays.

    Raises:
        Invalid: it cannot be read, or is no such map; the message says where it was looked for.
    """
    try:
        document = Path(path).read_bytes() if path else _fetch(url)
        found = _parse(document)
    except (OSError, downloads.DownloadError, Invalid, *NOT_JSON) as error:
        raise Invalid(
            f"cannot use the map of relays in {path or url}: {error}",
            hint="check --derp-config-path or --derp-config-url",
        ) from error
    return found


def _parse(document: bytes) -> DERPMap:
    if len(document) > MAX_MAP_BYTES:
        raise Invalid(f"it is longer than {MAX_MAP_BYTES} bytes")
    found = derp_map.parse(msgspec.json.decode(document))
    derp_map.check(found)
    return found


def _fetch(url: str) -> bytes:
    return downloads.fetch(url, max_bytes=MAX_MAP_BYTES, patience_seconds=FETCH_SECONDS)
