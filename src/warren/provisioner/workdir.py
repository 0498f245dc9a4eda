"""The folders of a provisioner: one for each job, and what `init` fetched for each template version.

A job's folder `<cache>/jobs/<job id>/` holds the unpacked template and Terraform's state. It is removed when the server
has the result; when the daemon was killed before that it is still there, and `recover` gives the state back. Terraform
writes its state in place: what was killed in the midst of that left half a file, so the last whole one is kept beside.

What `init` fetched is *frozen* in `<cache>/frozen/<key>/`: builds of the same source link to it and do not run `init`.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import mkdtemp
from uuid import UUID

import anyio
import msgspec

from warren.errors import NOT_JSON, Invalid

STATE_FILE = "terraform.tfstate"
PLAN_FILE = "terraform.tfplan"
LOCK_FILE = ".terraform.lock.hcl"
DATA_FOLDER = ".terraform"
GRAPH_FILE = "graph.dot"
_NOTE = ".job"
_KEPT = ".tfstate"
_LOOK_EVERY_BYTES = 1 << 20  # a state larger than this is not looked at after every line of Terraform's
_RECOVER_SECONDS = 10.0
_POLL_SECONDS = 0.05
_KEEP = timedelta(days=30)


class JobNote(msgspec.Struct, frozen=True):
    """Who runs a job, and what kind of job it is."""

    daemon: str
    type: str


@dataclass(frozen=True, slots=True)
class Cache:
    """The folder that outlives jobs."""

    folder: Path

    @property
    def jobs(self) -> Path:
        """Give the folder of the jobs' folders."""
        return self.folder / "jobs"

    @property
    def config_file(self) -> Path:
        """Give our configuration file for Terraform."""
        return self.folder / "terraform.rc"

    @property
    def plugins(self) -> Path:
        """Give the folder in which Terraform shares downloaded providers."""
        return self.folder / "plugins"

    def prepare(self) -> None:
        """Make the folders and our configuration for Terraform."""
        for folder in (self.folder, self.jobs, self.folder / "frozen", self.plugins):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not self.config_file.exists():
            fresh = Path(mkdtemp(dir=self.folder)) / "terraform.rc"
            fresh.write_text("disable_checkpoint = true\n")
            fresh.replace(self.config_file)
            fresh.parent.rmdir()

    def job_folder(self, job_id: str) -> Path:
        """Give the folder of a job.

        Raises:
            Invalid: `job_id` is no UUID, and must not become part of a path.
        """
        try:
            return self.jobs / str(UUID(job_id))
        except ValueError as error:
            raise Invalid(f'"{job_id}" is not the ID of a job') from error

    def leftovers(self, daemon: str) -> list[tuple[str, JobNote]]:
        """Give the jobs of a daemon whose folders are still there: unless it runs them now, it was killed in them."""
        found: list[tuple[str, JobNote]] = []
        for path in sorted(self.jobs.glob(f"*{_NOTE}")):
            with suppress(OSError, *NOT_JSON):
                note = msgspec.json.decode(path.read_bytes(), type=JobNote)
                if note.daemon == daemon:
                    found.append((path.name.removesuffix(_NOTE), note))
        return found

    def frozen(self, key: str) -> Frozen:
        """Give the place for what `init` fetched under `key`."""
        return Frozen(self.folder / "frozen" / key)

    def clean(self, now: datetime) -> None:
        """Remove what `init` fetched for sources that no build used for a month, and jobs that nobody recovered."""
        oldest = (now - _KEEP).timestamp()
        for path in [*(self.folder / "frozen").iterdir(), *self.jobs.iterdir()]:
            with suppress(OSError):
                if path.is_symlink():
                    if not path.exists():
                        path.unlink()
                elif path.stat().st_mtime >= oldest:
                    continue
                elif path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink()

    def begin(self, job_id: str, note: JobNote) -> Path:
        """Make the folder of a job, for its user alone, with a note for the case that nobody ends it.

        Raises:
            Invalid: `job_id` is no UUID.
        """
        folder = self.job_folder(job_id)
        self.forget(job_id)
        folder.mkdir(parents=True, mode=0o700)
        self._note(job_id).write_bytes(msgspec.json.encode(note))
        return folder

    def retire(self, job_id: str) -> None:
        """Keep the folder of a job, which nobody needs to end any more."""
        self._note(job_id).unlink(missing_ok=True)

    def forget(self, job_id: str) -> None:
        """Remove the folder of a job, after what it held was stored elsewhere."""
        folder = self.job_folder(job_id)
        shutil.rmtree(folder, ignore_errors=True)
        _kept(folder).unlink(missing_ok=True)
        self.retire(job_id)

    def _note(self, job_id: str) -> Path:
        """Give the note's place: not in the folder, whose content is the template's."""
        folder = self.job_folder(job_id)
        return folder.with_name(folder.name + _NOTE)


async def recover(cache: Cache, job_id: str) -> bytes | None:
    """Give the state that a job left behind whose daemon was killed, or `None` when there is none.

    A Terraform that still runs in the job's folder is ended first, so that the state is final.
    """
    folder = cache.job_folder(job_id)
    if not folder.is_dir():
        return None
    await _end_processes(folder)
    return await anyio.to_thread.run_sync(read_state, folder) or None


def read_state(folder: Path) -> bytes:
    """Give the state of a job: what Terraform wrote last, or before that if it was stopped while it wrote."""
    data = _read(folder / STATE_FILE)
    if _whole(data):
        return data
    return _read(_kept(folder)) or data


class StateKeeper:
    """Keeps a copy of the last whole state that Terraform has written in a job's folder."""

    def __init__(self, folder: Path) -> None:
        self._state, self._copy = folder / STATE_FILE, _kept(folder)
        self._seen: tuple[int, int] = (0, 0)
        self._lines = 0

    def look(self) -> None:
        """Copy the state if it has changed and is whole; called after every line that Terraform says."""
        self._lines += 1
        try:
            stat = self._state.stat()
            now = (stat.st_mtime_ns, stat.st_size)
            if now == self._seen or self._lines % (1 + stat.st_size // _LOOK_EVERY_BYTES):
                return
            data = self._state.read_bytes()
            if _whole(data):
                fresh = self._copy.with_name(self._copy.name + ".new")
                fresh.touch(mode=0o600)
                fresh.write_bytes(data)
                fresh.replace(self._copy)
                self._seen = now
        except OSError:
            return  # no state yet, or a full disk: the copy is for an accident, and must not cause one


def _kept(folder: Path) -> Path:
    """Give the place of the copy: not in the folder, whose content is the template's."""
    return folder.with_name(folder.name + _KEPT)


def _whole(data: bytes) -> bool:
    try:
        msgspec.json.decode(data)
    except NOT_JSON:
        return False
    return True


def frozen_key(archive: bytes, modules: bytes, terraform_version: str) -> str:
    """Name what `init` fetches: it depends on the source, on modules given with it, and on Terraform."""
    digest = hashlib.sha256(terraform_version.encode())
    for part in (archive, modules):
        digest.update(hashlib.sha256(part).digest())
    return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class Frozen:
    """The result of an `init`, shared by all builds of the same source.

    `link` points to the folder with the latest result. An import of the same source again gets its own folder and
    moves the link, so a build never sees its modules change.
    """

    link: Path

    @property
    def exists(self) -> bool:
        """Tell whether there is one."""
        return (self.link / GRAPH_FILE).is_file()

    def freeze(self, job: Path, graph: str) -> None:
        """Keep what `init` made in a job's folder, instead of an earlier result."""
        fresh = Path(mkdtemp(dir=self.link.parent, prefix=f"{self.link.name}-"))
        for name in (DATA_FOLDER, LOCK_FILE):
            source = job / name
            if source.is_dir():
                shutil.copytree(source, fresh / name, symlinks=True)
            elif source.exists():
                shutil.copy2(source, fresh / name)
        (fresh / GRAPH_FILE).write_text(graph)
        moving = fresh.with_name(f"{fresh.name}.link")
        moving.symlink_to(fresh.name, target_is_directory=True)
        moving.replace(self.link)

    def thaw(self, job: Path) -> str:
        """Put it into a job's folder, in which `init` need not run then; give the graph."""
        folder = self.link.resolve(strict=True)
        data = folder / DATA_FOLDER
        if data.is_dir():
            (job / DATA_FOLDER).symlink_to(data, target_is_directory=True)
        lock = folder / LOCK_FILE
        if lock.is_file():
            shutil.copy2(lock, job / LOCK_FILE)
        os.utime(folder)
        return (folder / GRAPH_FILE).read_text()


def _read(path: Path) -> bytes:
    with suppress(FileNotFoundError):
        return path.read_bytes()
    return b""


async def _end_processes(folder: Path) -> None:
    """Interrupt, then kill, the processes whose working folder is `folder`."""
    deadline = anyio.current_time() + _RECOVER_SECONDS
    interrupted: set[int] = set()
    while found := set(_processes_in(folder)):
        late = anyio.current_time() > deadline
        for process in found if late else found - interrupted:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(process, signal.SIGKILL if late else signal.SIGINT)
        interrupted |= found
        await anyio.sleep(_POLL_SECONDS)


def _processes_in(folder: Path) -> Iterator[int]:
    target = folder.resolve()
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            # Commands of local-exec run there too, but Terraform ends them: only leaders of a session are ours.
            if (entry / "cwd").readlink() == target and os.getsid(int(entry.name)) == int(entry.name):
                yield int(entry.name)
