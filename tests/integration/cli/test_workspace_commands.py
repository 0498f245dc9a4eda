"""The commands about workspaces as programs of their own, against the real routes, services and database.

A scripted daemon plays Terraform; the whole, with the real one, is told in `tests/e2e`.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path

import anyio
import pytest

from tests.integration.builds.conftest import site as site
from tests.integration.builds.conftest import world as world
from tests.integration.builds.http import Site
from tests.integration.builds.scripted_daemon import ScriptedDaemon, agent, resource
from tests.integration.builds.test_http import PARAMETERS, PRESETS
from tests.integration.cli.runner import Runner
from warren.rpc._pb import provisionerd_pb2 as pbd

pytestmark = pytest.mark.anyio


@dataclass
class CLI:
    """`warren`, signed in as the admin, and the daemon that does its builds."""

    site: Site
    daemon: ScriptedDaemon
    folder: Path

    async def __call__(self, *words: str, data: str = "", status: int = 0) -> subprocess.CompletedProcess[str]:
        """Run a command to its end; `status` is the exit code it must have."""
        variables = {"WARREN_URL": self.site.url, "WARREN_SESSION_TOKEN": self.site.admin_token}
        return await Runner(self.folder, variables)(*words, data=data, status=status)

    async def while_building(self, *words: str, state: bytes = b"{}") -> subprocess.CompletedProcess[str]:
        """Run a command that waits for a build, and do the build."""
        result: list[subprocess.CompletedProcess[str]] = []

        async def run() -> None:
            result.append(await self(*words))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run)
            await self.daemon.build(resources=[resource(agent())], state=state)
        return result[0]


@pytest.fixture
async def cli(site: Site, tmp_path: Path) -> AsyncGenerator[CLI]:
    daemon = await site.world.daemon()
    organization = f"/organizations/{site.world.organization_id}"
    body = {"storage_method": "file", "file_id": str(site.world.file_id), "provisioner": "terraform", "name": "v1"}
    version = (await site.admin.post(f"{organization}/templateversions", json=body)).json()
    await daemon.import_version(parameters=PARAMETERS, presets=PRESETS)
    created = await site.admin.post(
        f"{organization}/templates", json={"name": "rich", "template_version_id": version["id"]}
    )
    assert created.status_code == 201, created.text
    yield CLI(site, daemon, tmp_path)


async def test_the_life_of_a_workspace(cli: CLI) -> None:
    done = await cli.while_building(
        "create", "dev", "--template", "rich", "--parameter", "cpu=3", "--use-parameter-defaults", "--yes"
    )
    assert "The dev workspace has been created!" in done.stderr
    assert done.stdout == ""

    (listed,) = json.loads((await cli("list", "--output", "json")).stdout)
    assert (listed["name"], listed["latest_build"]["status"]) == ("dev", "running")
    heading, row = (await cli("list", "-c", "workspace,template,status,outdated")).stdout.splitlines()
    assert heading.split() == ["WORKSPACE", "TEMPLATE", "STATUS", "OUTDATED"]
    assert row.split()[1:] == ["rich", "Running", "false"]
    assert "main" in (await cli("show", "dev")).stdout

    assert "already running" in (await cli("start", "dev")).stderr
    assert "has been stopped" in (await cli.while_building("stop", "dev", "--yes")).stderr
    assert "has been started" in (await cli.while_building("start", "dev", "--yes")).stderr
    parameters = (await cli.site.admin.get(f"/workspacebuilds/{listed['latest_build']['id']}/parameters")).json()
    assert {"name": "cpu", "value": "3"} in parameters

    assert "has been deleted" in (await cli.while_building("delete", "dev", "--yes", state=b"")).stderr
    assert (await cli("list", "--output", "json")).stdout == "[]\n"
    assert "No workspaces found!" in (await cli("list")).stderr


async def test_what_is_refused(cli: CLI) -> None:
    assert "no workspace `nope`" in (await cli("show", "nope", status=1)).stderr
    assert "hint: " in (await cli("stop", "nope", "--yes", status=1)).stderr
    done = await cli("create", "dev", "--template", "nope", "--yes", status=1)
    assert "no template `nope`" in done.stderr
    done = await cli("create", "dev", "-t", "rich", "--parameter", "cpu=9", "--yes", status=1)
    assert "cpu" in done.stderr
    done = await cli("create", "bad name", "-t", "rich", "--use-parameter-defaults", "-y", status=1)
    assert "error: " in done.stderr
    await cli.while_building("create", "dev", "-t", "rich", "--use-parameter-defaults", "--yes")
    done = await cli("create", "dev", "-t", "rich", "--yes", status=1)
    assert "A workspace already exists named `dev`!" in done.stderr
    assert (await cli("stop", "dev", data="no\n", status=1)).stdout == ""


async def test_a_failed_build_is_an_error_with_its_reason(cli: CLI) -> None:
    result: list[subprocess.CompletedProcess[str]] = []

    async def create() -> None:
        result.append(await cli("create", "dev", "-t", "rich", "--use-parameter-defaults", "--yes", status=1))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(create)
        job = await cli.daemon.acquire()
        await cli.daemon.log(job.job_id, "Terraform 1.11.4", "no such disk")
        await cli.daemon.fail(pbd.FailedJob(job_id=job.job_id, error="the disk is gone"))
    lines = result[0].stderr.splitlines()
    assert "error: the disk is gone" in lines
    assert "no such disk" in lines
    assert any(line.startswith("=== ✘ Planning Infrastructure") for line in lines)
    logged = (await cli("logs", "dev")).stdout.splitlines()
    assert [line.rpartition("] ")[2] for line in logged] == ["Terraform 1.11.4", "no such disk"]


async def test_settings_of_a_workspace(cli: CLI) -> None:
    await cli.while_building("create", "dev", "-t", "rich", "--use-parameter-defaults", "--yes")
    await cli("favorite", "dev")
    await cli("autoupdate", "dev", "always", "--yes")
    await cli("schedule", "start", "dev", "9:30AM", "Mon-Fri", "UTC")
    await cli("schedule", "stop", "dev", "8h")
    (listed,) = json.loads((await cli("list", "-o", "json")).stdout)
    assert listed["favorite"] is True
    assert listed["automatic_updates"] == "always"
    assert listed["autostart_schedule"] == "CRON_TZ=UTC 30 9 * * mon-fri"
    assert listed["ttl_ms"] == 8 * 3_600_000
    shown = (await cli("schedule", "show", "dev")).stdout
    assert "9:30AM Mon-Fri (UTC)" in shown
    assert "8h" in shown
    await cli("unfavorite", "dev")
    await cli("schedule", "stop", "dev", "manual")
    (listed,) = json.loads((await cli("list", "-o", "json")).stdout)
    assert listed["favorite"] is False
    assert listed.get("ttl_ms") is None


async def test_state_goes_out_and_in(cli: CLI, tmp_path: Path) -> None:
    await cli.while_building("create", "dev", "-t", "rich", "--use-parameter-defaults", "--yes", state=b'{"a": 1}')
    assert (await cli("state", "pull", "dev")).stdout == '{"a": 1}'
    file = tmp_path / "state.json"
    file.write_text('{"a": 2}')
    await cli("state", "push", "dev", str(file), "--no-build")
    assert (await cli("state", "pull", "dev")).stdout == '{"a": 2}'


async def test_prompts_read_stdin_where_there_is_no_terminal(cli: CLI) -> None:
    done = await cli("create", "-t", "rich", "--parameter", "cpu=2", "--preset", "Small", data="dev\nno\n", status=1)
    assert "Specify a name for your workspace" in done.stderr
    assert (await cli("list", "-o", "json")).stdout == "[]\n"
    done = await cli("create", "-t", "rich", status=1)
    assert "EOF" in done.stderr
    done = await cli("create", "-t", "rich", data="bad name\n", status=1)
    assert "a name is 1 to 32 letters" in done.stderr


async def test_a_signed_out_user_is_told_what_to_do(cli: CLI) -> None:
    cli.site.admin_token = "0123456789-0123456789012345678901"
    done = await cli("list", status=1)
    assert "hint: warren login" in done.stderr


async def test_completion_knows_names_of_workspaces_and_templates(cli: CLI) -> None:
    await cli.while_building("create", "dev", "-t", "rich", "--use-parameter-defaults", "--yes")
    assert (await cli("completion", "candidates", "--", "ssh", "d")).stdout == "dev\n"
    assert (await cli("completion", "candidates", "--", "ssh", "")).stdout == "dev\n"
    assert (await cli("completion", "candidates", "--", "create", "--template", "r")).stdout == "rich\n"
    assert (await cli("completion", "candidates", "--", "templates", "pu")).stdout == "push\npull\n"
    assert "--wait\n" in (await cli("completion", "candidates", "--", "ssh", "--")).stdout
    assert (await cli("completion", "candidates", "--", "ssh", "--wait", "a")).stdout == "auto\n"


async def test_ssh_says_why_it_cannot(cli: CLI) -> None:
    await cli.while_building("create", "dev", "-t", "rich", "--use-parameter-defaults", "--yes")
    assert "agent not found by name" in (await cli("ssh", "dev.nope", "true", status=1)).stderr
    await cli.while_building("stop", "dev", "--yes")
    done = await cli("ssh", "--disable-autostart", "dev", "true", status=1)
    assert "autostart is disabled" in done.stderr
    assert "hint: warren start dev" in done.stderr
    assert "no workspace `nope`" in (await cli("ssh", "nope", status=1)).stderr
    assert "is not a remote forward" in (await cli("ssh", "-R", "x", "dev", "true", status=1)).stderr
    assert "no port to forward" in (await cli("port-forward", "dev", status=1)).stderr
