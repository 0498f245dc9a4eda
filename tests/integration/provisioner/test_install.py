"""Finding Terraform, and fetching it where there is none."""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
import zipfile
from collections.abc import Generator
from contextlib import AsyncExitStack
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import anyio
import pytest
from anyio.abc import ByteStream

from warren.clock import SystemClock
from warren.errors import Invalid, Unavailable
from warren.provisioner import binary
from warren.provisioner.binary import Release, parse_version
from warren.provisioner.daemon import DaemonConfig, ProvisionerDaemon
from warren.provisioner.install import install
from warren.provisioner.session import ProvisionerConfig
from warren.provisioner.workdir import Cache
from warren.rpc.memory import stream_pair
from warren.server.compose import control_plane_config
from warren.settings import load

pytestmark = pytest.mark.anyio


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base names it so
        """Say nothing."""


@pytest.fixture
def place(tmp_path: Path) -> Generator[Release]:
    """Publish the Terraform that is installed here, as its makers do."""
    program = shutil.which("terraform")
    assert program
    release = Release("http://placeholder", "1.2.3")
    folder = tmp_path / "published" / release.version
    folder.mkdir(parents=True)
    with zipfile.ZipFile(folder / release.archive, "w") as archive:
        archive.write(program, "terraform")
        archive.writestr("LICENSE.txt", "words")
    digest = hashlib.sha256((folder / release.archive).read_bytes()).hexdigest()
    (folder / f"terraform_{release.version}_SHA256SUMS").write_text(
        f"{'0' * 64}  other.zip\n{digest}  {release.archive}\n"
    )
    handler = partial(_Quiet, directory=str(tmp_path / "published"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield Release(f"http://127.0.0.1:{server.server_port}", release.version, digest)
        server.shutdown()
        thread.join()


async def test_it_is_fetched_once_and_checked(place: Release, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    found: list[binary.Binary] = []

    async def one() -> None:
        found.append(await install(place, cache))

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(one)
    assert {item.path for item in found} == {cache / "terraform-1.2.3"}
    assert found[0].at_least(binary.MINIMUM)
    again = await install(Release("http://127.0.0.1:1", place.version), cache)
    assert again == found[0]


async def test_what_was_not_published_is_refused(place: Release, tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"another terraform_.*than the one that was pinned"):
        await install(Release(place.url, place.version, "1" * 64), tmp_path)
    archive = tmp_path / "published" / place.version / place.archive
    archive.write_bytes(archive.read_bytes() + b"tampered")
    with pytest.raises(Unavailable, match="is not what was published"):
        await install(place, tmp_path)
    assert not (tmp_path / "terraform-1.2.3").exists()


async def test_a_place_that_publishes_something_else(place: Release, tmp_path: Path) -> None:
    published = tmp_path / "published" / place.version
    sums = published / f"terraform_{place.version}_SHA256SUMS"
    told = sums.read_text()
    # As a portal does that wants people to sign in.
    sums.write_text("<html>Sign in</html>")
    with pytest.raises(Unavailable, match=rf"could not be fetched from .*: no digest of {place.archive} is published$"):
        await install(place, tmp_path)
    with zipfile.ZipFile(published / place.archive, "w") as archive:
        archive.writestr("LICENSE.txt", "words")
    digest = hashlib.sha256((published / place.archive).read_bytes()).hexdigest()
    sums.write_text(told.replace(place.sha256, digest))
    with pytest.raises(Unavailable, match=r"There is no item named 'terraform' in the archive$"):
        await install(Release(place.url, place.version), tmp_path)
    sums.unlink()
    with pytest.raises(Unavailable, match="404") as raised:
        await install(place, tmp_path)
    assert "install Terraform 1.9 or newer" in raised.value.hint
    assert "name it with --terraform-path" in raised.value.hint


async def test_a_place_that_does_not_answer(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"Terraform 1\.2\.3 could not be fetched from") as raised:
        await install(Release("http://127.0.0.1:1", "1.2.3"), tmp_path)
    assert "install Terraform" in raised.value.hint


async def run_daemon(cache: Path, search_path: str, release: Release | None) -> None:
    """Start a daemon that is told to stop at once, and so only looks for its Terraform."""
    config = ProvisionerConfig(Cache(cache), {**os.environ, "PATH": search_path}, release=release)
    async with AsyncExitStack() as stack:

        async def connect() -> ByteStream:
            ours, theirs = await stream_pair()
            stack.push_async_callback(theirs.aclose)
            return ours

        daemon = ProvisionerDaemon(DaemonConfig("test", config), connect, SystemClock())
        daemon.stop()
        await daemon.run()


async def test_a_daemon_fetches_only_what_is_not_installed(place: Release, tmp_path: Path) -> None:
    await run_daemon(tmp_path / "a", os.environ["PATH"], place)
    assert not list((tmp_path / "a").glob("terraform-*"))
    await run_daemon(tmp_path / "b", str(tmp_path), place)
    assert (tmp_path / "b/terraform-1.2.3").is_file()


async def test_a_daemon_without_terraform_and_without_a_way_out_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(Unavailable) as raised:
        await run_daemon(tmp_path / "cache", str(tmp_path), Release("http://127.0.0.1:1"))
    assert raised.value.message.startswith(
        "neither terraform nor tofu was found on the PATH, and Terraform 1.14.5 could not be fetched from"
    )
    assert "install Terraform 1.9 or newer (https://developer.hashicorp.com/terraform/install)" in raised.value.hint
    with pytest.raises(Unavailable, match=r"neither terraform nor tofu was found on the PATH$"):
        await run_daemon(tmp_path / "cache", str(tmp_path), None)


@pytest.mark.parametrize(
    ("flags", "release"),
    [
        ({}, Release("https://releases.hashicorp.com/terraform")),
        ({"terraform_download_url": ""}, None),
        (
            {"terraform_download_url": "http://mirror/terraform", "terraform_download_sha256": "ab"},
            Release("http://mirror/terraform", sha256="ab"),
        ),
    ],
)
def test_the_vendor_is_asked_unless_told_otherwise(flags: dict[str, str], release: Release | None) -> None:
    settings = load(flags, {}, None).settings
    assert control_plane_config(settings, "http://warren.test", {}, stun_port=0).terraform_release == release


def program(folder: Path, name: str, output: str) -> Path:
    path = folder / name
    path.write_text(f"#!/bin/sh\ncat <<'EOT'\n{output}\nEOT\n")
    path.chmod(0o755)
    return path


async def test_terraform_is_found_on_the_path() -> None:
    found = await binary.find(None, os.environ["PATH"])
    assert found.path.name == "terraform"
    assert found.at_least((1, 9, 0))


async def test_opentofu_will_do(tmp_path: Path) -> None:
    program(tmp_path, "tofu", '{"terraform_version": "1.10.0-beta1"}')
    found = await binary.find(None, f"{tmp_path}:/usr/bin:/bin")
    assert (found.path, found.version_text) == (tmp_path / "tofu", "1.10.0")


async def test_none_is_told_with_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="neither terraform nor tofu was found on the PATH") as raised:
        await binary.find(None, str(tmp_path))
    assert "install Terraform 1.9 or newer" in raised.value.hint
    with pytest.raises(Unavailable, match="is not a program"):
        await binary.find(tmp_path / "missing", "")


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ('{"terraform_version": "1.0.11"}', 'terraform version "1.0.11" is too old. required >= "1.1.0"'),
        ("hello", "is no Terraform"),
        ('{"terraform_version": "new"}', "is no Terraform"),
    ],
)
async def test_a_program_that_will_not_do(tmp_path: Path, output: str, message: str) -> None:
    with pytest.raises(Invalid) as raised:
        await binary.inspect(program(tmp_path, "terraform", output))
    assert message in raised.value.message


def test_versions() -> None:
    assert parse_version("1.11.4") == (1, 11, 4)
    assert parse_version("1.12.0-rc1+x") == (1, 12, 0)
