"""What memory does an idle agent cost, in the server and in the workspace?"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import anyio
import psutil

from benchmarks.figures import UPSTREAM, Figure
from benchmarks.lab import Lab, lab
from warren.rpc import websocket
from warren.rpc._pb import agent_pb2
from warren.rpc.drpc import Client
from warren.rpc.methods import AgentAPI
from warren.rpc.multiplexer import Multiplexer

NAMES = ("agent_cost", "agent_rss")
AGENTS = 200

TEMPLATE = """
terraform {
  required_providers {
    coder = { source = "coder/coder" }
  }
}
"""

ONE_AGENT = """
resource "coder_agent" "a%(number)d" {
  os   = "linux"
  arch = "amd64"
}
resource "terraform_data" "m%(number)d" {
  input = coder_agent.a%(number)d.id
}
output "token%(number)d" { value = nonsensitive(coder_agent.a%(number)d.token) }
"""


def run() -> Iterator[Figure]:
    """Connect scripted agents and see how the server grows; then look at a real one."""
    with lab() as place:
        place.start()
        place.login()
        place.template()
        place.workspace()
        time.sleep(3)
        rss = [psutil.Process(pid).memory_info().rss / 1e6 for pid in place.agent_pids()]
        yield Figure("agent_rss", max(rss), "MB", 75, UPSTREAM)
        yield Figure("agent_cost", anyio.run(server_growth, place), "KiB", 350, UPSTREAM)


async def server_growth(place: Lab) -> float:
    """KiB that the server grows by for each connected agent."""
    tokens = make_agents(place)
    # The builds left free room in the server's memory, which would hide what the agents cost.
    place.stop()
    place.start()
    server = psutil.Process(place.process.pid)
    async with anyio.create_task_group() as tasks:
        await tasks.start(hold_agent, place.url, tokens[0])
        before = server.memory_info().rss
        for token in tokens[1:]:
            await tasks.start(hold_agent, place.url, token)
        await anyio.sleep(5)
        after = server.memory_info().rss
        tasks.cancel_scope.cancel()
    return (after - before) / 1024 / (len(tokens) - 1)


def make_agents(place: Lab) -> list[str]:
    """Create a workspace with many agents; return their tokens."""
    folder: Path = place.folder / "many"
    folder.mkdir()
    (folder / "main.tf").write_text(TEMPLATE + "".join(ONE_AGENT % {"number": number} for number in range(AGENTS)))
    place.run("templates", "push", "many", "--directory", str(folder), "--yes")
    place.run("create", "many", "--template", "many", "--yes", "--no-wait")
    while (status := place.get("/users/me/workspace/many")["latest_build"]["status"]) != "running":
        if status == "failed":
            raise RuntimeError("the workspace of many agents could not be built")
        time.sleep(0.2)
    state = json.loads(place.run("state", "pull", "many"))
    return [output["value"] for output in state["outputs"].values()]


async def hold_agent(url: str, token: str, *, task_status: anyio.abc.TaskStatus[None]) -> None:
    """Be an idle agent: connect, take the manifest, stay."""
    target = url.replace("http", "ws", 1) + "/api/v2/workspaceagents/me/rpc?version=2.0&role=agent"
    async with (
        websocket.connect(target, headers={"Coder-Session-Token": token}) as stream,
        Multiplexer(stream, client=True) as mux,
    ):
        await Client(mux).unary(AgentAPI.GetManifest, agent_pb2.GetManifestRequest())
        task_status.started()
        await anyio.sleep_forever()
