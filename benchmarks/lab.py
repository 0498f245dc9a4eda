"""A server of our own in a temporary folder, with a template and a workspace when asked."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.ports import free_port

CHECKOUT = Path(__file__).resolve().parent.parent
PASSWORD = "Benchmark-password-1"
ENGINE_HELPER = "warren-netns\n"
"""The engine's process in a network namespace: it shares its parent's memory, environment and command line."""


class Lab:
    """Commands against one server. The workspace `dev` exists from `workspace()` on."""

    def __init__(self, folder: Path, *, stun: bool = True, host: str = "127.0.0.1") -> None:
        self.folder = folder
        self.host, self.port = host, free_port()
        self.url = f"http://{self.host}:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None
        self._stun = stun
        self._workspace = False
        self.token = ""

    @property
    def environment(self) -> dict[str, str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("WARREN_", "CODER_"))}
        return clean | {
            "PATH": f"{CHECKOUT / '.venv/bin'}{os.pathsep}{os.environ.get('PATH', '')}",
            "WARREN_CONFIG_DIR": str(self.folder / "config"),
            "WARREN_CACHE_DIRECTORY": str(self.folder / "cache"),
            "HOME": str(self.folder / "home"),
        }

    def start(self, *arguments: str) -> float:
        """Start the server; return seconds from the command to healthy."""
        (self.folder / "home").mkdir(exist_ok=True)
        log = (self.folder / "server.log").open("ab")
        started = time.perf_counter()
        stun = [] if self._stun else ["--derp-server-stun-addresses", "disable"]
        self.process = subprocess.Popen(
            [
                "warren",
                "server",
                "--http-address",
                f"{self.host}:{self.port}",
                "--access-url",
                self.url,
                *stun,
                *arguments,
            ],
            env=self.environment,
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            cwd=self.folder,
        )
        log.close()
        while not self.healthy():
            if self.process.poll() is not None or time.perf_counter() - started > 60:
                raise RuntimeError("the server did not start:\n" + (self.folder / "server.log").read_text()[-3000:])
            time.sleep(0.005)
        return time.perf_counter() - started

    def healthy(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/healthz", timeout=1) as answer:
                return answer.status == 200
        except OSError:
            return False

    def stop(self) -> None:
        """Stop the server, as SIGTERM does."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(30)

    def run(self, *arguments: str, seconds: float = 300, text_input: str = "") -> str:
        """Run a command of ours; return its standard output."""
        done = subprocess.run(
            ["warren", *arguments],
            env=self.environment,
            input=text_input,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"warren {' '.join(arguments)}: {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done.stdout

    def login(self) -> None:
        """Create the first user."""
        self.run(
            "login",
            self.url,
            "--first-user-username",
            "admin",
            "--first-user-email",
            "admin@example.com",
            "--first-user-password",
            PASSWORD,
            "--first-user-trial=false",
        )
        self.token = (self.folder / "config/session").read_text().strip()

    def template(self) -> None:
        """Push the starter template `local`."""
        self.run("templates", "init", "--id", "local", str(self.folder / "template"))
        homes = f"data_dir={self.folder / 'workspaces'}"
        self.run(
            "templates", "push", "local", "--directory", str(self.folder / "template"), "--variable", homes, "--yes"
        )

    def workspace(self) -> None:
        """Create `dev` once, and wait until it answers."""
        if not self._workspace:
            self.run("create", "dev", "--template", "local", "--yes")
            self.run("ssh", "dev", "--", "true")
            self._workspace = True

    def agent_pids(self) -> list[int]:
        """Processes of workspace agents of this server."""
        found: list[int] = []
        marker = f"CODER_AGENT_URL={self.url}".encode()
        for entry in Path("/proc").iterdir():
            try:
                if not entry.name.isdigit() or (entry / "comm").read_text() == ENGINE_HELPER:
                    continue
                if marker in (entry / "environ").read_bytes().replace(b"/\0", b"\0"):
                    words = (entry / "cmdline").read_bytes().split(b"\0")
                    if b"agent" in words:
                        found.append(int(entry.name))
            except OSError:
                continue
        return found

    def get(self, path: str) -> object:
        """GET a path of the API as the first user."""
        request = urllib.request.Request(f"{self.url}/api/v2{path}", headers={"Coder-Session-Token": self.token})
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def close(self) -> None:
        """Stop everything that was started."""
        if self._workspace and self.process is not None and self.process.poll() is None:
            with contextlib.suppress(RuntimeError, subprocess.TimeoutExpired):
                self.run("delete", "dev", "--yes", seconds=60)
        self.stop()
        for pid in self.agent_pids():
            os.kill(pid, signal.SIGTERM)


@contextmanager
def lab() -> Iterator[Lab]:
    """Run a lab in a temporary folder."""
    folder = Path(tempfile.mkdtemp(prefix="warren-bench-"))
    place = Lab(folder)
    try:
        yield place
    finally:
        place.close()
        shutil.rmtree(folder, ignore_errors=True)
