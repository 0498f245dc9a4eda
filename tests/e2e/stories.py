"""What the stories about faults share: templates that misbehave, commands that may fail, requests, waiting."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO

import httpx2
from benchmarks.lab import Lab

FIRST = 'resource "terraform_data" "first" {\n  input = "made"\n}\n'


def second(command: str) -> str:
    """Make a template that makes one thing, and then runs a command to make another."""
    return FIRST + (
        'resource "terraform_data" "second" {\n'
        "  input = terraform_data.first.output\n"
        '  provisioner "local-exec" {\n'
        f'    command = "{command}"\n'
        "  }\n"
        "}\n"
    )


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a command ended."""

    status: int
    stdout: str
    stderr: str


def warren(place: Lab, *words: str, seconds: float = 50, text: str = "") -> Outcome:
    """Run a command of ours that may fail."""
    done = subprocess.run(
        ["warren", *words],
        env=place.environment,
        input=text,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


def push(place: Lab, name: str, source: str, *, folder: str = "") -> Outcome:
    """Push a template of one file."""
    home = place.folder / f"template-{folder or name}"
    home.mkdir(exist_ok=True)
    (home / "main.tf").write_text(source)
    return warren(place, "templates", "push", name, "--directory", str(home), "--yes", "--ignore-lockfile")


def request(place: Lab, method: str, path: str, *, body: object = None, seconds: float = 10) -> httpx2.Response:
    """Ask the API as the first user."""
    headers = {"Coder-Session-Token": place.token}
    return httpx2.request(method, f"{place.url}/api/v2{path}", headers=headers, json=body, timeout=seconds)


def upload(place: Lab, content: bytes, kind: str = "application/x-tar") -> httpx2.Response:
    """Upload an archive as the first user."""
    headers = {"Coder-Session-Token": place.token, "Content-Type": kind, "X-Coder-Bypass-Ratelimit": "true"}
    return httpx2.post(f"{place.url}/api/v2/files", headers=headers, content=content, timeout=20)


def status(place: Lab, name: str) -> str:
    """Read the state of a workspace's latest build."""
    return request(place, "GET", f"/users/me/workspace/{name}").json()["latest_build"]["status"]


def agent_status(place: Lab, name: str = "dev") -> str:
    """Read the state of a workspace's only agent."""
    workspace = request(place, "GET", f"/users/me/workspace/{name}").json()
    found: list[str] = [
        agent["status"] for each in workspace["latest_build"]["resources"] for agent in each.get("agents") or ()
    ]
    return found[0]


def wait(condition: Callable[[], bool], problem: str, seconds: float = 15) -> float:
    """Look until a condition holds; return how long it took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, problem
        time.sleep(0.05)
    return time.monotonic() - began


class Session:
    """An open `warren ssh` whose command gives back each line."""

    def __init__(self, process: subprocess.Popen[str], stdin: IO[str], stdout: IO[str]) -> None:
        self._process, self._stdin, self._stdout = process, stdin, stdout

    def says(self, text: str) -> None:
        """Send a line through the tunnel, and see it come back."""
        self._stdin.write(f"{text}\n")
        self._stdin.flush()
        assert self._stdout.readline() == f"{text}\n"

    def ends(self) -> int:
        """End it as a user does; return the exit code."""
        self._stdin.close()
        return self._process.wait(20)


@contextmanager
def session(place: Lab, *flags: str) -> Generator[Session]:
    """Have a session open in workspace `dev`."""
    process = subprocess.Popen(
        ["warren", *flags, "ssh", "dev", "--", "cat"],
        env=place.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        bufsize=1,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        opened = Session(process, process.stdin, process.stdout)
        opened.says("open")
        yield opened
    finally:
        process.kill()
        process.wait(10)
        process.stdin.close()
        process.stdout.close()
