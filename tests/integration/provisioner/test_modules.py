"""Modules, lock files and what `init` left behind for builds."""

from __future__ import annotations

import shutil
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from tests.archives import tar
from tests.integration.provisioner.conftest import ScriptedServer, build, config, template_import
from warren.clock import SystemClock
from warren.provisioner.daemon import DaemonConfig, ProvisionerDaemon
from warren.rpc._pb import provisionerd_pb2 as pbd

pytestmark = pytest.mark.anyio

_CODER = 'terraform {\n  required_providers {\n    coder = { source = "coder/coder", version = "~> 2.4" }\n  }\n}\n'
WITH_MODULES = tar(
    {
        "main.tf": _CODER
        + """
data "coder_workspace" "me" {}
resource "coder_agent" "main" {
  os   = "linux"
  arch = "amd64"
}
module "apps" {
  source   = "./apps"
  for_each = toset(["one", "two"])
  agent_id = coder_agent.main.id
  slug     = each.key
}
module "host" {
  source = "./host"
  count_ = data.coder_workspace.me.start_count
  agent  = coder_agent.main.id
}
""",
        "apps/main.tf": _CODER
        + """
variable "agent_id" {}
variable "slug" {}
data "coder_parameter" "inner" {
  count   = var.slug == "one" ? 1 : 0
  name    = "inner"
  default = "x"
}
resource "coder_app" "app" {
  agent_id = var.agent_id
  slug     = var.slug
  url      = "http://localhost:1"
}
""",
        "host/main.tf": """
variable "count_" {}
variable "agent" {}
resource "terraform_data" "machine" {
  count = var.count_
  input = var.agent
}
""",
        # As it is written where the published provider was installed: of another one than ours, in process.
        ".terraform.lock.hcl": """
provider "registry.terraform.io/coder/coder" {
  version     = "2.19.0"
  constraints = "~> 2.4"
  hashes      = ["h1:FEjV4vmC/pKUKzLqkUeHfKOuLtdJ9LY4Mdg+z5Gqzkw="]
}
""",
    }
)


async def test_agents_and_apps_in_modules(server: ScriptedServer) -> None:
    imported = await server.run(template_import(WITH_MODULES))
    assert isinstance(imported, pbd.CompletedJob), server.text()
    result = imported.template_import
    assert sorted(module.key for module in result.start_modules) == ["apps", "host"]
    assert [item.name for item in result.rich_parameters] == ["inner"]
    assert [(item.name, item.module_path) for item in result.start_resources] == [("machine", "module.host")]
    assert [agent.name for agent in result.start_resources[0].agents] == ["main"]
    built = await server.run(build(WITH_MODULES))
    assert isinstance(built, pbd.CompletedJob), server.text()
    agent = built.workspace_build.resources[0].agents[0]
    assert sorted(app.slug for app in agent.apps) == ["one", "two"]
    assert sorted(module.key for module in built.workspace_build.modules) == ["apps", "host"]


async def test_a_build_whose_frozen_init_is_broken_repairs_it(server: ScriptedServer, tmp_path: Path) -> None:
    assert isinstance(await server.run(template_import(WITH_MODULES)), pbd.CompletedJob)
    for folder in (tmp_path / "cache" / "frozen").glob("*/.terraform"):
        shutil.rmtree(folder)
        folder.mkdir()
    server.updates.clear()
    built = await server.run(build(WITH_MODULES))
    assert isinstance(built, pbd.CompletedJob), server.text()
    assert "has been successfully initialized!" in server.text()
    server.updates.clear()
    assert isinstance(await server.run(build(WITH_MODULES)), pbd.CompletedJob)
    assert "has been successfully initialized!" not in server.text()


async def test_a_build_on_another_machine_runs_init_itself(server: ScriptedServer) -> None:
    built = await server.run(build(WITH_MODULES))
    assert isinstance(built, pbd.CompletedJob), server.text()
    assert "has been successfully initialized!" in server.text()
    stages = {timing.stage for timing in built.workspace_build.timings}
    assert stages == {"init", "plan", "apply"}


async def test_fetched_modules_are_kept_with_the_version(tmp_path: Path) -> None:
    source = tmp_path / "module"
    source.mkdir()
    (source / "main.tf").write_text('resource "terraform_data" "inner" {}\n')
    (source / "large.txt").write_text(
        "".join(f"{number}\n" for number in range(700_000))
    )  # more than a message may have
    git = ["git", "-C", str(source), "-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "one"]):
        await anyio.run_process([*git, *command])
    template = tar({"main.tf": f'module "m" {{\n  source = "git::file://{source}"\n}}\n'})
    async with ScriptedServer().running() as server:
        async with running_daemon(server, tmp_path / "one"):
            imported = await server.run(template_import(template))
            assert isinstance(imported, pbd.CompletedJob), server.text()
        result = imported.template_import
        assert not result.module_files
        assert list(server.files) == [result.module_files_hash.hex()]
        shutil.rmtree(source)
        async with running_daemon(server, tmp_path / "two"):
            job = build(template)
            job.workspace_build.metadata.template_version_modules_file = result.module_files_hash.hex()
            built = await server.run(job)
            assert isinstance(built, pbd.CompletedJob), server.text()
            assert [item.module_path for item in built.workspace_build.resources] == ["module.m"]
            job = build(template)
            job.workspace_build.metadata.template_version_modules_file = "missing"
            failed = await server.run(job)
    assert isinstance(failed, pbd.FailedJob)
    assert failed.error == "file missing is not a modules file"


@asynccontextmanager
async def running_daemon(server: ScriptedServer, folder: Path) -> AsyncGenerator[None]:
    """Have a daemon with a cache of its own."""
    daemon = ProvisionerDaemon(DaemonConfig("d", config(folder), 0.2), server.connect, SystemClock())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(daemon.run)
        yield
        daemon.stop()
