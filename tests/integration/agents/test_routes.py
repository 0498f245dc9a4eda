"""What agents and their clients ask over HTTP and WebSockets."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID, uuid4

import anyio
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.integration.agents.agency import APP_ID, DERP_MAP
from tests.integration.agents.http import Site
from tests.integration.routes import HEADER
from warren.errors import Forbidden, Invalid, NotFound, Unauthenticated
from warren.rpc._pb import agent_pb2, tailnet_pb2
from warren.rpc.drpc import Client
from warren.rpc.methods import AgentAPI, TailnetAPI

pytestmark = pytest.mark.anyio

# `Any`: JSON documents, whose shape the assertions state.
Document = dict[str, Any]


async def add_logs(client: Client, *outputs: str) -> None:
    lines = [agent_pb2.Log(output=output, level=agent_pb2.Log.INFO) for output in outputs]
    await client.unary(AgentAPI.BatchCreateLogs, agent_pb2.BatchCreateLogsRequest(logs=lines))


async def test_an_agent_is_served_over_a_websocket(site: Site) -> None:
    async with site.calls("/workspaceagents/me/rpc?version=2.10&role=agent", site.agency.token) as client:
        manifest = await client.unary(AgentAPI.GetManifest, agent_pb2.GetManifestRequest())
        assert manifest.workspace_name == "dev"
        async with client.stream(TailnetAPI.StreamDERPMaps) as call:
            await call.send(tailnet_pb2.StreamDERPMapsRequest())
            assert 999 in (await call.receive()).regions
        agent: Document = (await site.admin.get(f"/workspaceagents/{site.agency.agent_id}")).json()
        assert agent["status"] == "connected"
    assert site.agency.agent_id.bytes == manifest.agent_id


@pytest.mark.parametrize(
    ("query", "token", "error", "message"),
    [
        ("?version=9.0", None, Invalid, "Unknown or unsupported API version"),
        ("?version=2.99", None, Invalid, "Unknown or unsupported API version"),
        ("", "nonsense", Unauthenticated, "Workspace agent token invalid."),
        ("", str(UUID(int=5)), Unauthenticated, "Workspace agent not authorized."),
        ("", "", Unauthenticated, "must be provided"),
    ],
)
async def test_an_agent_is_refused_with_a_reason(
    site: Site, query: str, token: str | None, error: type[Exception], message: str
) -> None:
    credential = str(site.agency.token) if token is None else token
    with pytest.raises(error, match=message):
        async with site.socket(f"/workspaceagents/me/rpc{query}", credential):
            pass


async def test_an_agent_of_an_older_build_is_refused(site: Site) -> None:
    agency = site.agency
    await agency.world.build(agency.workspace, "stop")
    await agency.daemon.build(resources=None)
    await agency.world.build(agency.workspace, "start")
    with pytest.raises((Unauthenticated, Forbidden)):
        async with site.socket("/workspaceagents/me/rpc", agency.token):
            pass


async def test_a_text_message_ends_a_binary_connection(site: Site) -> None:
    url = site.url.replace("http", "ws", 1) + "/api/v2/workspaceagents/me/rpc"
    async with connect(url, additional_headers={HEADER: str(site.agency.token)}) as socket:
        await socket.send("hello")
        with anyio.fail_after(20), pytest.raises(ConnectionClosed):
            await socket.recv()
        assert socket.close_code == 1003


async def test_reading_an_agent(site: Site) -> None:
    answer = await site.admin.get(f"/workspaceagents/{site.agency.agent_id}")
    agent: Document = answer.json()
    assert answer.status_code == 200
    assert agent["name"] == "main"
    assert (agent["status"], agent["lifecycle_state"]) == ("connecting", "created")
    assert agent["health"] == {"healthy": False, "reason": "agent has not yet connected"}
    assert agent["parent_id"] is None
    assert "first_connected_at" not in agent
    assert agent["startup_script_behavior"] == "non-blocking"
    [script] = agent["scripts"]
    assert (script["script"], script["timeout"]) == ("echo hi", 0)
    assert "exit_code" not in script
    code, shell = agent["apps"]
    assert (code["id"], code["health"], code["sharing_level"]) == (str(APP_ID), "initializing", "owner")
    assert code["healthcheck"] == {"url": "http://localhost:8080/healthz", "interval": 5, "threshold": 3}
    assert shell["statuses"] == []
    assert (await site.member.get(f"/workspaceagents/{site.agency.agent_id}")).status_code == 404
    assert (await site.admin.get(f"/workspaceagents/{uuid4()}")).status_code == 404
    assert (await site.admin.get("/workspaceagents/nonsense")).status_code == 400


async def test_connection_info(site: Site) -> None:
    expected = {
        "derp_map": DERP_MAP.to_json(),
        "derp_force_websockets": False,
        "disable_direct_connections": False,
    }
    for path in (f"/workspaceagents/{site.agency.agent_id}/connection", "/workspaceagents/connection"):
        answer = await site.admin.get(path)
        assert (answer.status_code, answer.json()) == (200, expected)
    assert (await site.member.get(f"/workspaceagents/{site.agency.agent_id}/connection")).status_code == 404


async def test_a_client_coordinates_and_resumes(site: Site) -> None:
    path = f"/workspaceagents/{site.agency.agent_id}/coordinate?version=2.0"
    async with site.calls(path, site.admin_token) as client:
        token = (await client.unary(TailnetAPI.RefreshResumeToken, tailnet_pb2.RefreshResumeTokenRequest())).token
    async with site.calls(f"{path}&resume_token={token}", site.admin_token) as client:
        again = (await client.unary(TailnetAPI.RefreshResumeToken, tailnet_pb2.RefreshResumeTokenRequest())).token
    tokens = site.agency.resume_tokens
    assert await tokens.verify(token) == await tokens.verify(again)
    with pytest.raises(Unauthenticated) as caught:
        async with site.socket(f"{path}&resume_token=forged", site.admin_token):
            pass
    assert [(v.field, v.detail) for v in caught.value.violations] == [("resume_token", "Invalid resume token")]
    with pytest.raises(NotFound):
        async with site.socket(path, site.member_token):
            pass
    with pytest.raises(Invalid, match="Unknown or unsupported API version"):
        async with site.socket(f"/workspaceagents/{site.agency.agent_id}/coordinate", site.admin_token):
            pass


async def test_a_user_may_tunnel_to_agents_of_their_own_only(site: Site) -> None:
    agent_id = site.agency.agent_id
    tunnel = tailnet_pb2.CoordinateRequest(add_tunnel=tailnet_pb2.CoordinateRequest.Tunnel(id=agent_id.bytes))
    async with (
        site.calls("/tailnet", site.member_token) as client,
        client.stream(TailnetAPI.Coordinate) as call,
    ):
        await call.send(tunnel)
        with anyio.fail_after(20):
            error = (await call.receive()).error
        assert error == "authorization: workspace agent not found or you do not have permission"
    async with (
        site.calls("/tailnet?version=2.3", site.admin_token) as client,
        client.stream(TailnetAPI.Coordinate) as call,
        client.stream(TailnetAPI.WorkspaceUpdates) as updates,
    ):
        await call.send(tunnel)
        owner_id = site.agency.world.admin.user_id
        await updates.send(tailnet_pb2.WorkspaceUpdatesRequest(workspace_owner_id=owner_id.bytes))
        with anyio.fail_after(20):
            [workspace] = (await updates.receive()).upserted_workspaces
        assert (workspace.name, workspace.status) == ("dev", tailnet_pb2.Workspace.RUNNING)


async def test_the_derp_map_of_old_clients(site: Site) -> None:
    url = site.url.replace("http", "ws", 1) + "/api/v2/derp-map"
    async with connect(url, additional_headers={HEADER: site.admin_token}) as socket:
        message = await socket.recv()
        assert isinstance(message, bytes)
        assert json.loads(message) == DERP_MAP.to_json()
    with pytest.raises(InvalidStatus) as caught:
        await connect(url)
    assert caught.value.response.status_code == 401


async def test_logs_by_http_and_live(site: Site) -> None:
    path = f"/workspaceagents/{site.agency.agent_id}/logs"
    assert (await site.admin.get(path)).json() == []
    async with site.calls("/workspaceagents/me/rpc", site.agency.token) as client:
        await add_logs(client, "one", "<two>")
        [one, two] = (await site.admin.get(path)).json()
        assert (one["output"], two["output"], one["level"]) == ("one", "<two>", "info")
        assert [line["output"] for line in (await site.admin.get(path, params={"after": one["id"]})).json()] == [
            "<two>"
        ]
        text = await site.admin.get(path, params={"format": "text"})
        assert text.headers["content-type"] == "text/plain; charset=utf-8"
        assert [line.rsplit("] ", 1)[1] for line in text.text.splitlines()] == ["one", "<two>"]
        for bad in ({"after": "-1"}, {"after": "x"}, {"format": "xml"}):
            assert (await site.admin.get(path, params=bad)).status_code == 400
        url = f"{site.url.replace('http', 'ws', 1)}/api/v2{path}?follow&after={one['id']}"
        async with connect(url, additional_headers={"Cookie": f"coder_session_token={site.admin_token}"}) as socket:
            assert [line["output"] for line in json.loads(await socket.recv())] == ["<two>"]
            await add_logs(client, "three")
            with anyio.fail_after(20):
                assert [line["output"] for line in json.loads(await socket.recv())] == ["three"]
            await site.agency.world.build(site.agency.workspace, "stop")
            await add_logs(client, "four")
            with anyio.fail_after(20):
                assert [line["output"] for line in json.loads(await socket.recv())] == ["four"]
                with pytest.raises(ConnectionClosed):
                    await socket.recv()
            assert socket.close_code == 1000


async def test_metadata_as_events_and_on_a_socket(site: Site) -> None:
    path = f"/workspaceagents/{site.agency.agent_id}/watch-metadata"
    async with site.admin.stream("GET", path) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = answer.aiter_lines()
        while not (line := await anext(lines)).startswith("data: "):
            pass
    [load] = json.loads(line.removeprefix("data: "))
    assert load["description"] == {
        "display_name": "Load",
        "key": "load",
        "script": "uptime",
        "interval": 10,
        "timeout": 1,
    }
    assert load["result"]["collected_at"] == "0001-01-01T00:00:00Z"
    url = f"{site.url.replace('http', 'ws', 1)}/api/v2{path}-ws"
    async with connect(url, additional_headers={HEADER: site.admin_token}) as socket:
        while (message := json.loads(await socket.recv()))["type"] != "data":
            assert message["type"] == "ping"
        assert [item["description"]["key"] for item in message["data"]] == ["load"]
        await socket.send("not expected")
        with anyio.fail_after(20), pytest.raises(ConnectionClosed):
            while True:
                await socket.recv()
        assert socket.close_code == 1002


async def test_listening_ports_need_a_connected_agent(site: Site) -> None:
    answer = await site.admin.get(f"/workspaceagents/{site.agency.agent_id}/listening-ports")
    assert answer.status_code == 400
    assert answer.json()["message"] == 'Agent state is "connecting", it must be in the "connected" state.'


async def test_what_agents_do_by_rest(site: Site) -> None:
    source_id = str(uuid4())
    body = {"id": source_id, "display_name": "Setup", "icon": "/x.svg"}
    for _ in range(2):
        answer = await site.agent.post("/workspaceagents/me/log-source", json=body)
        assert answer.status_code == 201
        assert answer.json()["id"] == source_id
    logs: Document = {"log_source_id": source_id, "logs": [{"output": "hi", "level": ""}]}
    answer = await site.agent.patch("/workspaceagents/me/logs", json=logs)
    assert (answer.status_code, answer.text) == (200, "null\n")
    for bad, message in (([], "No logs provided."), ([{"level": "loud"}], "Invalid log level provided.")):
        answer = await site.agent.patch("/workspaceagents/me/logs", json=logs | {"logs": bad})
        assert (answer.status_code, answer.json()["message"]) == (400, message)
    logs["logs"] = [{"output": "x" * (1 << 20), "level": "info"}]
    answer = await site.agent.patch("/workspaceagents/me/logs", json=logs)
    assert (answer.status_code, answer.json()["message"]) == (413, "Logs limit exceeded")
    status = {"app_slug": "code", "state": "complete", "message": "done", "uri": "https://x"}
    answer = await site.agent.patch("/workspaceagents/me/app-status", json=status)
    assert (answer.status_code, answer.text) == (200, "null\n")
    answer = await site.agent.patch("/workspaceagents/me/app-status", json=status | {"state": "busy"})
    assert (answer.status_code, answer.json()["message"]) == (400, "Failed to parse request.")
    agent = (await site.admin.get(f"/workspaceagents/{site.agency.agent_id}")).json()
    assert [item["message"] for item in agent["apps"][0]["statuses"]] == ["done"]
    assert {source["display_name"] for source in agent["log_sources"]} == {"Hello", "Setup"}


async def test_what_agents_ask_by_rest(site: Site) -> None:
    admin_id = site.agency.world.admin.user_id
    assert (await site.agent.get("/workspaceagents/me/gitsshkey")).status_code == 404
    async with site.agency.world.pool.connection() as db:
        await db.execute("INSERT INTO git_ssh_keys VALUES (%s, 'private', 'public', now(), now())", (admin_id,))
    answer = await site.agent.get("/workspaceagents/me/gitsshkey")
    assert answer.json() == {"public_key": "public", "private_key": "private"}
    async with site.agency.world.pool.connection() as db:
        await db.execute("UPDATE workspace_agents SET api_key_scope = 'no_user_data'")
    assert (await site.agent.get("/workspaceagents/me/gitsshkey")).status_code == 403
    async with site.agency.world.pool.connection() as db:
        await db.execute("UPDATE workspace_agents SET api_key_scope = 'all'")
    for query, status in (({}, 400), ({"id": "a", "match": "b"}, 400), ({"match": "github.com"}, 404)):
        assert (await site.agent.get("/workspaceagents/me/external-auth", params=query)).status_code == status
    answer = await site.agent.get("/workspaceagents/me/reinit", params={"wait": "true"})
    assert answer.status_code == 409
    assert answer.json()["message"] == "Workspace is not a prebuilt workspace waiting to be claimed."
    assert (await site.admin.get("/workspaceagents/me/gitsshkey")).status_code == 401
