"""External provisioner daemons: keys, and the endpoint at which they serve."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager

import pytest

from tests.integration.builds.http import PSK, Site
from tests.integration.builds.scripted_daemon import ScriptedDaemon
from tests.integration.routes import HEADER
from warren.errors import Forbidden, Invalid, Unauthenticated, WarrenError
from warren.rpc import drpc, websocket
from warren.rpc.multiplexer import Multiplexer

pytestmark = pytest.mark.anyio

KEY = "Coder-Provisioner-Daemon-Key"
PSK_HEADER = "Coder-Provisioner-Daemon-PSK"
SERVE = "/organizations/default/provisionerdaemons/serve?provisioner=terraform&name=ext&version=1.18"


@asynccontextmanager
async def external(site: Site, headers: Mapping[str, str], query: str = "") -> AsyncGenerator[ScriptedDaemon]:
    url = site.url.replace("http", "ws") + "/api/v2" + SERVE + query
    async with websocket.connect(url, headers=headers) as stream, Multiplexer(stream, client=True) as mux:
        yield ScriptedDaemon(drpc.Client(mux))


async def make_key(site: Site, name: str = "farm", **tags: str) -> str:
    answer = await site.admin.post("/organizations/default/provisionerkeys", json={"name": name, "tags": tags})
    assert answer.status_code == 201, answer.text
    return answer.json()["key"]


async def test_a_daemon_with_a_key_takes_jobs(site: Site) -> None:
    key = await make_key(site)
    assert len(key) == 43
    async with external(site, {KEY: key}) as daemon:
        version = await site.world.version()
        await daemon.import_version()
        found = await site.world.versions.get(site.world.admin, version.version.id)
        assert (found.job.job.status, found.job.worker_name) == ("succeeded", "ext")
        daemons = (await site.admin.get("/organizations/default/provisionerdaemons")).json()
        assert [(item["name"], item["key_name"]) for item in daemons] == [("ext", "farm")]
        by_key = (await site.admin.get("/organizations/default/provisionerkeys/daemons")).json()
        assert [(item["key"]["name"], len(item["daemons"])) for item in by_key] == [("farm", 1)]


@pytest.mark.parametrize("how", ["psk", "user"])
async def test_other_ways_to_sign_in(site: Site, how: str) -> None:
    headers = {PSK_HEADER: PSK} if how == "psk" else {HEADER: site.admin_token}
    async with external(site, headers) as daemon:
        await site.world.version()
        await daemon.import_version()


async def test_tagged_daemons_take_only_their_jobs(site: Site) -> None:
    key = await make_key(site, env="gpu")
    async with external(site, {KEY: key}):
        version = await site.world.version()
        assert version.matched is not None
        assert version.matched.count == 0


@pytest.mark.parametrize(
    ("headers", "query", "error", "message"),
    [
        ({}, "", Unauthenticated, "authentication required"),
        ({KEY: "nonsense"}, "", Unauthenticated, "authentication required"),
        ({PSK_HEADER: "wrong"}, "", Unauthenticated, "authentication required"),
        ({PSK_HEADER: PSK}, "&tag=nonsense", Invalid, "Invalid format for tags"),
        ({PSK_HEADER: PSK}, "&provisioner=pulumi", Invalid, "Unknown provisioner type"),
    ],
)
async def test_refused(site: Site, headers: dict[str, str], query: str, error: type[WarrenError], message: str) -> None:
    with pytest.raises(error, match=message):
        async with external(site, headers, query):
            pass


async def test_a_key_brings_its_own_tags(site: Site) -> None:
    key = await make_key(site)
    with pytest.raises(Forbidden, match="tags are not allowed when using a provisioner key"):
        async with external(site, {KEY: key}, "&tag=env=gpu"):
            pass


async def test_keys(site: Site) -> None:
    key = await make_key(site, "Farm")
    path = "/organizations/default/provisionerkeys"
    assert [item["name"] for item in (await site.admin.get(path)).json()] == ["farm"]
    assert (await site.admin.post(path, json={"name": "farm"})).status_code == 409
    for name in ("", "psk", "x" * 65):
        assert (await site.admin.post(path, json={"name": name})).status_code == 400
    assert (await site.member.post(path, json={"name": "mine"})).status_code in (403, 404)
    assert (await site.admin.get(f"/provisionerkeys/{key}")).json()["name"] == "farm"
    assert (await site.admin.get("/provisionerkeys/nonsense")).status_code == 401
    assert (await site.admin.delete(f"{path}/built-in")).status_code == 400
    assert (await site.admin.delete(f"{path}/farm")).status_code == 204
    assert (await site.admin.delete(f"{path}/farm")).status_code == 404
    with pytest.raises(Unauthenticated):
        async with external(site, {KEY: key}):
            pass
