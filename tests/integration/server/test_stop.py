"""A server that is told to stop while a Terraform runs that does not care."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import anyio
import pytest

from tests.archives import tar
from tests.server import open_site
from warren.sdk.types.templates import CreateTemplateVersion
from warren.server import control_plane

pytestmark = pytest.mark.anyio

STUBBORN = """#!/bin/sh
[ "$1" = version ] && exec {terraform} "$@"
trap '' INT TERM
touch {folder}/ready
exec sleep 600
"""


def _stubborn_terraform(folder: Path) -> Path:
    """Put a program before the real Terraform that ignores interrupts."""
    terraform = shutil.which("terraform")
    assert terraform
    program = folder / "terraform"
    program.write_text(STUBBORN.format(terraform=terraform, folder=folder))
    program.chmod(0o755)
    return program


async def test_terraform_that_ignores_the_interrupt_does_not_hold_the_server_up(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert control_plane.TERRAFORM_EXIT_SECONDS <= 20  # the limits as they are shipped, then some for the test
    monkeypatch.setattr(control_plane, "STOP_JOBS_SECONDS", 0.1)
    monkeypatch.setattr(control_plane, "TERRAFORM_EXIT_SECONDS", 0.5)
    program = _stubborn_terraform(tmp_path)
    async with open_site(database_url, tmp_path / "site", daemons=1, terraform_path=str(program)) as site:
        organization = (await site.admin.organizations.mine())[0]
        file_id = await site.admin.templates.upload(tar({"main.tf": 'resource "terraform_data" "x" {}\n'}))
        request = CreateTemplateVersion(storage_method="file", provisioner="terraform", file_id=file_id)
        await site.admin.templates.create_version(organization.id, request)
        with anyio.fail_after(20):
            while not await anyio.Path(tmp_path / "ready").exists():  # noqa: ASYNC110  another process makes it
                await anyio.sleep(0.02)
        stopping_since = time.monotonic()
    assert time.monotonic() - stopping_since < 15
