"""How long from `warren create` to a connected agent, and where does a build's time go?"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Iterator
from datetime import datetime

from benchmarks.figures import BAR, UPSTREAM, Figure
from benchmarks.lab import Lab, lab

NAMES = ("create_to_connected", "build_job", "build_overhead")
ROUNDS = 5


def run() -> Iterator[Figure]:
    """Create workspaces one after the other; then stop and start one."""
    with lab() as place:
        place.start()
        place.login()
        place.template()
        connected = [create_to_connected(place, f"w{number}") for number in range(ROUNDS)]
        yield Figure("create_to_connected", statistics.median(connected), "seconds", 1.85, UPSTREAM)
        jobs, overheads = restart_often(place, "w0")
        yield Figure("build_job", statistics.median(jobs), "seconds", 0.83, UPSTREAM)
        yield Figure("build_overhead", statistics.median(overheads), "seconds", 0.15, BAR)
        for number in range(ROUNDS):
            place.run("delete", f"w{number}", "--yes")


def create_to_connected(place: Lab, name: str) -> float:
    """Seconds from the command to an agent that the server calls connected."""
    started = time.perf_counter()
    place.run("create", name, "--template", "local", "--yes")
    while True:
        workspace = place.get(f"/users/me/workspace/{name}")
        agents = [agent for resource in workspace["latest_build"]["resources"] for agent in resource.get("agents", [])]
        if agents and all(agent["status"] == "connected" for agent in agents):
            return time.perf_counter() - started
        if time.perf_counter() - started > 60:
            raise RuntimeError(f"the agent of {name} did not connect: {json.dumps(agents)[:2000]}")
        time.sleep(0.005)


def restart_often(place: Lab, name: str) -> tuple[list[float], list[float]]:
    """Durations of start jobs, and the part of each that no process of Terraform accounts for."""
    jobs: list[float] = []
    overheads: list[float] = []
    for _ in range(ROUNDS):
        place.run("stop", name, "--yes")
        place.run("start", name, "--yes")
        build = place.get(f"/users/me/workspace/{name}")["latest_build"]
        job = seconds_between(build["job"]["started_at"], build["job"]["completed_at"])
        timings = place.get(f"/workspacebuilds/{build['id']}/timings")["provisioner_timings"]
        terraform = covered(
            [(seconds(row["started_at"]), seconds(row["ended_at"])) for row in timings if row["action"] == "terraform"]
        )
        jobs.append(job)
        overheads.append(job - terraform)
    return jobs, overheads


def covered(intervals: list[tuple[float, float]]) -> float:
    """Length of the union of intervals."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted(intervals):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total


def seconds(text: str) -> float:
    """A time of the API as seconds."""
    return datetime.fromisoformat(text).timestamp()


def seconds_between(start: str, end: str) -> float:
    """Seconds between two times of the API."""
    return seconds(end) - seconds(start)
