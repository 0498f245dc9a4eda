"""The life of the agent as a process, against a scripted control plane."""

# A test may block for a moment, and has nothing to wait on outside itself.
# ruff: noqa: ASYNC110, ASYNC210, ASYNC220, ASYNC221, ASYNC240

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from pathlib import Path
from uuid import UUID, uuid4

import anyio
import anyio.to_thread
import pytest

from tests.integration.agent.conftest import alive
from tests.integration.agent.control_plane import ControlPlane, control_plane
from warren.rpc._pb import agent_pb2 as pb

pytestmark = pytest.mark.anyio

TOKEN = "7ac7a67d-7a0f-4f1c-8f1d-6c7c4a1b2c3d"


@dataclass
class AgentProcess:
    process: subprocess.Popen[bytes]
    home: Path
    folder: Path

    async def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        with anyio.fail_after(15):
            return await anyio.to_thread.run_sync(self.process.wait)

    @property
    def log(self) -> str:
        return (self.folder / "coder-agent.log").read_text()


@asynccontextmanager
async def agent(plane: ControlPlane, folder: Path, **changes: str) -> AsyncGenerator[AgentProcess]:
    """Run an agent for a scripted control plane."""
    async with agent_process(f"http://127.0.0.1:{plane.port}", folder, **changes) as running:
        yield running


@asynccontextmanager
async def agent_process(url: str, folder: Path, **changes: str) -> AsyncGenerator[AgentProcess]:
    """Run `warren agent` in a home folder of its own."""
    home = folder / "home"
    home.mkdir(exist_ok=True)
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "CODER_AGENT_URL": url,
        "CODER_AGENT_TOKEN": TOKEN,
        "CODER_AGENT_LOG_DIR": str(folder),
        "CODER_AGENT_SCRIPT_DATA_DIR": str(folder),
        "CODER_AGENT_DEBUG_ADDRESS": "127.0.0.1:0",
        "CODER_AGENT_PROMETHEUS_ADDRESS": "127.0.0.1:0",
        **changes,
    }
    process = subprocess.Popen([sys.executable, "-m", "warren", "agent"], env=environment, stderr=subprocess.DEVNULL)
    try:
        yield AgentProcess(process, home, folder)
    finally:
        if process.poll() is None:
            process.kill()
        await anyio.to_thread.run_sync(process.wait)


def manifest(*scripts: tuple[str, str]) -> pb.Manifest:
    """Make a manifest; each script is `(when, text)`."""
    message = pb.Manifest(
        agent_id=uuid4().bytes,
        workspace_id=uuid4().bytes,
        owner_username="alice",
        workspace_name="dev",
        agent_name="main",
    )
    for when, text in scripts:
        message.scripts.add(
            id=uuid4().bytes,
            log_source_id=uuid4().bytes,
            script=text,
            run_on_start=when == "start",
            run_on_stop=when == "stop",
        )
    return message


async def test_start_and_stop(tmp_path: Path) -> None:
    message = manifest(("start", "echo hello; echo bad >&2; command -v coder"), ("stop", "echo bye > ~/stopped"))
    message.directory = "~/project"
    message.secrets.add(file_path="~/.config/secret", value=b"hush")
    async with control_plane(message) as plane, agent(plane, tmp_path) as running:
        await plane.wait_for(lambda: "READY" in plane.states())
        await plane.wait_for(lambda: len(plane.output()) >= 3)
        assert await running.stop() == 0
        request = plane.requests[0]
        assert request.path == "/api/v2/workspaceagents/me/rpc?version=2.10&role=agent"
        assert request.headers["Coder-Session-Token"] == TOKEN
        startup = plane.named("UpdateStartup")[0].startup
        assert startup.version.startswith("v0.")
        assert startup.expanded_directory == str(running.home / "project")
        assert plane.states() == ["STARTING", "READY", "SHUTTING_DOWN", "OFF"]
        assert sorted(plane.output())[:1] == [f"{tmp_path}/coder-script-data/program/coder"]
        assert {"hello", "bad"} <= set(plane.output())
        timings = [each.timing for each in plane.named("ScriptCompleted")]
        assert [(each.stage, each.status, each.exit_code) for each in timings] == [(0, 0, 0), (1, 0, 0)]
        assert (running.home / "stopped").read_text() == "bye\n"
        secret = running.home / ".config" / "secret"
        assert (secret.read_bytes(), secret.stat().st_mode & 0o777) == (b"hush", 0o600)


@pytest.mark.parametrize(
    ("when", "states"),
    [
        ("start", ["STARTING", "START_ERROR", "SHUTTING_DOWN", "OFF"]),
        ("stop", ["STARTING", "READY", "SHUTTING_DOWN", "SHUTDOWN_ERROR"]),
    ],
)
async def test_failing_scripts(tmp_path: Path, when: str, states: list[str]) -> None:
    async with control_plane(manifest((when, "exit 3"))) as plane, agent(plane, tmp_path) as running:
        await plane.wait_for(lambda: len(plane.states()) == 2)
        await running.stop()
        assert plane.states() == states


async def test_scripts_that_take_too_long(tmp_path: Path) -> None:
    message = manifest(("start", "exec sleep 60"), ("stop", "exec sleep 60"))
    for script in message.scripts:
        script.timeout.FromTimedelta(timedelta(seconds=0.2))
    async with control_plane(message) as plane, agent(plane, tmp_path) as running:
        await plane.wait_for(lambda: "START_TIMEOUT" in plane.states())
        await running.stop()
        assert plane.states()[2:] == ["SHUTTING_DOWN", "SHUTDOWN_TIMEOUT"]


async def test_a_lost_connection_repeats_nothing_and_loses_nothing(tmp_path: Path) -> None:
    text = "echo one; while [ ! -e ~/go ]; do sleep 0.05; done; echo two; echo ran >> ~/runs"
    async with control_plane(manifest(("start", text))) as plane, agent(plane, tmp_path) as running:
        await plane.wait_for(lambda: "one" in plane.output())
        plane.refusal = (HTTPStatus.SERVICE_UNAVAILABLE, "restarting")
        plane.connections[0].close()
        await plane.wait_for(lambda: len(plane.requests) >= 3)
        (running.home / "go").touch()
        with anyio.fail_after(20):
            while not (running.home / "runs").exists():
                await anyio.sleep(0.02)
        plane.refusal = None
        await plane.wait_for(lambda: "READY" in plane.states())
        await plane.wait_for(lambda: "two" in plane.output())
        assert plane.states() == ["STARTING", "READY"]
        assert plane.output() == ["one", "two"]
        assert len(plane.named("ScriptCompleted")) == 1
        assert len(plane.named("GetManifest")) == 2
        await running.stop()
        assert (running.home / "runs").read_text() == "ran\n"


async def test_a_refused_token_is_retried_until_it_works(tmp_path: Path) -> None:
    async with control_plane(manifest()) as plane:
        plane.refusal = (HTTPStatus.UNAUTHORIZED, '{"message":"Workspace agent not authorized."}')
        async with agent(plane, tmp_path) as running:
            await plane.wait_for(lambda: len(plane.requests) >= 2)
            assert "Workspace agent not authorized." in running.log
            plane.refusal = None
            await plane.wait_for(lambda: "READY" in plane.states())
            await running.stop()


async def test_a_call_that_fails_ends_the_connection_and_is_repeated(tmp_path: Path) -> None:
    async with control_plane(manifest()) as plane:
        plane.failing = {"UpdateLifecycle"}
        async with agent(plane, tmp_path):
            await plane.wait_for(lambda: len(plane.connections) >= 2)
            plane.failing = set()
            await plane.wait_for(lambda: plane.states().count("READY") == 1)
            assert plane.states()[-2:] == ["STARTING", "READY"]


async def test_refused_reports_are_dropped(tmp_path: Path) -> None:
    async with control_plane(manifest(("start", "true"))) as plane:
        plane.failing = {"ScriptCompleted"}
        async with agent(plane, tmp_path):
            await plane.wait_for(lambda: "READY" in plane.states() and plane.named("ScriptCompleted"))
            await plane.wait_for(lambda: len(plane.named("UpdateStats")) >= 3)
            assert len(plane.connections) == 1


async def test_a_bad_schedule_ends_the_first_connection_only(tmp_path: Path) -> None:
    message = manifest(("start", "touch ~/ran"))
    message.scripts[0].cron = "nonsense"
    async with control_plane(message) as plane, agent(plane, tmp_path) as running:
        await plane.wait_for(lambda: len(plane.connections) >= 2)
        await plane.wait_for(lambda: len(plane.named("UpdateStats")) >= 2)
        assert set(plane.states()) == {"STARTING"}
        assert not (running.home / "ran").exists()


async def test_too_much_output_stops_the_logs_only(tmp_path: Path) -> None:
    text = "echo first; sleep 0.5; seq 1 1000; touch ~/done"
    async with control_plane(manifest(("start", text))) as plane:
        plane.log_limit_exceeded = True
        async with agent(plane, tmp_path):
            await plane.wait_for(lambda: "READY" in plane.states())
            await plane.wait_for(lambda: len(plane.named("UpdateStats")) >= 4)
            assert plane.output() == ["first"]
            assert len(plane.connections) == 1


async def test_metadata_health_statistics_and_resources(tmp_path: Path) -> None:
    message = manifest()
    description = message.metadata.add(key="k", script="echo value")
    description.interval.FromNanoseconds(1)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        closed = taken.getsockname()[1]
    app = message.apps.add(id=UUID(int=5).bytes, slug="web", health=pb.WorkspaceApp.INITIALIZING)
    app.healthcheck.url = f"http://127.0.0.1:{closed}"
    app.healthcheck.interval.FromTimedelta(timedelta(seconds=0.1))
    app.healthcheck.threshold = 2
    async with control_plane(message) as plane:
        plane.plan.config.num_datapoints = 2
        plane.plan.config.collection_interval_seconds = 1
        plane.plan.memory.enabled = True
        plane.plan.volumes.add(enabled=True, path="/")
        async with agent(plane, tmp_path):
            await plane.wait_for(lambda: len(plane.named("BatchUpdateMetadata")) >= 2)
            assert plane.named("BatchUpdateMetadata")[0].metadata[0].result.value == "value\n"
            await plane.wait_for(lambda: plane.named("BatchUpdateAppHealths"))
            update = plane.named("BatchUpdateAppHealths")[0].updates[0]
            assert (UUID(bytes=update.id), update.health) == (UUID(int=5), pb.UNHEALTHY)
            await plane.wait_for(lambda: len(plane.named("UpdateStats")) >= 2)
            assert plane.named("UpdateStats")[1].stats.connection_median_latency_ms == -0.001
            await plane.wait_for(lambda: plane.named("PushResourcesMonitoringUsage"))
            points = plane.named("PushResourcesMonitoringUsage")[0].datapoints
            assert len(points) == 2
            assert 0 < points[0].memory.used < points[0].memory.total
            assert 0 < points[0].volumes[0].used <= points[0].volumes[0].total


async def test_what_the_agent_started_ends_with_it(tmp_path: Path) -> None:
    message = manifest(("start", "sleep 600 & echo $! > ~/pid; wait"))
    async with control_plane(message) as plane, agent(plane, tmp_path) as running:
        with anyio.fail_after(20):
            while not (running.home / "pid").exists() or not (running.home / "pid").read_text():
                await anyio.sleep(0.02)
        await running.stop()
        assert not alive(int((running.home / "pid").read_text()))


async def test_the_program_on_the_path_is_this_warren_wherever_it_is_run(tmp_path: Path) -> None:
    text = (
        "mkdir ~/trap; cd ~/trap; echo 'raise SystemExit(9)' > click.py; PYTHONPATH=. coder --version; warren --version"
    )
    async with control_plane(manifest(("start", text))) as plane, agent(plane, tmp_path):
        await plane.wait_for(lambda: len(plane.output()) >= 2)
        assert len(set(plane.output())) == 1
        assert plane.output()[0].startswith("Warren v")


async def test_a_second_signal_does_not_wait_for_stop_scripts(tmp_path: Path) -> None:
    message = manifest(("stop", "touch ~/stopping; exec sleep 600"))
    async with control_plane(message) as plane, agent(plane, tmp_path) as running:
        await plane.wait_for(lambda: "READY" in plane.states())
        running.process.send_signal(signal.SIGTERM)
        with anyio.fail_after(20):
            while not (running.home / "stopping").exists():
                await anyio.sleep(0.02)
        await running.stop()


async def test_a_data_folder_of_somebody_else_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "coder-script-data").mkdir()
    (tmp_path / "coder-script-data").chmod(0o777)
    async with (
        control_plane(manifest(("start", "echo $CODER_SCRIPT_BIN_DIR"))) as plane,
        agent(plane, tmp_path) as running,
    ):
        await plane.wait_for(lambda: plane.output())
        folder = Path(plane.output()[0]).parent
        assert folder.parent != tmp_path
        assert folder.stat().st_mode & 0o077 == 0
        assert "data_folder.not_ours" in running.log
    shutil.rmtree(folder)


async def test_process_one_reaps_and_passes_signals_on(tmp_path: Path) -> None:
    if subprocess.run(["unshare", "--pid", "--fork", "true"], check=False, capture_output=True).returncode:
        pytest.skip("PID namespaces are not allowed here")
    program = (
        "import os, signal, sys, time; from warren.agent.reaper import become_reaper; become_reaper();"
        "assert os.getpid() != 1; signal.signal(signal.SIGTERM, lambda *_: sys.exit(7));"
        "os.system('sleep 0.1 &'); print('working', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen(
        ["unshare", "--pid", "--fork", "--kill-child", sys.executable, "-c", program], stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        with anyio.fail_after(20):
            assert await anyio.to_thread.run_sync(process.stdout.readline) == b"working\n"
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
            os.kill(int(children.read_text().split()[0]), signal.SIGTERM)
            assert await anyio.to_thread.run_sync(process.wait) == 7
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


async def test_metrics_and_debug_on_loopback(tmp_path: Path) -> None:
    async with control_plane(manifest()) as plane:
        with socket.create_server(("127.0.0.1", 0)) as one:
            port = one.getsockname()[1]
        async with agent(plane, tmp_path, CODER_AGENT_PROMETHEUS_ADDRESS=f"127.0.0.1:{port}"):
            await plane.wait_for(lambda: len(plane.named("UpdateStats")) >= 2)
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
                text = answer.read().decode()
        assert 'warren_agent_lifecycle_state{state="ready"} 1' in text
        assert 'warren_agent_sessions{type="ssh"} 0' in text
        assert 'warren_agent_tunnel_bytes_total{direction="sent"}' in text


async def test_an_idle_agent_is_small(tmp_path: Path) -> None:
    async with control_plane(manifest()) as plane, agent(plane, tmp_path) as running:
        await plane.wait_for(lambda: len(plane.named("UpdateStats")) >= 6)
        status = Path(f"/proc/{running.process.pid}/status").read_text()
        resident_kib = int(status.partition("VmRSS:")[2].split()[0])
        assert resident_kib < 80 * 1024


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"CODER_AGENT_TOKEN": ""}, b"CODER_AGENT_TOKEN"),
        ({"CODER_AGENT_URL": "nowhere"}, b"not an http or https URL"),
        ({"CODER_AGENT_SUBSYSTEM": "windows"}, b"windows"),
        ({"CODER_AGENT_AUTH": "aws-instance-identity"}, b"not supported"),
    ],
)
def test_settings_that_cannot_work(tmp_path: Path, changes: dict[str, str], text: bytes) -> None:
    environment = {"PATH": os.environ["PATH"], "CODER_AGENT_TOKEN": TOKEN, "CODER_AGENT_URL": "http://127.0.0.1:1"}
    command = [sys.executable, "-m", "warren", "agent", "--log-dir", str(tmp_path)]
    result = subprocess.run(command, env=environment | changes, capture_output=True, timeout=15, check=False)
    assert result.returncode == 1
    assert text in result.stderr
