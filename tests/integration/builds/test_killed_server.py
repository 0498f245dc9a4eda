"""A server that is killed in the middle of a build, and comes back."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from anyio.abc import Process

from tests.archives import tar
from tests.ports import free_port

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

TEMPLATE = """
terraform {
  required_providers {
    coder = { source = "coder/coder" }
  }
}
resource "coder_agent" "main" {
  os   = "linux"
  arch = "amd64"
}
resource "terraform_data" "first" {
  input = "made before the end"
}
resource "terraform_data" "slow" {
  input = terraform_data.first.output
  provisioner "local-exec" {
    command = "sleep 60"
  }
}
"""
PASSWORD = "SomeSecurePassword1!"


@asynccontextmanager
async def server(folder: Path, port: int) -> AsyncGenerator[Process]:
    """Run the real command until it is healthy, and end it afterwards if it still runs."""
    environment = {**os.environ, "WARREN_CONFIG_DIR": str(folder), "WARREN_CACHE_DIRECTORY": str(folder / "cache")}
    command = [sys.executable, "-m", "warren", "server", "--http-address", f"127.0.0.1:{port}"]
    with (folder / "server.log").open("ab") as log:
        async with await anyio.open_process(command, env=environment, stdout=log, stderr=log) as process:
            try:
                with anyio.fail_after(15):
                    await healthy(port)
                yield process
            finally:
                if process.returncode is None:
                    process.send_signal(signal.SIGTERM)
                with anyio.CancelScope(shield=True), anyio.move_on_after(10):
                    await process.wait()


async def healthy(port: int) -> None:
    async with httpx2.AsyncClient() as client:
        while True:
            try:
                if (await client.get(f"http://127.0.0.1:{port}/healthz")).status_code == 200:
                    return
            except httpx2.TransportError:
                pass
            await anyio.sleep(0.02)


# `Any`: JSON documents.
async def posted(client: httpx2.AsyncClient, path: str, body: object) -> dict[str, Any]:
    answer = await client.post(path, json=body)
    assert answer.status_code in (200, 201), answer.text
    return answer.json()


async def ended(client: httpx2.AsyncClient, path: str) -> dict[str, Any]:
    """Wait until the job of a version or build has ended."""
    with anyio.fail_after(15):
        while True:
            found = (await client.get(path)).json()
            if found["job"]["status"] not in ("pending", "running", "canceling"):
                return found
            await anyio.sleep(0.02)


async def begin_build(client: httpx2.AsyncClient) -> dict[str, Any]:
    """Set a deployment up as far as a build that is in the middle of its apply; return the workspace."""
    user = {"email": "admin@example.com", "username": "admin", "password": PASSWORD}
    organization = f"/organizations/{(await posted(client, '/users/first', user))['organization_id']}"
    session = await posted(client, "/users/login", {"email": user["email"], "password": PASSWORD})
    client.headers["Coder-Session-Token"] = session["session_token"]
    upload = await client.post(
        "/files", content=tar({"main.tf": TEMPLATE}), headers={"Content-Type": "application/x-tar"}
    )
    body = {"storage_method": "file", "provisioner": "terraform", "file_id": upload.json()["hash"]}
    version = await posted(client, f"{organization}/templateversions", body)
    assert (await ended(client, f"/templateversions/{version['id']}"))["job"]["status"] == "succeeded"
    template = await posted(client, f"{organization}/templates", {"name": "slow", "template_version_id": version["id"]})
    workspace = await posted(client, "/users/me/workspaces", {"name": "dev", "template_id": template["id"]})
    with anyio.fail_after(15):
        while True:
            lines = (await client.get(f"/workspacebuilds/{workspace['latest_build']['id']}/logs")).json()
            if any("local-exec" in line["output"] for line in lines):
                return workspace
            await anyio.sleep(0.05)


async def test_the_server_that_comes_back_fences_the_dead_worker(tmp_path: Path) -> None:
    port = free_port()
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}/api/v2", timeout=15) as client:
        async with server(tmp_path, port) as first:
            workspace = await begin_build(client)
            first.send_signal(signal.SIGKILL)
            await first.wait()
        build = f"/workspacebuilds/{workspace['latest_build']['id']}"
        async with server(tmp_path, port):
            with anyio.fail_after(15):
                found = await ended(client, build)
                assert found["job"]["status"] == "failed"
                assert "the server that ran it was stopped" in found["job"]["error"]
                assert "made before the end" in (await client.get(f"{build}/state")).text
                again = await posted(client, f"/workspaces/{workspace['id']}/builds", {"transition": "delete"})
                after = await ended(client, f"/workspacebuilds/{again['id']}")
                assert after["status"] == "deleted", after["job"]
