"""Settings that change what a server answers: origins, cookies, tunnels."""

from __future__ import annotations

from pathlib import Path

import httpx2
import pytest

from tests.server import EMAIL, PASSWORD, open_site

pytestmark = pytest.mark.anyio
ME = "/api/v2/users/me"
UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "x3JJHMbDL1EzLkh9GBhXDw==",
}
PREFLIGHT = {"Origin": "https://a.example", "Access-Control-Request-Method": "GET"}


async def test_origins_cookies_and_tunnels_are_as_the_operator_says(database_url: str, tmp_path: Path) -> None:
    flags = {
        "dangerous_allow_cors_requests": "true",
        "host_prefix_cookie": "true",
        "secure_auth_cookie": "true",
        "browser_only": "true",
    }
    async with (
        open_site(database_url, tmp_path, daemons=0, **flags) as site,
        httpx2.AsyncClient(base_url=site.url) as client,
    ):
        asked = await client.options("/api/v2/buildinfo", headers=PREFLIGHT)
        assert (asked.status_code, asked.headers["access-control-allow-methods"]) == (200, "GET, OPTIONS")
        answer = await client.get("/api/v2/buildinfo", headers={"Origin": "https://a.example"})
        assert answer.headers["access-control-allow-origin"] == "*"
        assert "access-control-allow-credentials" not in answer.headers

        signed_in = await client.post("/api/v2/users/login", json={"email": EMAIL, "password": PASSWORD})
        cookies = signed_in.headers.get_list("set-cookie")
        session = next(line for line in cookies if "session_token" in line)
        assert session.startswith("__Host-coder_session_token=")
        assert "; Path=/; " in session
        assert "; Secure; " in session
        token = signed_in.json()["session_token"]
        client.cookies.clear()
        prefixed = {"Cookie": f"__Host-coder_session_token={token}"}
        assert (await client.get(ME, headers=prefixed)).status_code == 200
        assert (await client.get(ME, headers={"Cookie": f"coder_session_token={token}"})).status_code == 401

        header = {"Coder-Session-Token": token}
        refused = await client.get("/api/v2/tailnet?version=2.0", headers={**UPGRADE, **header})
        assert refused.status_code == 409
        assert refused.json()["message"] == "Non-browser connections are disabled for your deployment."
        features = (await client.get("/api/v2/entitlements", headers=header)).json()["features"]
        assert features["browser_only"]["enabled"]


async def test_without_them_no_origin_is_allowed(database_url: str, tmp_path: Path) -> None:
    async with (
        open_site(database_url, tmp_path, daemons=0) as site,
        httpx2.AsyncClient(base_url=site.url) as client,
    ):
        for answer in (
            await client.options("/api/v2/buildinfo", headers=PREFLIGHT),
            await client.get("/api/v2/buildinfo", headers={"Origin": "https://a.example"}),
        ):
            assert not [name for name in answer.headers if name.startswith("access-control-")]
