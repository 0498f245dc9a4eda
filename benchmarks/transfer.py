"""How fast do stock `scp` move 1 GiB over the tunnel, and `iperf3` its bytes through a forwarded port?"""

from __future__ import annotations

import hashlib
import json
import shutil
import statistics
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.figures import UPSTREAM, CannotMeasure, Figure
from benchmarks.lab import Lab, free_port, lab

NAMES = ("scp_down", "scp_up", "port_forward")
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
        yield Figure("port_forward", forwarded(place), "Mbit/s", 603, UPSTREAM)


def copy(place: Lab, config: Path, source: str, target: str) -> float:
    """Run scp; return Mbit/s."""
    started = time.perf_counter()
    subprocess.run(["scp", "-q", "-F", str(config), source, target], env=place.environment, check=True, timeout=300)
    return SIZE * 8 / 1e6 / (time.perf_counter() - started)


def forwarded(place: Lab) -> float:
    """Send to an `iperf3` of the workspace through `warren port-forward`; return the median of three, in Mbit/s."""
    if shutil.which("iperf3") is None:
        raise CannotMeasure("port_forward needs iperf3: apt-get install iperf3")
    far, near = free_port(), free_port()
    with (
        subprocess.Popen(["iperf3", "-s", "-p", str(far)], stdout=subprocess.DEVNULL) as server,
        subprocess.Popen(
            ["warren", "port-forward", "dev", "--tcp", f"{near}:{far}"],
            env=place.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as forward,
    ):
        try:
            assert forward.stdout
            while "Ready" not in (line := forward.stdout.readline()):
                if not line:
                    raise CannotMeasure("warren port-forward ended")
            return statistics.median(iperf3(near) for _ in range(3))
        finally:
            forward.terminate()
            server.terminate()


def iperf3(port: int) -> float:
    """Send for some seconds; return what arrived, in Mbit/s."""
    command = ["iperf3", "-c", "127.0.0.1", "-p", str(port), "-t", "4", "-J"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return json.loads(done.stdout)["end"]["sum_received"]["bits_per_second"] / 1e6


def checksum(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
