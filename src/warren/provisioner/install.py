"""Fetch a pinned Terraform where none is installed, checked against its published digest."""

from __future__ import annotations

import fcntl
import hashlib
import os
import zipfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import structlog
from anyio import to_thread

from warren.errors import Unavailable
from warren.provisioner import binary
from warren.provisioner.binary import Binary, Release
from warren.sdk import downloads

log = structlog.get_logger()

_PATIENCE_SECONDS = 30.0
_MAX_BYTES = 500 << 20
_MAX_SUMS = 1 << 20


async def install(release: Release, cache: Path) -> Binary:
    """Have the release in `cache`, fetched unless it is there already.

    Raises:
        Unavailable: it could not be fetched, or is not what was published.
    """
    target = cache / f"terraform-{release.version}"
    if not await to_thread.run_sync(target.is_file):
        log.info("terraform.fetching", url=release.url, version=release.version)
        await to_thread.run_sync(_fetch_locked, release, target)
    return await binary.inspect(target)


def _fetch_locked(release: Release, target: Path) -> None:
    """Fetch, one process at a time; who had to wait finds it there."""
    with _lock(target.parent / "terraform.lock"):
        if not target.is_file():
            _fetch(release, target)


def _fetch(release: Release, target: Path) -> None:
    base = f"{release.url.rstrip('/')}/{release.version}"
    try:
        sums = downloads.fetch(
            f"{base}/terraform_{release.version}_SHA256SUMS", max_bytes=_MAX_SUMS, patience_seconds=_PATIENCE_SECONDS
        )
        expected = _published(sums.decode(errors="replace"), release.archive)
        if release.sha256 and release.sha256.lower() != expected:
            raise Unavailable(
                f"{base} publishes another {release.archive} than the one that was pinned", hint=binary.HINT
            )
        with TemporaryDirectory(dir=target.parent) as folder:
            archive = Path(folder) / "terraform.zip"
            _download(f"{base}/{release.archive}", archive, expected)
            _unpack(archive, target)
    except (downloads.DownloadError, OSError, zipfile.BadZipFile, LookupError) as error:
        # Some errors of the network have no words of their own.
        reason = error.args[0] if error.args and error.args[0] else type(error).__name__
        raise Unavailable(
            f"Terraform {release.version} could not be fetched from {release.url}: {reason}", hint=binary.HINT
        ) from error


def _published(sums: str, archive: str) -> str:
    for line in sums.splitlines():
        digest, _, name = line.partition("  ")
        if name.strip() == archive:
            return digest.lower()
    raise LookupError(f"no digest of {archive} is published")


def _download(url: str, target: Path, expected: str) -> None:
    digest = hashlib.sha256()
    with target.open("wb") as output:

        def take(piece: bytes) -> None:
            digest.update(piece)
            output.write(piece)

        downloads.get(url, take, max_bytes=_MAX_BYTES, patience_seconds=_PATIENCE_SECONDS)
    if digest.hexdigest() != expected:
        found = digest.hexdigest()
        raise Unavailable(f"{url} is not what was published: its SHA-256 is {found}, not {expected}", hint=binary.HINT)


def _unpack(archive: Path, target: Path) -> None:
    with zipfile.ZipFile(archive) as source:
        fresh = Path(source.extract("terraform", archive.parent))
    fresh.chmod(0o755)
    fresh.replace(target)


@contextmanager
def _lock(path: Path) -> Generator[None]:
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
