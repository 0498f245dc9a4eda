"""Find a Terraform or OpenTofu that we can use."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import anyio
import msgspec

from warren.errors import Invalid, Unavailable

MINIMUM = (1, 1, 0)
JSON_INIT = (1, 9, 0)  # `init -json` exists from here on
TYPED_GRAPH = (1, 7, 0)  # from here on `graph` must be asked for the graph of a plan
DOWNLOAD_VERSION = "1.14.5"  # what is fetched where that is allowed
_PROCESSORS = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64", "armv7l": "arm"}
_VERSION_SECONDS = 30
NOT_FOUND = "neither terraform nor tofu was found on the PATH"
HINT = (
    "install Terraform 1.9 or newer (https://developer.hashicorp.com/terraform/install) or OpenTofu 1.8 or newer "
    "(https://opentofu.org/docs/intro/install) and put it on the PATH of this process, name it with --terraform-path, "
    f"or name a place that has Terraform {DOWNLOAD_VERSION} with --terraform-download-url"
)


@dataclass(frozen=True, slots=True)
class Binary:
    """A program that was asked for its version."""

    path: Path
    version: tuple[int, int, int]

    @property
    def version_text(self) -> str:
        """Write the version as people do."""
        return ".".join(map(str, self.version))

    def at_least(self, version: tuple[int, int, int]) -> bool:
        """Tell whether this is `version` or newer."""
        return self.version >= version


@dataclass(frozen=True, slots=True)
class Release:
    """Which Terraform to fetch, and from where.

    The digest published beside the archive is always checked; `sha256` pins it, so that the place need not be trusted.
    """

    url: str
    version: str = DOWNLOAD_VERSION
    sha256: str = ""

    @property
    def archive(self) -> str:
        """Name the archive for this machine."""
        machine = platform.machine().lower()
        return f"terraform_{self.version}_{sys.platform}_{_PROCESSORS.get(machine, machine)}.zip"


class _Version(msgspec.Struct, frozen=True):
    terraform_version: str


async def find(configured: Path | None, search_path: str) -> Binary:
    """Find the program: the one that was configured, else `terraform`, else `tofu` on the path.

    Raises:
        Unavailable: there is none; the hint says what to install.
        Invalid: it is too old, or no Terraform.
    """
    if configured is not None:
        if not os.access(configured, os.X_OK):
            raise Unavailable(f"{configured} is not a program", hint=HINT)
        return await inspect(configured)
    found = on_path(search_path)
    if found is None:
        raise Unavailable(NOT_FOUND, hint=HINT)
    return await inspect(found)


def on_path(search_path: str) -> Path | None:
    """Find `terraform`, else `tofu`, without running it."""
    for name in ("terraform", "tofu"):
        found = shutil.which(name, path=search_path)
        if found is not None:
            return Path.cwd() / found
    return None


async def inspect(path: Path) -> Binary:
    """Ask a program for its version.

    Raises:
        Unavailable: it did not answer in time.
        Invalid: it is too old, or no Terraform.
    """
    # Away from the folder we are in: a template there must not be read, and no update is looked for.
    environment = {**os.environ, "CHECKPOINT_DISABLE": "1", "TF_CLI_CONFIG_FILE": os.devnull}
    try:
        with anyio.fail_after(_VERSION_SECONDS):
            result = await anyio.run_process(
                [str(path), "version", "-json"], check=False, env=environment, cwd=path.parent
            )
    except (OSError, TimeoutError) as error:
        raise Unavailable(f"{path} could not be run: {error}", hint=HINT) from error
    try:
        version = parse_version(msgspec.json.decode(result.stdout, type=_Version).terraform_version)
    except (msgspec.MsgspecError, ValueError) as error:
        raise Invalid(f"{path} is no Terraform: `version -json` printed something else", hint=HINT) from error
    if version < MINIMUM:
        shown, needed = ".".join(map(str, version)), ".".join(map(str, MINIMUM))
        raise Invalid(f'terraform version "{shown}" is too old. required >= "{needed}"', hint=HINT)
    return Binary(path, version)


def parse_version(text: str) -> tuple[int, int, int]:
    """Read `1.11.4`, with or without a suffix of a pre-release.

    Raises:
        ValueError: it is no version.
    """
    core = text.split("-", 1)[0].split("+", 1)[0]
    major, minor, patch = core.split(".")
    return int(major), int(minor), int(patch)
