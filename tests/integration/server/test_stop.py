"""A server that is told to stop while a Terraform runs that does not care."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from tests.archives import tar
from tests.certificates import Authority
from tests.integration.relay.test_server import UpgradedClient, upgrade
from tests.ports import free_port
from tests.server import Site, open_site
from warren.net import derp
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


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
async def test_clients_of_the_relay_are_told_of_the_stop_before_it_ends(
    database_url: str, tmp_path: Path, tls: bool
) -> None:
    authority = Authority(tmp_path)
    pair = authority.issue("server")
    port = free_port()
    flags = {
        "tls_enable": "true",
        "tls_address": f"127.0.0.1:{port}",
        "tls_cert_file": [str(pair.certificate)],
        "tls_key_file": [str(pair.key)],
    }

    def connect(site: Site) -> UpgradedClient:
        if tls:
            return upgrade(port, context=authority.client_context())
        return upgrade(int(site.started.url.rpartition(":")[2]))

    async with open_site(database_url, tmp_path / "site", daemons=0, **flags) as site:
        client = await anyio.to_thread.run_sync(connect, site)
        client.sock.settimeout(30)
    with client:
        assert client.receive() == derp.Restarting(reconnect_in_ms=2000, try_for_ms=10_000)
        assert client.receive() is None


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
