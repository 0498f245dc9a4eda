"""What users see when parts of a deployment go away: the server, its database, an agent, the room on the disk."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from benchmarks.lab import CHECKOUT, Lab, lab

from tests.e2e.stories import agent_status, push, request, second, session, wait, warren
from warren.server.postgres import Postgres

RELAYED = "--disable-direct-connections"


class Database:
    """A PostgreSQL of the operator's, which can be stopped."""

    def __init__(self, portal: BlockingPortal, folder: Path) -> None:
        self._portal, self._postgres = portal, Postgres(folder)
        self._running: AbstractContextManager[object] | None = None

    def start(self) -> str:
        """Start it; return its address."""
        self._running = self._portal.wrap_async_context_manager(self._postgres.running())
        self._running.__enter__()
        return self._postgres.url()

    def stop(self) -> None:
        """Stop it, as its operator would."""
        if self._running is not None:
            self._running.__exit__(None, None, None)
            self._running = None


@dataclass(frozen=True, slots=True)
class Deployment:
    """A server with workspace `dev`, on a database that is not its own."""

    place: Lab
    database: Database
    database_url: str

    def start(self) -> float:
        """Start the server; return seconds to healthy."""
        return self.place.start("--postgres-url", self.database_url)


@pytest.fixture(scope="module")
def deployed() -> Generator[Deployment]:
    folder = Path(tempfile.mkdtemp(prefix="warren-pg-", dir="/tmp"))  # a short path: it holds a socket
    with start_blocking_portal() as portal:
        database = Database(portal, folder)
        url = database.start()
        try:
            with lab() as place:
                made = Deployment(place, database, url)
                made.start()
                place.login()
                place.template()
                place.workspace()
                yield made
        finally:
            database.stop()
            shutil.rmtree(folder, ignore_errors=True)


def test_a_database_that_is_away_is_told_and_sessions_go_on(deployed: Deployment) -> None:
    place = deployed.place
    with session(place) as direct, session(place, RELAYED) as relayed:
        deployed.database.stop()
        for number in range(5):
            began = time.monotonic()
            answer = request(place, "GET", "/workspaces")
            assert time.monotonic() - began < 10
            assert answer.status_code == 503
            assert answer.json()["message"] == "The database does not answer."
            assert httpx2.get(f"{place.url}/healthz").status_code == 200
            direct.says(f"direct {number}")
            relayed.says(f"relayed {number}")
        refused = warren(place, "list")
        assert refused.status == 1
        assert "error: The database does not answer." in refused.stderr

        deployed.database.start()
        wait(lambda: request(place, "GET", "/workspaces").status_code == 200, "the API did not recover")
        direct.says("after")
        relayed.says("after")
        assert (direct.ends(), relayed.ends()) == (0, 0)
    wait(lambda: agent_status(place) == "connected", "the agent is not seen any more")
    assert warren(place, "ssh", "dev", "--", "echo new").stdout == "new\n"
    assert warren(place, "restart", "dev", "--yes").status == 0
    assert warren(place, "ssh", "dev", "--", "echo newer").stdout == "newer\n"


@contextmanager
def following(place: Lab, *words: str) -> Generator[subprocess.Popen[str]]:
    """Run a command beside what we do."""
    process = subprocess.Popen(
        ["warren", *words],
        env=place.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    try:
        yield process
    finally:
        process.kill()
        process.wait(10)
        process.stdout.close()


@dataclass(frozen=True, slots=True)
class Remains:
    """How an agent was started, so that it can be again."""

    command: list[str]
    environment: dict[str, str]
    folder: str

    @classmethod
    def of(cls, pid: int) -> Remains:
        proc = Path(f"/proc/{pid}")
        words = [word.decode() for word in (proc / "cmdline").read_bytes().split(b"\0") if word]
        pairs = [pair.decode().partition("=") for pair in (proc / "environ").read_bytes().split(b"\0") if pair]
        return cls(words, {name: value for name, _, value in pairs}, str((proc / "cwd").readlink()))

    @contextmanager
    def alive(self, log: Path) -> Generator[None]:
        """Run it until the end of the block."""
        own = self.environment | {"CODER_AGENT_LOG_DIR": str(log.parent)}
        with log.open("wb") as output:
            process = subprocess.Popen(self.command, env=own, cwd=self.folder, stdout=output, stderr=output)
        try:
            yield
        finally:
            process.terminate()
            process.wait(15)


def test_an_agent_that_is_killed_is_reported_and_may_come_back(deployed: Deployment, tmp_path: Path) -> None:
    place = deployed.place
    wait(lambda: agent_status(place) == "connected", "the agent is not connected")
    (pid,) = place.agent_pids()
    remains = Remains.of(pid)
    os.kill(pid, signal.SIGKILL)
    wait(lambda: agent_status(place) == "disconnected", "the loss was not reported", seconds=30)

    with following(place, "ssh", "dev", "--", "echo back") as waiting:
        assert waiting.stdout is not None
        line = waiting.stdout.readline()
        assert "agent lost connection; waiting for it to come back" in line
        assert "`warren restart`" in line
        with remains.alive(tmp_path / "agent.log"):
            output, _ = waiting.communicate(timeout=20)
            assert (waiting.returncode, output) == (0, "back\n")
            assert agent_status(place) == "connected"
    assert warren(place, "restart", "dev", "--yes").status == 0
    assert warren(place, "ssh", "dev", "--", "echo anew").stdout == "anew\n"


def test_an_agent_of_an_older_build_is_refused_and_disturbs_nobody(deployed: Deployment, tmp_path: Path) -> None:
    place = deployed.place
    wait(lambda: agent_status(place) == "connected", "the agent is not connected")
    (pid,) = place.agent_pids()
    old = Remains.of(pid)
    assert warren(place, "restart", "dev", "--yes").status == 0
    assert warren(place, "ssh", "dev", "--", "true").status == 0
    log = tmp_path / "old.log"
    with session(place) as opened, old.alive(log):
        wait(lambda: "Workspace agent not authorized." in log.read_text(), "the old agent was not refused")
        assert "this agent is invalid" in log.read_text()
        opened.says("undisturbed")
        assert warren(place, "ssh", "dev", "--", "echo the new one").stdout == "the new one\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_sessions_outlive_the_server(deployed: Deployment, number: signal.Signals) -> None:
    place = deployed.place
    with session(place) as direct, session(place, RELAYED) as relayed:
        assert place.process is not None
        place.process.send_signal(number)
        assert place.process.wait(20) == (0 if number is signal.SIGTERM else -number)
        direct.says("without a server")
        refused = warren(place, "list")
        assert f"error: cannot reach {place.url}" in refused.stderr
        assert "hint: is the server running" in refused.stderr

        deployed.start()
        direct.says("with the next")
        relayed.says("with the next")
        assert (direct.ends(), relayed.ends()) == (0, 0)
    wait(lambda: agent_status(place) == "connected", "the agent did not come back")
    assert warren(place, "ssh", "dev", "--", "echo new").stdout == "new\n"


def test_a_server_killed_in_mid_build_says_so_and_builds_again_soon(deployed: Deployment) -> None:
    place = deployed.place
    began = place.folder / "apply-began"
    assert push(place, "slow", second(f"[ -e {began} ] || {{ touch {began}; exec sleep 60; }}")).status == 0
    with following(place, "create", "work", "--template", "slow", "--yes") as create:
        wait(began.exists, "the apply did not begin")
        assert place.process is not None
        place.process.kill()
        place.process.wait(10)
        started = time.monotonic()
        deployed.start()
        output, _ = create.communicate(timeout=40)
    assert create.returncode == 1
    assert "the server that ran it was stopped" in output
    assert "hint: what was made is kept: warren start work tries again" in output

    assert '"name": "first"' in warren(place, "state", "pull", "work").stdout
    again = warren(place, "start", "work", "--yes")
    assert again.status == 0, again.stderr
    assert time.monotonic() - started < 30  # 15 s, and what a busy machine adds
    assert "terraform_data.first: Creating" not in again.stderr  # it was made before
    assert warren(place, "delete", "work", "--yes").status == 0


FULL_DISK = """
import subprocess, sys
from pathlib import Path
from benchmarks.lab import Lab
from tests.e2e.stories import FIRST, push, warren

folder = Path(sys.argv[1])
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=220m", "none", str(folder)], check=True)
place = Lab(folder, stun=False)
try:
    place.start()
    place.login()
    assert push(place, "plain", FIRST).status == 0
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1 << 16))
        except OSError:
            pass
    print("FULL", warren(place, "create", "one", "--template", "plain", "--yes"))
    print("HEALTHY", place.healthy())
    filler.unlink()
    print("ROOM", warren(place, "list", "--output", "json").status)
    for number in range(60):
        made = warren(place, "create", "two", "--template", "plain", "--yes")
        if made.status == 0 or "already exists" in made.stderr:
            break
    print("AFTER", made)
    print("TEMPLATES", warren(place, "templates", "list").stdout)
finally:
    place.stop()
"""


def test_a_full_disk_is_told_and_lived_through(tmp_path: Path) -> None:
    unshare = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--mount"]
    if subprocess.run([*unshare, "true"], check=False, capture_output=True).returncode:
        pytest.skip("a file system of its own needs namespaces, which are refused here")
    done = subprocess.run(
        [*unshare, sys.executable, "-c", FULL_DISK, str(tmp_path)],
        cwd=CHECKOUT,
        env=os.environ | {"PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        text=True,
        timeout=55,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    told = {line.split()[0]: line for line in done.stdout.splitlines() if line}
    assert "status=1" in told["FULL"]
    assert "There is no room left on the disk of the database." in told["FULL"]
    assert "No space left on device" in told["FULL"]
    assert told["HEALTHY"] == "HEALTHY True"
    assert told["ROOM"] == "ROOM 0"
    assert "status=0" in told["AFTER"], told["AFTER"]
    assert "plain" in done.stdout.partition("TEMPLATES")[2]
