"""The server's side with the real provisioner daemon and real Terraform."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from tests.archives import tar
from tests.integration.builds.world import World
from warren.clock import SystemClock
from warren.domain.template import TemplateSettings
from warren.provisioner.daemon import DaemonConfig, ProvisionerDaemon
from warren.provisioner.session import ProvisionerConfig
from warren.provisioner.workdir import Cache
from warren.services.build_views import BuildDetail
from warren.services.built_in_daemons import connector
from warren.services.templates import NewTemplate, TemplateView

pytestmark = pytest.mark.anyio

TEMPLATE = """
terraform {
  required_providers {
    coder = { source = "coder/coder" }
  }
}
data "coder_workspace" "me" {}
data "coder_workspace_owner" "me" {}
data "coder_parameter" "cpu" {
  name    = "cpu"
  type    = "number"
  default = 2
  mutable = true
  validation {
    min = 1
    max = 8
  }
}
resource "coder_agent" "main" {
  os   = "linux"
  arch = "amd64"
}
resource "coder_app" "docs" {
  agent_id = coder_agent.main.id
  slug     = "docs"
  url      = "http://localhost:1"
}
resource "terraform_data" "disk" {
  input = "kept"
}
resource "terraform_data" "dev" {
  count = data.coder_workspace.me.start_count
  input = "${data.coder_workspace_owner.me.name}/${data.coder_workspace.me.name}: ${data.coder_parameter.cpu.value}"
  triggers_replace = coder_agent.main.id
  provisioner "local-exec" {
    command = "COMMAND"
  }
}
"""


async def use_source(world: World, text: str) -> None:
    async with world.pool.connection() as db:
        await db.execute("UPDATE files SET content = %s WHERE id = %s", (tar({"main.tf": text}), world.file_id))


@asynccontextmanager
async def terraform_daemon(world: World, folder: Path) -> AsyncGenerator[ProvisionerDaemon]:
    row = await world.register()
    config = DaemonConfig(row.name, ProvisionerConfig(Cache(folder), dict(os.environ)), heartbeat_seconds=0.2)
    async with anyio.create_task_group() as tasks:
        daemon = ProvisionerDaemon(config, connector(world.provisionerd, row, tasks), SystemClock())
        tasks.start_soon(daemon.run)
        yield daemon
        tasks.cancel_scope.cancel()


async def finished(world: World, build: BuildDetail) -> BuildDetail:
    with anyio.fail_after(15):
        async for _ in world.jobs.follow_logs(build.view.build.job_id, 0):
            pass
    return await world.builds.get(world.admin, build.view.build.id)


async def imported(world: World) -> TemplateView:
    version = await world.version()
    with anyio.fail_after(15):
        async for _ in world.jobs.follow_logs(version.job.job.id, 0):
            pass
    view = await world.versions.get(world.admin, version.version.id)
    assert view.job.job.status == "succeeded", view.job.job.error
    new = NewTemplate(version.version.id, TemplateSettings(name="box"), private=False)
    return await world.templates.create(world.admin, world.organization_id, new)


async def test_a_workspace_from_import_to_delete(world: World, tmp_path: Path) -> None:
    await use_source(world, TEMPLATE.replace("COMMAND", "true"))
    async with terraform_daemon(world, tmp_path):
        template = await imported(world)
        parameters = await world.versions.parameters(world.admin, template.template.active_version_id)
        assert [(known.name, known.default_value, known.validation_max) for known in parameters] == [("cpu", "2", 8)]

        workspace = await world.workspace(template, cpu="4")
        started = await finished(world, workspace.build)
        assert started.view.job.job.status == "succeeded", started.view.job.job.error
        agents = [agent for view in started.resources for agent in view.agents]
        assert [agent.parts.agent.name for agent in agents] == ["main"]
        assert b"admin/dev: 4" in await world.builds.state(world.admin, started.view.build.id)
        timings = await world.builds.timings(world.admin, started.view.build.id)
        assert {"plan", "apply"} <= {step.stage for step in timings.steps}

        stopped = await finished(world, await world.build(workspace, "stop"))
        assert stopped.view.job.job.status == "succeeded", stopped.view.job.job.error
        state = await world.builds.state(world.admin, stopped.view.build.id)
        assert b"kept" in state
        assert b"admin/dev" not in state

        deleted = await finished(world, await world.build(workspace, "delete"))
        assert deleted.view.job.job.status == "succeeded", deleted.view.job.job.error
        page = await world.workspaces.list(world.admin, "", limit=0, offset=0)
        assert page.count == 0


async def test_terraform_failing_half_way_keeps_the_state(world: World, tmp_path: Path) -> None:
    await use_source(world, TEMPLATE.replace("COMMAND", "exit 7"))
    async with terraform_daemon(world, tmp_path):
        workspace = await world.workspace(await imported(world))
        failed = await finished(world, workspace.build)
        assert failed.view.job.job.status == "failed"
        assert "terraform apply" in failed.view.job.job.error
        assert b"kept" in await world.builds.state(world.admin, failed.view.build.id)
        deleted = await finished(world, await world.build(workspace, "delete"))
        assert deleted.view.job.job.status == "succeeded", deleted.view.job.job.error


async def test_cancel_of_a_running_build_keeps_the_state(world: World, tmp_path: Path) -> None:
    await use_source(world, TEMPLATE.replace("COMMAND", "sleep 60"))
    async with terraform_daemon(world, tmp_path):
        workspace = await world.workspace(await imported(world))
        with anyio.fail_after(15):
            async for line in world.jobs.follow_logs(workspace.build.view.build.job_id, 0):
                if "Provisioning with 'local-exec'" in line.output:
                    break
        await world.builds.cancel(world.admin, workspace.build.view.build.id, expected="running")
        ended = await finished(world, workspace.build)
        assert ended.view.job.job.status in ("canceled", "failed")
        assert b"kept" in await world.builds.state(world.admin, ended.view.build.id)


async def test_invalid_hcl_names_file_and_line(world: World, tmp_path: Path) -> None:
    await use_source(world, 'resource "x" {')
    async with terraform_daemon(world, tmp_path):
        version = await world.version()
        with anyio.fail_after(15):
            lines = [line.output async for line in world.jobs.follow_logs(version.job.job.id, 0)]
        view = await world.versions.get(world.admin, version.version.id)
        assert view.job.job.status == "failed"
        assert any("main.tf line 1" in line for line in lines), lines
