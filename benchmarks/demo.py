"""How long does `make demo` take with warm caches, and a second time?"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.ports import free_port

from benchmarks.figures import BAR, Figure
from benchmarks.lab import CHECKOUT

NAMES = ("demo_first", "demo_again")


def run() -> Iterator[Figure]:
    """Run the demo twice in a folder of its own."""
    folder = Path(tempfile.mkdtemp(prefix="warren-demo-"))
    environment = os.environ | {"DEMO_DIR": str(folder / "state"), "PORT": str(free_port())}
    try:
        yield Figure("demo_first", make("demo", environment), "seconds", 60, BAR)
        yield Figure("demo_again", make("demo", environment), "seconds", 15, BAR)
    finally:
        make("demo-stop", environment)
        shutil.rmtree(folder, ignore_errors=True)


def make(target: str, environment: dict[str, str]) -> float:
    """Run a target of the Makefile; return seconds."""
    started = time.perf_counter()
    subprocess.run(["make", target], cwd=CHECKOUT, env=environment, check=True, stdout=subprocess.DEVNULL, timeout=600)
    return time.perf_counter() - started
