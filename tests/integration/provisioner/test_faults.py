"""What goes wrong in a job: the state must come back, the reason must be told, nothing may be left running."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from uuid import uuid4

import anyio
import pytest
from anyio.abc import ByteStream

from tests.archives import tar
from tests.integration.provisioner.conftest import ScriptedServer, build, config, eventually, template_import
from warren.clock import SystemClock
from warren.errors import Conflict, Forbidden
from warren.provisioner.daemon import HARD_CLOSE, KILLED, DaemonConfig, ProvisionerDaemon
from warren.provisioner.workdir import Cache, recover
from warren.rpc._pb import provisioner_pb2 as pb
from warren.rpc._pb import provisionerd_pb2 as pbd

pytestmark = pytest.mark.anyio

_CODER = 'terraform {\n  required_providers {\n    coder = { source = "coder/coder" }\n  }\n}\n'

HALF = tar(
    {
        "main.tf": _CODER
        + """
resource "terraform_data" "first" { input = "made" }
resource "terraform_data" "second" {
  input = terraform_data.first.output
  provisioner "local-exec" { command = "echo no room left >&2; exit 7" }
}
"""
    }
)


def slow(folder: Path) -> bytes:
    """Make a template that makes one thing, and then takes very long."""
    return tar(
        {
            "main.tf": f"""
resource "terraform_data" "first" {{ input = "made" }}
resource "terraform_data" "slow" {{
  input = terraform_data.first.output
  provisioner "local-exec" {{ command = "touch {folder}/began; exec sleep 600" }}
}}
"""
        }
    )


def made(state: bytes) -> list[str]:
    return [item["name"] for item in json.loads(state)["resources"]]


async def began(folder: Path) -> None:
    await eventually((folder / "began").exists)


async def test_a_failing_apply_keeps_what_was_made(server: ScriptedServer) -> None:
    outcome = await server.run(build(HALF))
    assert isinstance(outcome, pbd.FailedJob)
    assert outcome.error.startswith("terraform apply: exit status 1")
    assert "first" in made(outcome.workspace_build.state)
    assert "no room left" in server.text()
    assert outcome.workspace_build.timings
    deleted = await server.run(build(HALF, outcome.workspace_build.state, pb.DESTROY))
    assert isinstance(deleted, pbd.CompletedJob), server.text()
    assert made(deleted.workspace_build.state) == []


async def test_a_cancelled_apply_keeps_what_was_made(server: ScriptedServer, tmp_path: Path) -> None:
    job_id = await server.submit(build(slow(tmp_path)))
    await began(tmp_path)
    server.canceled.add(job_id)
    outcome = await server.outcome(job_id)
    assert isinstance(outcome, pbd.FailedJob)
    assert outcome.error.startswith("terraform apply: ")
    assert "first" in made(outcome.workspace_build.state)
    assert "nterrupt" in server.text()


async def test_bad_hcl_is_told_with_file_and_line(server: ScriptedServer) -> None:
    outcome = await server.run(template_import(tar({"main.tf": 'resource "x" "y" {\n  name = \n}\n'})))
    assert isinstance(outcome, pbd.FailedJob)
    assert outcome.error.startswith("template import init error: initialize terraform: exit status 1")
    assert "(main.tf:2)" in outcome.error
    assert "on main.tf line 2" in server.text()


async def test_a_template_without_an_agent_imports(server: ScriptedServer) -> None:
    outcome = await server.run(template_import(tar({"main.tf": 'resource "terraform_data" "a" {}\n'})))
    assert isinstance(outcome, pbd.CompletedJob), server.text()
    assert [item.name for item in outcome.template_import.start_resources] == ["a"]
    assert not any(item.agents for item in outcome.template_import.start_resources)


async def test_a_refused_value_is_told(server: ScriptedServer) -> None:
    source = tar(
        {
            "main.tf": _CODER
            + 'data "coder_parameter" "n" {\n  name = "n"\n  type = "number"\n'
            + "  default = 2\n  validation {\n    max = 3\n  }\n}\n"
        }
    )
    outcome = await server.run(build(source, n="9"))
    assert isinstance(outcome, pbd.FailedJob)
    assert outcome.error.startswith("terraform plan: exit status 1")
    assert "value 9 is more than the maximum 3" in server.text()


async def test_a_missing_variable_is_told(server: ScriptedServer) -> None:
    outcome = await server.run(build(tar({"main.tf": 'variable "zone" {}\n'})))
    assert isinstance(outcome, pbd.FailedJob)
    assert outcome.error.startswith("terraform plan:")
    assert "No value for required variable" in server.text()


async def test_a_quota_refusal_ends_the_build_before_anything_is_made(server: ScriptedServer) -> None:
    server.budget = 1
    source = tar(
        {
            "main.tf": _CODER
            + 'resource "terraform_data" "a" {}\n'
            + 'resource "coder_metadata" "a" {\n  resource_id = terraform_data.a.id\n  daily_cost = 2\n}\n'
        }
    )
    outcome = await server.run(build(source))
    assert isinstance(outcome, pbd.FailedJob)
    assert (outcome.error, outcome.error_code) == ("insufficient quota", "INSUFFICIENT_QUOTA")
    assert not outcome.workspace_build.state
    assert "Creating..." not in server.text()


async def test_an_archive_that_climbs_out_is_refused(server: ScriptedServer, tmp_path: Path) -> None:
    outcome = await server.run(build(tar({"../../../outside": "x"})))
    assert isinstance(outcome, pbd.FailedJob)
    assert outcome.error == 'extract template archive: refusing to extract to non-local path "../../../outside"'
    assert not any(name == "outside" for _, _, names in os.walk(tmp_path) for name in names)


async def test_a_state_inside_a_template_is_not_the_workspaces(server: ScriptedServer) -> None:
    state = '{"version": 4, "terraform_version": "1.11.4", "serial": 1, "lineage": "x", "outputs": {}, "resources": ['
    state += (
        '{"mode": "managed", "type": "terraform_data", "name": "foreign", "instances": [{"attributes": {"id": "x"}}],'
    )
    state += '"provider": "provider[\\"terraform.io/builtin/terraform\\"]"}]}'
    files = {"main.tf": 'resource "terraform_data" "own" {}\n', "terraform.tfstate": state}
    files[".terraform/modules/modules.json"] = "no JSON"
    outcome = await server.run(build(tar(files)))
    assert isinstance(outcome, pbd.CompletedJob), server.text()
    assert "foreign" not in server.text()
    assert made(outcome.workspace_build.state) == ["own"]


async def test_a_daemon_that_is_refused_says_so(tmp_path: Path) -> None:
    async def refuse() -> ByteStream:
        raise Forbidden("no such key")

    daemon = ProvisionerDaemon(DaemonConfig("d", config(tmp_path / "cache"), 0.2), refuse, SystemClock())
    with pytest.raises(Forbidden, match="no such key"):
        await daemon.run()


async def test_a_replaced_resource_is_warned_of(server: ScriptedServer) -> None:
    first = tar({"main.tf": 'resource "terraform_data" "a" {\n  triggers_replace = "1"\n}\n'})
    second = tar({"main.tf": 'resource "terraform_data" "a" {\n  triggers_replace = "2"\n}\n'})
    made_first = await server.run(build(first))
    assert isinstance(made_first, pbd.CompletedJob)
    outcome = await server.run(build(second, made_first.workspace_build.state))
    assert isinstance(outcome, pbd.CompletedJob)
    replaced = outcome.workspace_build.resource_replacements
    assert [(item.resource, list(item.paths)) for item in replaced] == [("terraform_data.a", ["triggers_replace"])]
    assert '      ~ triggers_replace: "1" -> "2" (forces replacement)' in server.text()


async def test_a_job_that_somebody_else_has_now_is_given_up(server: ScriptedServer, tmp_path: Path) -> None:
    await server.submit(build(slow(tmp_path)))
    await began(tmp_path)
    server.refusal = Conflict("you don't own this job")
    await eventually(lambda: not any(str(tmp_path) in command for command in commands()))


async def test_cancelling_the_daemon_fails_its_job_with_the_state(tmp_path: Path) -> None:
    job_id = ""
    async with ScriptedServer().running() as server:
        settings = DaemonConfig("d", config(tmp_path / "cache"), 0.2)
        daemon = ProvisionerDaemon(settings, server.connect, SystemClock())
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(daemon.run)
            job_id = await server.submit(build(slow(tmp_path)))
            await began(tmp_path)
            tasks.cancel_scope.cancel()
        outcome = await server.outcome(job_id)
    assert isinstance(outcome, pbd.FailedJob)
    assert outcome.error == HARD_CLOSE
    assert "first" in made(outcome.workspace_build.state)
    assert not list((tmp_path / "cache" / "jobs").iterdir())


async def test_a_stopped_daemon_finishes_its_job_first(tmp_path: Path) -> None:
    source = tar(
        {"main.tf": 'resource "terraform_data" "a" {\n  provisioner "local-exec" { command = "sleep 0.5" }\n}\n'}
    )
    async with ScriptedServer().running() as server:
        daemon = ProvisionerDaemon(DaemonConfig("d", config(tmp_path / "cache"), 0.2), server.connect, SystemClock())
        job_id = ""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(daemon.run)
            job_id = await server.submit(build(source))
            await server.logged("Creating...")
            daemon.stop()
        outcome = await server.outcome(job_id)
    assert isinstance(outcome, pbd.CompletedJob)


async def test_an_idle_daemon_stops_at_once(tmp_path: Path) -> None:
    async with ScriptedServer().running() as server:
        daemon = ProvisionerDaemon(DaemonConfig("d", config(tmp_path / "cache"), 0.2), server.connect, SystemClock())
        with anyio.fail_after(20):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(daemon.run)
                await anyio.wait_all_tasks_blocked()
                daemon.stop()


async def test_a_lost_connection_does_not_disturb_a_job(tmp_path: Path) -> None:
    source = tar(
        {"main.tf": 'resource "terraform_data" "a" {\n  provisioner "local-exec" { command = "sleep 0.5" }\n}\n'}
    )
    async with ScriptedServer().running() as server, anyio.create_task_group() as tasks:
        daemon = ProvisionerDaemon(DaemonConfig("d", config(tmp_path / "cache"), 0.2), server.connect, SystemClock())
        tasks.start_soon(daemon.run)
        job_id = await server.submit(build(source))
        await server.logged("Creating...")
        server.drop_connections()
        outcome = await server.outcome(job_id)
        daemon.stop()
        assert isinstance(outcome, pbd.CompletedJob)
        assert "Creation complete" in server.text()


_DAEMON = """
import anyio, os, sys
from pathlib import Path
from tests.integration.provisioner.conftest import ScriptedServer, build, config
from tests.integration.provisioner.test_faults import slow
from warren.clock import SystemClock
from warren.provisioner.daemon import DaemonConfig, ProvisionerDaemon

async def main(folder, job_id):
    async with ScriptedServer().running() as server, anyio.create_task_group() as tasks:
        daemon = ProvisionerDaemon(DaemonConfig("d", config(folder / "cache"), 0.2), server.connect, SystemClock())
        tasks.start_soon(daemon.run)
        job = build(slow(folder))
        job.job_id = job_id
        await server.run(job)

anyio.run(main, Path(sys.argv[1]), sys.argv[2])
"""


async def killed_in_a_job(folder: Path) -> str:
    """Kill a daemon in the middle of an apply; give the job's ID."""
    job_id = str(uuid4())
    root = Path(__file__).parents[3]
    process = await anyio.open_process(
        [sys.executable, "-c", _DAEMON, str(folder), job_id], cwd=root, stdout=None, stderr=None
    )
    async with process:
        await began(folder)
        os.kill(process.pid, signal.SIGKILL)
    return job_id


async def test_the_state_of_a_killed_daemon_can_be_recovered(tmp_path: Path) -> None:
    job_id = await killed_in_a_job(tmp_path)
    state = await recover(Cache(tmp_path / "cache"), job_id)
    assert state is not None
    assert "first" in made(state)
    assert not any(str(tmp_path) in command for command in commands())
    assert await recover(Cache(tmp_path / "cache"), str(uuid4())) is None


async def test_a_state_that_was_cut_off_while_it_was_written_is_the_one_before(tmp_path: Path) -> None:
    job_id = await killed_in_a_job(tmp_path)
    cache = Cache(tmp_path / "cache")
    last = await recover(cache, job_id)
    assert last is not None
    for left in (last[: len(last) // 2], b""):
        (cache.job_folder(job_id) / "terraform.tfstate").write_bytes(left)
        state = await recover(cache, job_id)
        assert state is not None
        assert "first" in made(state)
    cache.forget(job_id)
    assert [path.name for path in cache.jobs.iterdir() if job_id in path.name] == []


async def test_a_daemon_that_comes_back_hands_over_what_it_was_killed_in(tmp_path: Path) -> None:
    job_id = await killed_in_a_job(tmp_path)
    async with ScriptedServer().running() as server, anyio.create_task_group() as tasks:
        daemon = ProvisionerDaemon(DaemonConfig("d", config(tmp_path / "cache"), 0.2), server.connect, SystemClock())
        tasks.start_soon(daemon.run)
        with anyio.fail_after(20):
            outcome = await server.outcome(job_id)
        assert isinstance(outcome, pbd.FailedJob)
        assert outcome.error == KILLED
        assert "first" in made(outcome.workspace_build.state)
        after = await server.run(build(HALF, outcome.workspace_build.state, pb.DESTROY))
        assert isinstance(after, pbd.CompletedJob)
        daemon.stop()
    assert not list((tmp_path / "cache" / "jobs").iterdir())


def commands() -> list[str]:
    """List the command lines of everything that runs."""
    found: list[str] = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(entry.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue
    return found


_FULL_DISK = """
import anyio, os, subprocess, sys
from tests.archives import tar
from pathlib import Path
from tests.integration.provisioner.conftest import ScriptedServer, build, config
from warren.clock import SystemClock
from warren.provisioner.daemon import DaemonConfig, ProvisionerDaemon

async def main(folder):
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(folder)], check=True)
    small = tar({"main.tf": 'resource "terraform_data" "a" {}'})
    large = tar({"main.tf": "", "large": "x" * (2 << 20)})
    async with ScriptedServer().running() as server, anyio.create_task_group() as tasks:
        daemon = ProvisionerDaemon(DaemonConfig("d", config(folder), 0.2), server.connect, SystemClock())
        tasks.start_soon(daemon.run)
        print("large:", (await server.run(build(large))).error)
        print("small:", type(await server.run(build(small))).__name__)
        daemon.stop()

anyio.run(main, Path(sys.argv[1]))
"""


async def test_a_full_disk_fails_the_job_and_not_the_daemon(tmp_path: Path) -> None:
    unshare = ["unshare", "--user", "--map-root-user", "--mount"]
    if (await anyio.run_process([*unshare, "true"], check=False)).returncode:
        pytest.skip("a file system of its own needs user namespaces, which are refused here")
    root = Path(__file__).parents[3]
    done = await anyio.run_process(
        [*unshare, sys.executable, "-c", _FULL_DISK, str(tmp_path)], cwd=root, check=False, stderr=None
    )
    output = done.stdout.decode()
    assert "No space left on device" in output
    assert "small: CompletedJob" in output


async def test_a_job_that_makes_no_sense_does_not_end_the_daemon(server: ScriptedServer) -> None:
    job = build(HALF)
    job.workspace_build.metadata.ParseFromString(b"\x10\x63")  # a transition that nobody knows
    outcome = await server.run(job)
    assert isinstance(outcome, pbd.FailedJob)
    assert outcome.error == "internal error of the provisioner daemon"
    empty = await server.run(pbd.AcquiredJob())
    assert isinstance(empty, pbd.FailedJob)
    assert empty.error == 'unknown job type "None"'
    assert isinstance(await server.run(build(tar({"main.tf": ""}))), pbd.CompletedJob)
