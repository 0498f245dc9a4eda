"""A developer's database: PostgreSQL in the workspace, used from the laptop with stock `psql`."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest
from benchmarks.lab import Lab

from tests.e2e.test_main_job import forwarding, tool, wait
from tests.ports import free_port
from warren.server.postgres import as_ordinary_user, find_binaries

pytestmark = [
    pytest.mark.skipif(not shutil.which("psql"), reason="psql is not installed here"),
]


@contextmanager
def database(folder: Path) -> Generator[int]:
    """Run a PostgreSQL that listens on loopback, as one in a workspace does; give its port."""
    binaries, port = find_binaries(), free_port()
    password = folder / "password"
    password.write_text("secret")
    environment = {"LC_ALL": "C", "PATH": "/usr/bin:/bin"}
    subprocess.run(
        [binaries / "initdb", "-D", folder / "data", "-U", "dev", "-A", "scram-sha-256", "--pwfile", password, "-N"],
        env=environment,
        check=True,
        capture_output=True,
        preexec_fn=as_ordinary_user(),
    )
    options = {"listen_addresses": "127.0.0.1", "port": str(port), "unix_socket_directories": ""}
    server = subprocess.Popen(
        [binaries / "postgres", "-D", folder / "data", *(f"--{name}={value}" for name, value in options.items())],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=as_ordinary_user(),
    )
    try:
        note = folder / "data/postmaster.pid"
        wait(lambda: note.exists() and "ready" in note.read_text(), "the database did not start")
        yield port
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(10)


def test_psql_uses_a_database_in_the_workspace(running: Lab, tmp_path: Path) -> None:
    local = free_port()
    with database(tmp_path) as port, forwarding(running, "--tcp", f"{local}:{port}", ready=str(local)):
        url = f"postgresql://dev:secret@127.0.0.1:{local}/postgres"
        tool(
            running,
            "psql",
            url,
            "-qc",
            "CREATE TABLE note AS SELECT g AS id, repeat('x', 1000) AS text FROM generate_series(1, 20000) g",
        )
        done = tool(running, "psql", url, "-Atc", "SELECT count(*), sum(length(text)) FROM note")
        assert done.stdout == "20000|20000000\n"

        started = time.monotonic()
        dumped = tool(running, "psql", url, "-Atc", "SELECT text FROM note")
        assert len(dumped.stdout) == 20000 * 1001
        assert time.monotonic() - started < 30
