"""How many times a second can one worker list 25 workspaces?"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.client import HTTPConnection

from benchmarks.figures import UPSTREAM, Figure
from benchmarks.lab import Lab, lab

NAMES = ("api_workspaces", "api_workspaces_p99")
ROWS = 25
CONNECTIONS = 8
SECONDS = 6.0
HEADERS = {"X-Coder-Bypass-Ratelimit": "true"}


def run() -> Iterator[Figure]:
    """Make 25 stopped workspaces, then ask with 8 connections."""
    with lab() as place:
        place.start()
        place.login()
        place.template()
        for number in range(ROWS):
            place.run("create", f"w{number}", "--template", "local", "--yes", "--no-wait")
        wait_idle(place)
        for number in range(ROWS):
            place.run("stop", f"w{number}", "--yes")
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.api", str(place.port), place.token],
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        )
        rate, p99 = json.loads(done.stdout)
        yield Figure("api_workspaces", rate, "requests/s", 65, UPSTREAM)
        yield Figure("api_workspaces_p99", p99, "seconds", 0.21, UPSTREAM)


def wait_idle(place: Lab) -> None:
    """Wait until no build runs."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        workspaces = place.get(f"/workspaces?limit={ROWS}")["workspaces"]
        if all(row["latest_build"]["status"] == "running" for row in workspaces):
            return
        time.sleep(0.2)
    raise RuntimeError("the workspaces did not start")


def ask(port: int, token: str, until: float, times: list[float]) -> None:
    """Ask again and again on one connection."""
    connection = HTTPConnection("127.0.0.1", port)
    while time.perf_counter() < until:
        started = time.perf_counter()
        connection.request("GET", f"/api/v2/workspaces?limit={ROWS}", headers=HEADERS | {"Coder-Session-Token": token})
        answer = connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{answer.status}: {body[:500]!r}")
        times.append(time.perf_counter() - started)


def load(port: int, token: str) -> tuple[float, float]:
    """Return requests a second and the 99th percentile in seconds."""
    connection = HTTPConnection("127.0.0.1", port)
    connection.request("GET", f"/api/v2/workspaces?limit={ROWS}", headers=HEADERS | {"Coder-Session-Token": token})
    rows = len(json.loads(connection.getresponse().read())["workspaces"])
    if rows != ROWS:
        raise RuntimeError(f"want {ROWS} rows, got {rows}")
    times: list[float] = []
    started = time.perf_counter()
    threads = [threading.Thread(target=ask, args=(port, token, started + SECONDS, times)) for _ in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(times) / (time.perf_counter() - started), statistics.quantiles(times, n=100)[98]


if __name__ == "__main__":
    sys.stdout.write(json.dumps(load(int(sys.argv[1]), sys.argv[2])))
