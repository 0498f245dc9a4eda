"""The starter template `local`, with a stand-in on the PATH for nothing but the agent's own work."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncGenerator
from pathlib import Path

import anyio
import pytest

from tests.integration.provisioner.conftest import WORKSPACE_ID, ScriptedServer, build, config, eventually
from warren import starter_templates
from warren.clock import SystemClock
from warren.provisioner.daemon import DaemonConfig, ProvisionerDaemon
from warren.rpc._pb import provisioner_pb2 as pb
from warren.rpc._pb import provisionerd_pb2 as pbd

pytestmark = pytest.mark.anyio

# What `warren agent` is to the template: a process that tells what it was given, has a child that left its session
# (as a terminal's shell does), and ends itself, but not that child, when it is asked to.
_AGENT = """#!/bin/sh
[ "$1" = agent ] || exit 9
env >"$BINARY_DIR/seen.tmp"
setsid sleep 300 &
echo $! >"$BINARY_DIR/child"
mv "$BINARY_DIR/seen.tmp" "$BINARY_DIR/seen"
trap 'echo asked >"$BINARY_DIR/asked"; exit 0' TERM
while :; do sleep 0.1; done
"""


@pytest.fixture
async def local(tmp_path: Path) -> AsyncGenerator[ScriptedServer]:
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "warren").write_text(_AGENT)
    (programs / "warren").chmod(0o755)
    path = f"{programs}:{os.environ['PATH']}"
    async with ScriptedServer().running() as running, anyio.create_task_group() as tasks:
        provisioner = config(tmp_path / "cache", PATH=path, HOME=str(tmp_path), WARREN_SECRET="s", SSL_CERT_FILE="/ca")
        daemon = ProvisionerDaemon(DaemonConfig("test", provisioner, 0.2), running.connect, SystemClock())
        tasks.start_soon(daemon.run)
        yield running
        daemon.stop(cancel_job=True)


async def appears(path: Path) -> str:
    await eventually(path.exists)
    return await anyio.Path(path).read_text()


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def test_the_agent_lives_from_start_to_stop_and_the_home_folder_until_the_delete(
    local: ScriptedServer, tmp_path: Path
) -> None:
    source = starter_templates.find("local").archive
    folder = tmp_path / ".local/share/warren/workspaces" / WORKSPACE_ID

    started = await local.run(build(source))
    assert isinstance(started, pbd.CompletedJob), local.text()
    agent = started.workspace_build.resources[0].agents[0]
    seen = dict(line.split("=", 1) for line in (await appears(folder / "seen")).splitlines() if "=" in line)
    assert seen["CODER_AGENT_TOKEN"] == agent.token
    assert seen["CODER_AGENT_URL"] == "http://127.0.0.1:3999/"
    assert seen["HOME"] == str(folder / "home")
    assert not agent.directory  # the agent's own default is its home
    assert "Warning" not in local.text()
    assert seen["SSL_CERT_FILE"] == "/ca"
    assert "hush" not in seen.values()
    assert "WARREN_SECRET" not in seen
    first, child = int((folder / "agent.pid").read_text()), int((folder / "child").read_text())
    assert os.getsid(first) == first
    (folder / "home" / "kept").write_text("work")

    again = await local.run(build(source, started.workspace_build.state))
    assert isinstance(again, pbd.CompletedJob), local.text()
    assert not alive(first)
    assert not alive(child)
    second = int((folder / "agent.pid").read_text())
    assert alive(second)
    token = again.workspace_build.resources[0].agents[0].token
    await eventually(lambda: token in (folder / "seen").read_text())
    child = int((folder / "child").read_text())

    (folder / "asked").unlink()
    stopped = await local.run(build(source, again.workspace_build.state, pb.STOP))
    assert isinstance(stopped, pbd.CompletedJob), local.text()
    assert (folder / "asked").exists()
    assert not alive(second)
    assert not alive(child)
    assert (folder / "home" / "kept").read_text() == "work"

    deleted = await local.run(build(source, stopped.workspace_build.state, pb.DESTROY))
    assert isinstance(deleted, pbd.CompletedJob), local.text()
    assert not folder.exists()


async def test_a_delete_of_a_running_workspace_ends_an_agent_that_does_not_listen(
    local: ScriptedServer, tmp_path: Path
) -> None:
    source = starter_templates.find("local").archive
    started = await local.run(build(source))
    assert isinstance(started, pbd.CompletedJob), local.text()
    folder = tmp_path / ".local/share/warren/workspaces" / WORKSPACE_ID
    await appears(folder / "seen")
    agent, child = int((folder / "agent.pid").read_text()), int((folder / "child").read_text())
    os.kill(agent, signal.SIGKILL)  # it cannot end its child now
    deleted = await local.run(build(source, started.workspace_build.state, pb.DESTROY))
    assert isinstance(deleted, pbd.CompletedJob), local.text()
    assert not alive(child)
    assert not folder.exists()
