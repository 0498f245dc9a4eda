"""The speed test and the HTTP API over sockets."""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import AsyncGenerator
from pathlib import Path
from uuid import UUID

import anyio
import anyio.to_thread
import pytest

from tests.integration.agent.conftest import MANIFEST, listening
from warren.agent.api import Facts, tunnel_router
from warren.agent.http_server import serve_http
from warren.agent.linux import LinuxSystem
from warren.agent.log_files import FILE_NAME
from warren.agent.speedtest import serve_speedtest

pytestmark = pytest.mark.anyio


async def _speedtest(connection: socket.socket, ip: str) -> None:
    await serve_speedtest(connection)


def _download(port: int, seconds: float) -> tuple[bytes, int]:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        request = {"version": 2, "time": int(seconds * 1e9), "direction": 0}
        connection.sendall(json.dumps(request).encode() + b"\n")
        file = connection.makefile("rb")
        line, total = file.readline(), 0
        while data := file.read1(1 << 20):
            total += len(data)
        return line, total


def _upload(port: int, seconds: float) -> tuple[bytes, bytes]:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        request = json.dumps({"version": 2, "time": int(seconds * 1e9), "direction": 1}).encode() + b"\n"
        connection.sendall(request + b"\0" * 100_000)
        line = connection.makefile("rb").readline()
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            connection.sendall(b"\0" * 1_000_000)
        connection.shutdown(socket.SHUT_WR)
        return line, connection.recv(10)


async def test_speedtest_both_ways() -> None:
    async with listening(_speedtest) as port:
        line, total = await anyio.to_thread.run_sync(_download, port, 0.3)
        assert line == b"{}\n"
        assert total > 0
        assert total % (2 * 1024 * 1024) == 0, "whole blocks only"
        assert await anyio.to_thread.run_sync(_upload, port, 0.3) == (b"{}\n", b"")


async def test_a_refused_speedtest() -> None:
    async with listening(_speedtest) as port:
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(b'{"version":1,"time":1,"direction":0}\n')
            answer = await anyio.to_thread.run_sync(connection.makefile("rb").read)
        assert json.loads(answer)["error"].startswith("version mismatch!")


@pytest.fixture
def facts(tmp_path: Path) -> Facts:
    return Facts(LinuxSystem({"HOME": str(tmp_path)}), tmp_path)


@pytest.fixture
async def api(facts: Facts) -> AsyncGenerator[int]:
    router = tunnel_router(facts)

    async def serve(connection: socket.socket, ip: str) -> None:
        await serve_http(connection, router)

    async with listening(serve) as port:
        yield port


async def _ask(port: int, path: str, *, method: str = "GET", body: object = None) -> tuple[int, bytes]:
    def ask() -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request(method, path, None if body is None else json.dumps(body))
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    return await anyio.to_thread.run_sync(ask)


async def test_hello(api: int) -> None:
    status, body = await _ask(api, "/")
    assert (status, json.loads(body)) == (200, {"message": "Hello from the agent!"})


async def test_listening_ports(api: int, facts: Facts) -> None:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as own:
        facts.own_ports.add(own.getsockname()[1])
        _, body = await _ask(api, "/api/v0/listening-ports")
        ports = {entry["port"]: entry for entry in json.loads(body)["ports"]}
        entry = ports[one.getsockname()[1]]
        assert entry["network"] == "tcp"
        assert entry["process_name"]
        assert own.getsockname()[1] not in ports


async def test_logs(api: int, facts: Facts) -> None:
    (facts.log_folder / FILE_NAME).write_text("newest\n")
    (facts.log_folder / f"{FILE_NAME}.1").write_text("older\n")
    assert await _ask(api, "/debug/logs") == (200, b"newest\n")
    _, everything = await _ask(api, "/debug/logs?after=2020-01-01T00:00:00Z")
    assert everything.index(b"newest") < everything.index(b"older")
    assert f"=== {FILE_NAME}.1 (mtime ".encode() in everything
    _, recent = await _ask(api, "/debug/logs?after=2999-01-01T00:00:00Z")
    assert b"older" not in recent
    assert (await _ask(api, "/debug/logs?after=yesterday"))[0] == 400


async def test_the_manifest_is_shown_without_values(api: int, facts: Facts) -> None:
    assert (await _ask(api, "/debug/manifest"))[0] == 500
    from dataclasses import replace

    facts.manifest = replace(MANIFEST, environment={"PASSWORD": "hush", "EMPTY": ""})
    status, body = await _ask(api, "/debug/manifest")
    assert status == 200
    assert json.loads(body)["environment_variables"] == {"PASSWORD": "***REDACTED***", "EMPTY": ""}


async def test_containers_and_network_before_their_time(api: int, facts: Facts) -> None:
    status, body = await _ask(api, "/api/v0/containers")
    assert (status, json.loads(body)["message"]) == (403, "Dev Container feature not enabled.")
    from dataclasses import replace

    facts.manifest = replace(MANIFEST, parent_id=UUID(int=1))
    assert json.loads((await _ask(api, "/api/v0/containers"))[1])["message"] == "Dev Container feature not supported."
    assert (await _ask(api, "/debug/magicsock"))[0] == 500
    assert (await _ask(api, "/api/v0/netcheck"))[0] == 500
    assert (await _ask(api, "/debug/magicsock/debug-logging/maybe"))[0] == 400


async def test_list_directory(api: int, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    status, body = await _ask(api, "/api/v0/list-directory", method="POST", body={"path": [], "relativity": "home"})
    answer = json.loads(body)
    assert status == 200
    assert answer["absolute_path_string"] == str(tmp_path)
    assert {(entry["name"], entry["is_dir"]) for entry in answer["contents"]} == {("folder", True), ("file", False)}
    missing = {"path": ["nowhere-here"], "relativity": "root"}
    assert (await _ask(api, "/api/v0/list-directory", method="POST", body=missing))[0] == 404


async def test_malformed_requests(api: int) -> None:
    for data in (b"NONSENSE\r\n\r\n", b"GET / HTTP/1.1\r\n" + b"X: " + b"y" * 100_000):
        with socket.create_connection(("127.0.0.1", api), timeout=5) as connection:
            connection.sendall(data)
            answer = await anyio.to_thread.run_sync(connection.recv, 100)
            assert answer.startswith(b"HTTP/1.1 400")


async def test_one_connection_serves_many_requests(api: int) -> None:
    def ask_twice() -> list[int]:
        connection = http.client.HTTPConnection("127.0.0.1", api, timeout=5)
        statuses: list[int] = []
        for path in ("/", "/nowhere", "/"):
            connection.request("GET", path)
            answer = connection.getresponse()
            answer.read()
            statuses.append(answer.status)
        connection.close()
        return statuses

    assert await anyio.to_thread.run_sync(ask_twice) == [200, 404, 200]
