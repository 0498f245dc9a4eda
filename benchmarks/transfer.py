"""How fast does stock `scp` move 1 GiB over the tunnel?"""

from __future__ import annotations

import hashlib
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.figures import UPSTREAM, Figure
from benchmarks.lab import Lab, lab

NAMES = ("scp_down", "scp_up")
SIZE = 1 << 30
BLOCK = bytes(range(256)) * 4096


def run() -> Iterator[Figure]:
    """Copy up, then down, and compare checksums."""
    with lab() as place:
        place.start()
        place.login()
        place.template()
        place.workspace()
        config = place.folder / "ssh_config"
        place.run("config-ssh", "--yes", "--ssh-config-file", str(config))
        source, target, back = place.folder / "source", place.folder / "home-copy", place.folder / "back"
        with source.open("wb") as file:
            for _ in range(SIZE // len(BLOCK)):
                file.write(BLOCK)
        up = copy(place, config, str(source), f"coder.dev:{target}")
        down = copy(place, config, f"coder.dev:{target}", str(back))
        if checksum(source) != checksum(back):
            raise RuntimeError("the copy differs from its source")
        yield Figure("scp_down", down, "Mbit/s", 476, UPSTREAM)
        yield Figure("scp_up", up, "Mbit/s", 401, UPSTREAM)


def copy(place: Lab, config: Path, source: str, target: str) -> float:
    """Run scp; return Mbit/s."""
    started = time.perf_counter()
    subprocess.run(["scp", "-q", "-F", str(config), source, target], env=place.environment, check=True, timeout=300)
    return SIZE * 8 / 1e6 / (time.perf_counter() - started)


def checksum(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
