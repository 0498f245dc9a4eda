"""Imports and builds by a daemon, over the real protocol, with real Terraform."""

from __future__ import annotations

import json
import time
from pathlib import Path

import anyio
import pytest

from tests.archives import tar
from tests.integration.provisioner.conftest import ScriptedServer, build, config, template_import
from warren.clock import SystemClock
from warren.provisioner.daemon import DaemonConfig, ProvisionerDaemon
from warren.rpc._pb import provisioner_pb2 as pb
from warren.rpc._pb import provisionerd_pb2 as pbd

pytestmark = pytest.mark.anyio

RICH = Path(__file__).with_name("rich.tf").read_text()


async def test_an_import_tells_everything_about_a_rich_template(server: ScriptedServer) -> None:
    outcome = await server.run(template_import(tar({"main.tf": RICH, "README.md": "# Rich\n"})))
    assert isinstance(outcome, pbd.CompletedJob), (outcome, server.text())
    result = outcome.template_import
    assert [(item.type, item.name, [agent.name for agent in item.agents]) for item in result.start_resources] == [
        ("coder_env", "e", []),
        ("terraform_data", "disk", []),
        ("terraform_data", "ws", ["main"]),
    ]
    assert [item.name for item in result.stop_resources] == ["e", "disk"]
    assert [item.name for item in result.rich_parameters] == ["cpu", "debug", "name", "region", "tags"]
    cpu = result.rich_parameters[0]
    assert (cpu.validation_min, cpu.validation_max, cpu.validation_monotonic) == (1, 8, "increasing")
    assert cpu.form_type == pb.INPUT
    assert not cpu.required
    assert [(item.name, item.default) for item in result.presets] == [("Small", True)]
    assert {item.name: item.value for item in result.presets[0].parameters} == {"cpu": "2", "region": "eu"}
    assert json.loads(result.plan)["format_version"]
    declared = [update for update in server.updates if update.template_variables]
    assert [item.name for item in declared[0].template_variables] == ["greeting", "secret"]
    assert declared[0].readme == b"# Rich\n"
    stages = {line.stage for line in server.lines()}
    assert {"Setting up", "Initializing Terraform Directory", "Detecting persistent resources", "Cleaning Up"} <= stages


async def test_a_build_starts_stops_and_deletes(server: ScriptedServer) -> None:
    source = tar({"main.tf": RICH})
    started = await server.run(build(source))
    assert isinstance(started, pbd.CompletedJob), (started, server.text())
    agent = started.workspace_build.resources[-1].agents[0]
    assert len(agent.token) == 36
    assert sorted(app.slug for app in agent.apps) == ["docs", "top", "web"]
    assert [script.display_name for script in agent.scripts] == ["Bye", "Hello"]
    assert [(env.name, env.value) for env in agent.extra_envs] == [("EXTRA", "yes")]
    disk = started.workspace_build.resources[1]
    assert (disk.daily_cost, disk.icon) == (3, "/icon/database.svg")
    assert [(item.key, item.value, item.sensitive) for item in disk.metadata] == [
        ("size", "10 GiB", False),
        ("password", "hidden", True),
    ]
    again = await server.run(build(source, started.workspace_build.state))
    assert isinstance(again, pbd.CompletedJob)
    assert again.workspace_build.resources[-1].agents[0].token != agent.token
    stopped = await server.run(build(source, again.workspace_build.state, pb.STOP))
    assert isinstance(stopped, pbd.CompletedJob)
    assert [item.name for item in stopped.workspace_build.resources] == ["e", "disk"]
    deleted = await server.run(build(source, stopped.workspace_build.state, pb.DESTROY))
    assert isinstance(deleted, pbd.CompletedJob)
    assert not deleted.workspace_build.resources
    assert json.loads(deleted.workspace_build.state)["resources"] == []


async def test_a_build_after_the_import_runs_no_init(server: ScriptedServer) -> None:
    source = tar({"main.tf": RICH})
    await server.run(template_import(source))
    server.updates.clear()
    began = time.monotonic()
    outcome = await server.run(build(source))
    print("build job:", time.monotonic() - began)
    assert isinstance(outcome, pbd.CompletedJob)
    assert "Terraform has been successfully initialized" not in server.text()


async def test_a_dry_run_tells_what_a_start_would_make(server: ScriptedServer) -> None:
    job = pbd.AcquiredJob(
        template_source_archive=tar({"main.tf": RICH}),
        user_name="bob",
        template_dry_run=pbd.AcquiredJob.TemplateDryRun(
            rich_parameter_values=[pb.RichParameterValue(name="cpu", value="4")]
        ),
    )
    outcome = await server.run(job)
    assert isinstance(outcome, pbd.CompletedJob), server.text()
    resources = outcome.template_dry_run.resources
    assert [(item.name, [agent.name for agent in item.agents]) for item in resources] == [
        ("e", []),
        ("disk", []),
        ("ws", ["main"]),
    ]
    job.template_dry_run.rich_parameter_values[0].value = "99"
    job.job_id = ""
    refused = await server.run(job)
    assert isinstance(refused, pbd.FailedJob)
    assert refused.error.startswith("run dry-run provision job: terraform plan: exit status 1")


async def test_a_build_may_ask_for_what_terraform_does_inside(server: ScriptedServer) -> None:
    source = tar({"main.tf": 'resource "terraform_data" "a" {}\n'})
    quiet = build(source)
    quiet.workspace_build.log_level = "warn"
    assert isinstance(await server.run(quiet), pbd.CompletedJob)
    assert not [line for line in server.lines() if line.source == pbd.PROVISIONER and line.level < pb.WARN]
    server.updates.clear()
    loud = build(source)
    loud.workspace_build.log_level = "debug"
    assert isinstance(await server.run(loud), pbd.CompletedJob)
    assert [line for line in server.lines() if line.level == pb.DEBUG]


async def test_daemons_share_a_cache(tmp_path: Path) -> None:
    source = tar({"main.tf": RICH})
    async with ScriptedServer().running() as server, anyio.create_task_group() as tasks:
        daemons = [
            ProvisionerDaemon(DaemonConfig(f"d{number}", config(tmp_path), 0.2), server.connect, SystemClock())
            for number in range(3)
        ]
        for daemon in daemons:
            tasks.start_soon(daemon.run)
        for make in (template_import, build):
            job_ids = [await server.submit(make(source)) for _ in range(6)]
            for job_id in job_ids:
                outcome = await server.outcome(job_id)
                assert isinstance(outcome, pbd.CompletedJob), server.text()
        for daemon in daemons:
            daemon.stop()
    assert len(list((tmp_path / "frozen").glob("*/graph.dot"))) >= 1
    assert not list((tmp_path / "jobs").iterdir())
