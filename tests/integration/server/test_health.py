"""The health report, of a real server that asks itself; and who may read it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.server import Site, open_site

pytestmark = pytest.mark.anyio
HEALTH = "/api/v2/debug/health"


def client(site: Site, token: str) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(base_url=site.url, headers={"Coder-Session-Token": token}, timeout=60)


async def report(site: Site, **query: str) -> Any:  # Any: decoded JSON
    async with client(site, site.admin.token) as http:
        answer = await http.get(HEALTH, params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_a_server_reports_on_itself(server: Site) -> None:
    found = await report(server, force="true")
    sections = {"derp", "access_url", "websocket", "database", "workspace_proxy", "provisioner_daemons"}
    assert set(found) == {"time", "healthy", "severity", "coder_version", *sections}
    assert all({"severity", "warnings", "dismissed", "error"} <= found[name].keys() for name in sections)
    assert found["access_url"]["reachable"]
    assert (found["access_url"]["status_code"], found["access_url"]["healthz_response"]) == (200, "OK")
    assert (found["websocket"]["healthy"], found["websocket"]["code"]) == (True, 101)
    assert found["database"]["reachable"]
    (region,) = found["derp"]["regions"].values()
    (node,) = region["node_reports"]
    assert (region["healthy"], node["can_exchange_messages"], node["uses_websocket"]) == (True, True, False)
    assert found["derp"]["warnings"] == [{"code": "ESTUN01", "message": "No STUN servers available."}]
    assert found["provisioner_daemons"]["error"].startswith("EPD01")
    assert not found["healthy"]


async def test_a_report_is_kept_for_a_while(server: Site) -> None:
    first = await report(server, force="true")
    assert (await report(server))["time"] == first["time"]
    assert (await report(server, force="true"))["time"] != first["time"]


async def test_what_is_dismissed_counts_no_more(database_url: str, tmp_path: Path) -> None:
    async with open_site(database_url, tmp_path, daemons=0) as site, client(site, site.admin.token) as http:
        wanted = {"dismissed_healthchecks": ["ProvisionerDaemons"]}
        assert not (await report(site))["healthy"]
        assert (await http.put(HEALTH + "/settings", json=wanted)).status_code == 200
        assert (await http.put(HEALTH + "/settings", json=wanted)).status_code == 204
        assert (await http.get(HEALTH + "/settings")).json() == wanted
        found = await report(site)
        assert found["healthy"]
        assert found["provisioner_daemons"]["dismissed"]
        unknown = await http.put(HEALTH + "/settings", json={"dismissed_healthchecks": ["Weather"]})
        assert unknown.status_code == 400
        assert unknown.json()["validations"][0]["field"] == "dismissed_healthchecks"


async def test_a_server_that_does_not_reach_its_access_url_says_so(database_url: str, tmp_path: Path) -> None:
    flags = {"access_url": "http://127.0.0.1:9"}
    async with open_site(database_url, tmp_path, daemons=0, **flags) as site:
        found = await report(site)
    assert found["access_url"]["error"].startswith("EACS03")
    assert found["websocket"]["error"].startswith("EWS01")
    assert not found["derp"]["healthy"]
    assert "refused" in next(iter(found["derp"]["regions"].values()))["node_reports"][0]["error"]


async def test_only_operators_may_read_it(server: Site) -> None:
    member = await server.member("healthless")
    async with client(server, member.token) as http:
        for path in (HEALTH, HEALTH + "/settings"):
            assert (await http.get(path)).status_code == 403
