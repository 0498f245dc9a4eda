"""What lies around the routes: credentials, CSRF, limits, sockets that are refused, TLS, metrics."""

from __future__ import annotations

import ssl
from contextlib import AsyncExitStack
from pathlib import Path

import anyio
import httpx2
import pytest

from tests.ports import free_port
from tests.server import EMAIL, PASSWORD, Site, open_site
from warren.api import csrf
from warren.sdk.types.users import Login

pytestmark = pytest.mark.anyio
ME = "/api/v2/users/me"
UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "x3JJHMbDL1EzLkh9GBhXDw==",
}


async def test_a_token_is_found_in_five_places_in_order(server: Site) -> None:
    token = server.admin.token
    async with httpx2.AsyncClient(base_url=server.url) as client:
        for headers, query in (
            ({"Cookie": f"coder_session_token={token}"}, {}),
            ({}, {"coder_session_token": token}),
            ({"Coder-Session-Token": token}, {}),
            ({"Authorization": f"Bearer {token}"}, {}),
            ({}, {"access_token": token}),
            ({"Cookie": f"coder_session_token={token}", "Coder-Session-Token": "bad"}, {}),
        ):
            assert (await client.get(ME, headers=headers, params=query)).status_code == 200, (headers, query)
        refused = await client.get(ME, headers={"Cookie": "coder_session_token=bad", "Coder-Session-Token": token})
        assert refused.status_code == 401
        assert refused.headers["www-authenticate"].startswith('Bearer realm="coder", error="invalid_token"')


async def test_a_cookie_alone_cannot_change_anything_without_proof(server: Site) -> None:
    async with httpx2.AsyncClient(base_url=server.url) as client:
        answer = await client.post("/api/v2/users/login", json={"email": EMAIL, "password": PASSWORD})
        cookies = {cookie.name: cookie.value or "" for cookie in client.cookies.jar}
        assert answer.status_code == 201
        assert set(cookies) == {"coder_session_token", csrf.COOKIE}
        refused = await client.put(f"{ME}/appearance", json={"theme_preference": "dark", "terminal_font": ""})
        assert (refused.status_code, refused.headers["content-type"]) == (400, "text/plain; charset=utf-8")
        allowed = await client.put(
            f"{ME}/appearance",
            json={"theme_preference": "dark", "terminal_font": ""},
            headers={"X-CSRF-TOKEN": csrf.masked(cookies[csrf.COOKIE])},
        )
        assert (allowed.status_code, allowed.json()["theme_preference"]) == (200, "dark")


async def test_a_refused_socket_has_status_and_body(server: Site) -> None:
    async with httpx2.AsyncClient(base_url=server.url) as client:
        anonymous = await client.get("/api/v2/tailnet", headers=UPGRADE)
        assert (anonymous.status_code, anonymous.json()["message"][:21]) == (401, "You are signed out or")
        signed_in = {**UPGRADE, "Coder-Session-Token": server.admin.token}
        unknown = await client.get("/api/v2/nothing", headers=signed_in)
        assert (unknown.status_code, unknown.json()) == (404, {"message": "Route not found."})
        hidden = await client.get(
            "/api/v2/workspaceagents/00000000-0000-0000-0000-000000000001/coordinate?version=2.0", headers=signed_in
        )
        assert hidden.status_code == 404
        version = await client.get("/api/v2/tailnet?version=99.0", headers=signed_in)
        assert (version.status_code, version.json()["validations"][0]["field"]) == (400, "version")


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"{", id="cut"),
        pytest.param(b'{"email": "\xff"}', id="no-text"),
        pytest.param(b'{"\xff": 1}', id="a-name-that-is-no-text"),
        pytest.param(b"[" * 5000 + b"]" * 5000, id="nested-without-end"),
        pytest.param(b'{"email": ' + b"9" * 5000 + b"}", id="endless-number"),
    ],
)
async def test_a_body_that_is_no_json_is_the_clients_fault(server: Site, body: bytes) -> None:
    async with httpx2.AsyncClient(base_url=server.url) as client:
        answer = await client.post("/api/v2/users/login", content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["message"]) == (400, "Request body must be valid JSON.")


async def test_slashes_are_forgiven(server: Site) -> None:
    async with httpx2.AsyncClient(base_url=server.url) as client:
        for path in ("/api/v2/buildinfo/", "//api//v2//buildinfo", "/healthz/"):
            answer = await client.get(server.url + path)
            assert answer.status_code == 200
            assert answer.headers["x-coder-build-version"].startswith("v2.")


async def test_logins_are_limited(database_url: str, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        limited_site = open_site(database_url, tmp_path, daemons=0, dangerous_disable_rate_limits="false")
        site = await stack.enter_async_context(limited_site)
        async with httpx2.AsyncClient(base_url=site.url) as client:
            body = Login(email="not an address", password="x")
            codes = [
                (await client.post("/api/v2/users/login", json={"email": body.email, "password": "x"})).status_code
                for _ in range(61)
            ]
            assert set(codes[:59]) == {400}
            limited = await client.post("/api/v2/users/login", json={"email": EMAIL, "password": PASSWORD})
            assert limited.status_code == 429
            assert int(limited.headers["retry-after"]) > 0
            assert "rate limited" in limited.json()["message"]
            header = {"X-Coder-Bypass-Ratelimit": "true", "Coder-Session-Token": site.admin.token}
            lifted = await client.post(
                "/api/v2/users/login", json={"email": EMAIL, "password": PASSWORD}, headers=header
            )
            assert lifted.status_code == 201


async def test_https_with_the_operators_certificate_and_metrics_beside(database_url: str, tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    await anyio.run_process(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            *("-days", "1", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", str(key), "-out", str(certificate)),
        ]
    )
    tls_port, metrics_port = free_port(), free_port()
    flags = {
        "tls_enable": "true",
        "tls_address": f"127.0.0.1:{tls_port}",
        "tls_cert_file": [str(certificate)],
        "tls_key_file": [str(key)],
        "prometheus_enable": "true",
        "prometheus_address": f"127.0.0.1:{metrics_port}",
    }
    async with open_site(database_url, tmp_path, daemons=0, **flags):
        context = ssl.create_default_context(cafile=str(certificate))
        async with httpx2.AsyncClient(verify=context) as client:
            assert (await client.get(f"https://127.0.0.1:{tls_port}/api/v2/buildinfo")).status_code == 200
        async with httpx2.AsyncClient() as client:
            text = (await client.get(f"http://127.0.0.1:{metrics_port}/metrics")).text
        assert 'coderd_api_requests_processed_total{code="200",method="GET",path="/api/v2/buildinfo"} 1.0' in text
        assert "coder_derp_server_accepts_total " in text


async def test_files_come_back_as_they_went_and_as_zip(server: Site, tmp_path: Path) -> None:
    (tmp_path / "main.tf").write_text('locals { a = "b" }')
    await anyio.run_process(["tar", "-cf", "t.tar", "main.tf"], cwd=tmp_path)
    data = (tmp_path / "t.tar").read_bytes()
    headers = {"Coder-Session-Token": server.admin.token, "Content-Type": "application/x-tar"}
    async with httpx2.AsyncClient(base_url=server.url, headers=headers) as client:
        first = await client.post("/api/v2/files", content=data)
        again = await client.post("/api/v2/files", content=data)
        assert (first.status_code, again.status_code) == (201, 200)
        assert first.json() == again.json()
        file_id = first.json()["hash"]
        assert (await client.get(f"/api/v2/files/{file_id}")).content == data
        assert (await client.get(f"/api/v2/files/{file_id}?format=zip")).content[:2] == b"PK"
        bob = await server.member("bob")
        hidden = await client.get(f"/api/v2/files/{file_id}", headers={"Coder-Session-Token": bob.token})
        assert hidden.status_code == 404
        wrong = await client.post("/api/v2/files", content=b"x", headers={"Content-Type": "text/plain"})
        assert wrong.json() == {"message": 'Unsupported content type header "text/plain".'}


async def test_starter_templates_are_listed(server: Site) -> None:
    async with httpx2.AsyncClient(base_url=server.url) as client:
        answer = await client.get("/api/v2/templates/examples", headers={"Coder-Session-Token": server.admin.token})
        assert {example["id"] for example in answer.json()} == {"local", "docker", "kubernetes"}
        assert all(example["markdown"] and example["name"] for example in answer.json())
