from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Generator
from pathlib import Path

import anyio
import pytest

from tests.integration.server.process import environment, program
from warren.errors import Unauthenticated
from warren.sdk.client import Client

pytestmark = pytest.mark.anyio
PASSWORD, OTHER = "Sup3rSecret!pw", "An0ther!Secret"


@pytest.fixture
def folder() -> Generator[Path]:
    with tempfile.TemporaryDirectory(prefix="warren-fix-", dir="/tmp") as path:  # short: it holds a socket
        yield Path(path)


async def _warren(folder: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "warren", *arguments]
    done = await anyio.run_process(command, env=environment(folder), check=False, stderr=subprocess.STDOUT)
    text = done.stdout.decode()
    assert done.returncode == 0, text
    return text


async def test_an_owner_is_made_without_a_server_and_its_password_changed_beside_one(folder: Path) -> None:
    made = await _warren(
        folder, "server", "create-admin-user", "--username", "root", "--email", "r@example.com", "--password", PASSWORD
    )
    assert "User root (r@example.com) was created" in made
    async with program(folder) as server, Client(server.url) as anonymous:
        token = await anonymous.users.login("r@example.com", PASSWORD)
        async with Client(server.url, token=token) as client:
            me = await client.users.get()
            assert [role.name for role in me.roles] == ["owner"]
            assert len(me.organization_ids) == 1
            await _warren(folder, "reset-password", "root", "--password", OTHER)
            with pytest.raises(Unauthenticated):
                await client.users.get()
        assert await anonymous.users.login("r@example.com", OTHER)
