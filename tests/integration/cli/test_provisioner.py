"""`warren provisioner`: daemons of their own, with real Terraform, for a server that has none built in."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio
import pytest
from anyio.abc import Process

from tests.integration.cli.runner import Runner
from tests.server import Site
from warren.sdk.types.templates import CreateTemplateVersion

pytestmark = pytest.mark.anyio

SLOW = """
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
    command = "SLOWLY"
  }
}
"""


@dataclass
class Daemon:
    """A running `warren provisioner start`."""

    process: Process
    log: Path

    async def says(self, words: str) -> None:
        """Wait until it logged something."""
        with anyio.fail_after(15):
            while words not in self.log.read_text():
                assert self.process.returncode is None, self.log.read_text()
                await anyio.sleep(0.02)

    async def ended(self) -> int:
        """Wait for the end of the process."""
        with anyio.fail_after(15):
            return await self.process.wait()


@dataclass
class Farm:
    """A server without built-in daemons, `warren` signed in to it, and a key for daemons."""

    site: Site
    cli: Runner
    key: str
    folder: Path

    @asynccontextmanager
    async def daemon(self, *words: str, name: str = "ext") -> AsyncGenerator[Daemon]:
        """Run a daemon until the end of the block."""
        log = self.folder / f"{name}.log"
        cache = str(self.folder / "daemons")
        command = [sys.executable, "-m", "warren", "provisioner", "start", "--name", name, "--cache-dir", cache, *words]
        environment = {name: value for name, value in self.cli.environment.items() if "TOKEN" not in name}
        environment["WARREN_CONFIG_DIR"] = str(self.folder / "nobody")
        environment["WARREN_PROVISIONER_DAEMON_KEY"] = self.key
        with log.open("ab") as output:
            process = await anyio.open_process(command, env=environment, stdout=output, stderr=output)
        daemon = Daemon(process, log)
        try:
            await daemon.says("server.connected")
            yield daemon
        finally:
            with anyio.CancelScope(shield=True):
                if process.returncode is None:
                    process.send_signal(signal.SIGCONT)
                    process.kill()
                await process.wait()

    async def begin_build(self, command: str) -> str:
        """Push the slow template, create a workspace of it and wait for its local-exec; return the build's id."""
        folder = self.folder / "slow"
        folder.mkdir()
        (folder / "main.tf").write_text(SLOW.replace("SLOWLY", command))
        await self.cli("templates", "push", "slow", "-d", str(folder), "--yes", "--ignore-lockfile")
        await self.cli("create", "dev", "--template", "slow", "--yes", "--no-wait")
        build = (await self.site.admin.workspaces.by_name("me", "dev")).latest_build.id
        with anyio.fail_after(15):
            async for line in self.site.admin.builds.logs(build):
                if "local-exec" in line.output:
                    break
        return str(build)

    async def result(self) -> tuple[str, str]:
        """Wait until the latest build of the workspace has ended; return its status and error."""
        with anyio.fail_after(18):
            while True:
                job = (await self.site.admin.workspaces.by_name("me", "dev")).latest_build.job
                if job.status not in ("pending", "running", "canceling"):
                    return job.status, job.error
                await anyio.sleep(0.05)


@pytest.fixture
async def farm(server: Site, tmp_path: Path) -> Farm:
    variables = {"WARREN_URL": server.url, "WARREN_SESSION_TOKEN": server.admin.token}
    cli = Runner(tmp_path / "config", variables)
    made = await cli("provisioner", "keys", "create", "farm")
    return Farm(server, cli, made.stdout.strip(), tmp_path)


async def test_an_external_daemon_builds_a_workspace_of_the_local_template(farm: Farm) -> None:
    template = farm.folder / "local"
    await farm.cli("templates", "init", "--id", "local", str(template))
    async with farm.daemon() as daemon:
        words = ("templates", "push", "local", "-d", str(template), "--yes", "--ignore-lockfile")
        await farm.cli(*words, "--variable", f"data_dir={farm.folder}/data")
        await farm.cli("create", "dev", "--template", "local", "--yes")
        (home,) = (farm.folder / "data").iterdir()
        assert (home / "agent.pid").is_file()
        (listed,) = json.loads((await farm.cli("provisioner", "list", "-o", "json")).stdout)
        assert (listed["name"], listed["key_name"], listed["status"]) == ("ext", "farm", "idle")
        assert listed["previous_job"]["template_name"] == "local"
        jobs = json.loads((await farm.cli("provisioner", "jobs", "list", "-s", "succeeded", "-o", "json")).stdout)
        assert [(job["type"], job["worker_name"]) for job in jobs] == [
            ("workspace_build", "ext"),
            ("template_version_import", "ext"),
        ]
        await farm.cli("delete", "dev", "--yes")
        assert not home.exists()
        daemon.process.send_signal(signal.SIGTERM)
        assert await daemon.ended() == 0
    assert "provisioner_daemon.stopped" in daemon.log.read_text()


async def test_the_job_of_a_killed_daemon_ends_with_its_state_when_the_daemon_comes_back(farm: Farm) -> None:
    async with farm.daemon() as first:
        build = await farm.begin_build("sleep 60")
        first.process.kill()
        await first.ended()
    async with farm.daemon():
        status, error = await farm.result()
        assert (status, "was killed while it ran this job" in error) == ("failed", True), error
        assert "made before the end" in (await farm.cli("state", "pull", "dev")).stdout, build
        await farm.cli("delete", "dev", "--yes")


@pytest.mark.slow
async def test_a_daemon_that_fell_silent_loses_its_job_and_learns_of_it(farm: Farm) -> None:
    async with farm.daemon() as daemon:
        await farm.begin_build("sleep 60")
        daemon.process.send_signal(signal.SIGSTOP)
        status, error = await farm.result()
        assert (status, "stopped renewing the lease" in error) == ("failed", True), error
        daemon.process.send_signal(signal.SIGCONT)
        await daemon.says("job.lost")
        await daemon.says("job.failed")
        assert "made before the end" in (await farm.cli("state", "pull", "dev")).stdout


@pytest.mark.parametrize(
    ("number", "command", "status"),
    [(signal.SIGTERM, "sleep 1.5", "succeeded"), (signal.SIGINT, "sleep 60", "failed")],
    ids=["finishes", "cancels"],
)
async def test_stopping_a_busy_daemon(farm: Farm, number: signal.Signals, command: str, status: str) -> None:
    async with farm.daemon() as daemon:
        await farm.begin_build(command)
        daemon.process.send_signal(number)
        assert (await farm.result())[0] == status
        assert await daemon.ended() == 0


async def test_a_second_signal_does_not_wait(farm: Farm) -> None:
    async with farm.daemon() as daemon:
        await farm.begin_build("sleep 60")
        daemon.process.send_signal(signal.SIGTERM)
        await daemon.says("provisioner_daemon.signalled")
        daemon.process.send_signal(signal.SIGTERM)
        assert await farm.result() == ("failed", "provisioner daemon was shutdown gracefully")
        assert await daemon.ended() == 0


async def test_a_user_may_run_a_daemon_with_tags(farm: Farm) -> None:
    farm.key = ""
    token = ("--token", farm.site.admin.token)
    async with farm.daemon(*token, "--tag", "env=gpu"):
        table = (await farm.cli("provisioner", "list", "-c", "name,key name,tags")).stdout.splitlines()
        assert [line.split() for line in table[1:]] == [["ext", "user-auth", "env=gpu", "scope=organization"]]


async def test_what_a_daemon_is_refused_for(farm: Farm) -> None:
    start = ("provisioner", "start", "--name", "ext", "-c", str(farm.folder / "daemons"))
    async with farm.daemon():
        again = await farm.cli(*start, "--key", farm.key, status=1)
        assert "a daemon named `ext` runs here already" in again.stderr
    for words, reason in (
        (("--key", "a", "--psk", "b"), "--key and --psk cannot be used together"),
        (("--key", farm.key, "--tag", "env=gpu"), "--tag cannot be used with --key"),
        (("--key", "nonsense"), "Provisioner daemon key invalid"),
        (("--psk", "wrong"), "authentication required"),
        (("--tag", "gpu"), "is not of the form key=value"),
        (("--name", "../x"), "is not a name for a daemon"),
        (("--coder-provider", "x"), "neither builtin nor registry"),
    ):
        refused = await farm.cli(*start, *words, status=1)
        assert reason in refused.stderr
        assert "Traceback" not in refused.stderr


async def test_keys_and_pending_jobs_from_the_command_line(farm: Farm) -> None:
    await farm.cli("provisioner", "keys", "create", "gpu", "--tag", "env=gpu")
    table = (await farm.cli("provisioner", "keys", "list", "-c", "name,tags")).stdout
    assert [line.split() for line in table.splitlines()[1:]] == [
        ["farm", "scope=organization"],
        ["gpu", "env=gpu", "scope=organization"],
    ]
    await farm.cli("provisioner", "keys", "delete", "gpu", "--yes")
    assert "gpu" not in (await farm.cli("provisioner", "keys", "list")).stdout
    assert "No provisioner daemons found." in (await farm.cli("provisioner", "list")).stderr

    admin = farm.site.admin
    organization = (await admin.organizations.mine())[0]
    file_id = await admin.templates.upload(b"\0" * 1024)
    await admin.templates.create_version(organization.id, CreateTemplateVersion(file_id=file_id))
    (pending,) = json.loads((await farm.cli("provisioner", "jobs", "list", "-i", "admin", "-o", "json")).stdout)
    assert pending["status"] == "pending"
    assert "Job canceled" in (await farm.cli("provisioner", "jobs", "cancel", pending["id"])).stderr
    listed = (await farm.cli("provisioner", "jobs", "list", "-c", "id,status")).stdout
    assert [line.split() for line in listed.splitlines()[1:]] == [[pending["id"], "canceled"]]
    assert "is not the id of a job" in (await farm.cli("provisioner", "jobs", "cancel", "x", status=1)).stderr
