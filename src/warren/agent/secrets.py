"""Put the owner's secrets where the manifest wants them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import structlog

from warren.agent.expansion import expand_home
from warren.agent.manifest import Secret

log = structlog.get_logger()


def write_files(secrets: Iterable[Secret], home: str) -> None:
    """Write the secrets that are files; one that fails is logged. The later of two for one path wins."""
    for secret in secrets:
        if not secret.path:
            continue
        path = Path(home, expand_home(secret.path, home))
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor, made with its mode
                file.write(secret.value)
        except OSError as error:
            log.warning("secret.failed", path=str(path), error=str(error))
