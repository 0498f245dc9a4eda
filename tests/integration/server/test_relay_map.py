"""The operator's map of relays: read at start, followed from then on, and never replaced by a bad one."""

import json
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import anyio
import pytest
from structlog.testing import capture_logs
from structlog.types import EventDict

from warren.errors import Invalid
from warren.net.derp_map import DERPMap
from warren.server import relay_map
from warren.settings import Settings

pytestmark = pytest.mark.anyio

URL = "https://warren.example"


def written(*regions: int) -> bytes:
    def region(number: int) -> dict[str, object]:
        node = {"Name": f"{number}a", "RegionID": number, "HostName": f"derp{number}.example"}
        return {"RegionID": number, "RegionCode": "x", "RegionName": "X", "Nodes": [node]}

    return json.dumps({"Regions": {str(number): region(number) for number in regions}}).encode()


def replace(path: Path, document: bytes) -> None:
    """Write a file as a whole, so that nobody reads half of it."""
    path.with_suffix(".new").write_bytes(document)
    path.with_suffix(".new").replace(path)


async def until(claim: Callable[[], bool]) -> None:
    """Wait until something is so."""
    with anyio.fail_after(20):
        while not claim():  # noqa: ASYNC110  files, servers and logs tell nobody
            await anyio.sleep(0.01)


@asynccontextmanager
async def followed(settings: Settings) -> AsyncGenerator[Callable[[], set[int]]]:
    """Follow the map in the background; gives a function that says which regions are in force."""
    first = relay_map.build(settings, URL, 0)
    used: list[DERPMap] = [first]
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(relay_map.follow, settings, URL, 0, first, used.append)
        yield lambda: set(used[-1].regions)
        tasks.cancel_scope.cancel()


def kept(logs: list[EventDict]) -> list[EventDict]:
    return [line for line in logs if line["event"] == "relay_map.kept"]


async def test_a_file_that_changes_is_read_again_and_a_bad_one_is_warned_of(tmp_path: Path) -> None:
    path = tmp_path / "map.json"
    path.write_bytes(written(1))
    settings = Settings(derp_config_path=str(path), derp_config_interval=timedelta(milliseconds=20))
    with capture_logs() as logs:
        async with followed(settings) as regions:
            assert regions() == {1, 999}
            replace(path, written(1, 2))
            await until(lambda: regions() == {1, 2, 999})
            replace(path, b"{")
            await until(lambda: bool(kept(logs)))
            assert regions() == {1, 2, 999}
            replace(path, written(3))
            await until(lambda: regions() == {3, 999})
    warnings = kept(logs)
    assert len({line["reason"] for line in warnings}) == len(warnings), "each problem is said once"
    assert all(str(path) in line["reason"] for line in warnings)


async def test_a_url_is_fetched_again_and_outlives_its_server() -> None:
    answers = [written(1)]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = answers[:1]  # one look: the test changes it meanwhile
            self.send_response(200 if answer else 500)
            self.end_headers()
            self.wfile.write(b"".join(answer))

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        settings = Settings(
            derp_config_url=f"http://127.0.0.1:{server.server_port}/map",
            derp_config_interval=timedelta(milliseconds=20),
        )
        with capture_logs() as logs:
            async with followed(settings) as regions:
                answers[0] = written(2)
                await until(lambda: regions() == {2, 999})
                answers.clear()
                await until(lambda: bool(kept(logs)))
                assert regions() == {2, 999}
                answers.append(written(4))
                await until(lambda: regions() == {4, 999})
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (b"{", "cannot use the map of relays"),
        (b'{"Regions": []}', "Regions must be an object"),
        (b'{"Regions": {"1": {"RegionID": 2}}}', "RegionID 2 must equal its key"),
        (written(999), "conflicts with a remote region"),
        (b'{"Regions": {"1": {"RegionID": 1, "Nodes": [{"Name": "1a"}]}}}', "HostName is missing"),
        (b" " * (relay_map.MAX_MAP_BYTES + 1), "longer than"),
    ],
)
async def test_a_bad_map_is_refused_at_start(tmp_path: Path, document: bytes, message: str) -> None:
    path = tmp_path / "map.json"
    path.write_bytes(document)
    with pytest.raises(Invalid, match=message):
        relay_map.build(Settings(derp_config_path=str(path)), URL, 0)
    with pytest.raises(Invalid, match="cannot use the map of relays"):
        relay_map.build(Settings(derp_config_path=str(tmp_path / "absent")), URL, 0)


async def test_no_relay_at_all_is_warned_of() -> None:
    with capture_logs() as logs:
        assert relay_map.build(Settings(derp_server_enable=False), URL, 0) == DERPMap()
    assert [line["event"] for line in logs] == ["relay_map.empty"]
