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

import httpx2
import structlog
from anyio import to_thread

from warren.errors import Unavailable
from warren.provisioner import binary
from warren.provisioner.binary import Binary, Release

log = structlog.get_logger()

_TIMEOUT = httpx2.Timeout(60.0, connect=10.0)  # where there is no way out, say so soon
_MAX_BYTES = 500 << 20


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
        with httpx2.Client(timeout=_TIMEOUT, follow_redirects=True) as client:
            sums = client.get(f"{base}/terraform_{release.version}_SHA256SUMS").raise_for_status().text
            expected = _published(sums, release.archive)
            if release.sha256 and release.sha256.lower() != expected:
                raise Unavailable(
                    f"{base} publishes another {release.archive} than the one that was pinned", hint=binary.HINT
                )
            with TemporaryDirectory(dir=target.parent) as folder:
                archive = Path(folder) / "terraform.zip"
                _download(client, f"{base}/{release.archive}", archive, expected)
                _unpack(archive, target)
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError, zipfile.BadZipFile, LookupError) as error:
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


def _download(client: httpx2.Client, url: str, target: Path, expected: str) -> None:
    digest, size = hashlib.sha256(), 0
    with client.stream("GET", url) as response, target.open("wb") as output:
        for chunk in response.raise_for_status().iter_bytes():
            size += len(chunk)
            if size > _MAX_BYTES:
                raise Unavailable(f"{url} is larger than any Terraform", hint=binary.HINT)
            digest.update(chunk)
            output.write(chunk)
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
