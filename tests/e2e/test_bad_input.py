"""What users see who ask for what cannot be, each with the shipped commands or on the server's own port."""

from __future__ import annotations

import base64
import io
import os
import secrets
import socket
import tarfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest
from benchmarks.lab import Lab

from tests.e2e.stories import FIRST, push, request, second, session, status, upload, wait, warren


def test_a_wrong_password_and_an_expired_token_say_what_to_do(running: Lab) -> None:
    login = {"email": "admin@example.com", "password": "wrong"}
    refused = httpx2.post(f"{running.url}/api/v2/users/login", json=login)
    assert (refused.status_code, refused.json()["message"]) == (401, "Incorrect email or password.")

    token = warren(running, "tokens", "create", "--name", "short", "--lifetime", "1s").stdout.strip()
    wait(lambda: warren(running, "whoami", "--token", token).status == 1, "the token does not expire")
    late = warren(running, "whoami", "--token", token)
    assert "your session has expired" in late.stderr
    assert "hint: warren login" in late.stderr


@pytest.mark.parametrize(
    "words", [("ping",), ("speedtest",), ("logs",), ("port-forward", "--tcp", "1"), ("restart", "-y"), ("delete", "-y")]
)
def test_an_unknown_workspace_is_named(running: Lab, words: tuple[str, ...]) -> None:
    refused = warren(running, *words, "nope")
    assert refused.status == 1
    assert "error: no workspace `nope`" in refused.stderr
    assert "hint: warren list" in refused.stderr


def test_a_workspace_without_an_agent_is_told_apart(running: Lab) -> None:
    assert push(running, "bare", FIRST).status == 0
    assert warren(running, "create", "bare", "--template", "bare", "--yes").status == 0
    for words in (("ssh", "bare", "--", "true"), ("ping", "bare"), ("speedtest", "bare")):
        refused = warren(running, *words)
        assert refused.status == 1
        assert 'error: workspace "bare" has no agents' in refused.stderr
        assert "hint: its template makes none: add a `coder_agent` resource" in refused.stderr
    assert warren(running, "delete", "bare", "--yes").status == 0


@pytest.mark.parametrize(
    ("source", "place"),
    [
        ('locals {\n  a = 1\n  b = "\n}\n', "main.tf:3"),
        ('resource "terraform_data" "x" {\n  input = nothing.here\n}\n', "main.tf:2"),
    ],
)
def test_invalid_terraform_is_told_with_file_and_line(running: Lab, source: str, place: str) -> None:
    refused = push(running, "invalid", source)
    assert refused.status == 1
    (error,) = [line for line in refused.stderr.splitlines() if line.startswith("error: ")]
    assert place in error
    assert "invalid" not in warren(running, "templates", "list").stdout


def test_a_build_that_fails_half_way_keeps_what_it_made_until_the_delete(running: Lab) -> None:
    marker = running.folder / "removed"
    trace = f'  provisioner "local-exec" {{\n    when = destroy\n    command = "touch {marker}"\n  }}\n}}\n'
    source = second("echo no such disk >&2; exit 7").replace('  input = "made"\n}\n', f'  input = "made"\n{trace}', 1)
    assert push(running, "half", source).status == 0
    failed = warren(running, "create", "half", "--template", "half", "--yes")
    assert failed.status == 1
    assert "no such disk" in failed.stderr
    assert "error: terraform apply: exit status 1: local-exec provisioner error (main.tf:" in failed.stderr
    assert "hint: what was made is kept: warren start half tries again, warren delete half removes it" in failed.stderr

    assert '"name": "first"' in warren(running, "state", "pull", "half").stdout
    assert not marker.exists()
    assert warren(running, "delete", "half", "--yes").status == 0
    assert marker.exists()
    assert "no workspace `half`" in warren(running, "show", "half").stderr


def test_while_a_build_runs_another_is_refused(running: Lab) -> None:
    go = running.folder / "go"
    assert push(running, "gated", second(f"until [ -e {go} ]; do sleep 0.1; done")).status == 0
    template = request(running, "GET", "/organizations/default/templates/gated").json()
    made = request(running, "POST", "/users/me/workspaces", body={"name": "gated", "template_id": template["id"]})
    assert made.status_code == 201
    builds = f"/workspaces/{made.json()['id']}/builds"
    try:
        for words in (("delete", "gated", "--yes"), ("stop", "gated", "--yes")):
            refused = warren(running, *words)
            assert refused.status == 1
            assert refused.stderr.count("A workspace build is already active.") == 1
            assert "hint: warren logs --follow gated" in refused.stderr
    finally:
        go.touch()
    wait(lambda: status(running, "gated") == "running", "the build did not end")
    assert request(running, "POST", builds, body={"transition": "stop"}).status_code == 201
    wait(lambda: status(running, "gated") == "stopped", "the workspace did not stop")

    go.unlink()
    try:
        with ThreadPoolExecutor(4) as pool:
            asked = [pool.submit(request, running, "POST", builds, body={"transition": "start"}) for _ in range(4)]
            answers = [each.result() for each in asked]
    finally:
        go.touch()
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409]
    losers = {answer.json()["message"] for answer in answers if answer.status_code == 409}
    assert losers == {"A workspace build is already active."}
    wait(lambda: status(running, "gated") == "running", "the winner's build did not end")
    assert warren(running, "delete", "gated", "--yes").status == 0


@pytest.mark.parametrize("name", ["with space", "a" * 33, "two--hyphens", "end-", "..", "ünicode"])
def test_names_that_cannot_be_are_told_with_the_rule(running: Lab, name: str) -> None:
    refused = warren(running, "create", name, "--template", "local", "--yes")
    assert refused.status == 1
    assert f'with value: "{name}"' in refused.stderr
    assert "hint: name is 1 to 32 letters, digits and single hyphens between them" in refused.stderr
    user = warren(running, "users", "create", "-u", name, "-e", "somebody@example.com")
    assert user.status == 1
    assert "hint: username is 1 to 32 letters" in user.stderr


def tar(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> bytes:
    """Make an archive of a template and one member more."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path, each, content in (("main.tf", tarfile.REGTYPE, FIRST.encode()), (name, kind, b"")):
            member = tarfile.TarInfo(path)
            member.type, member.linkname, member.size = each, link, len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def zipped(name: str, size: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, bytes(size))
    return buffer.getvalue()


def test_archives_that_climb_out_or_blow_up_are_refused(running: Lab) -> None:
    for content, kind in (
        (tar("../outside"), "application/x-tar"),
        (tar("/etc/outside"), "application/x-tar"),
        (tar("inner/../../outside"), "application/x-tar"),
        (zipped("../../outside", 1), "application/zip"),
    ):
        refused = upload(running, content, kind)
        assert refused.status_code == 400
        assert "outside" in refused.json()["message"]
    for kind in ("application/x-tar", "application/zip"):
        assert upload(running, os.urandom(2000), kind).status_code == 400
    bomb = upload(running, zipped("bomb", 300 << 20), "application/zip")
    assert bomb.status_code == 413
    assert "bomb" in bomb.json()["message"]


def test_a_link_out_of_a_template_shows_nothing_of_the_machine(running: Lab) -> None:
    secret = running.folder / "secret.txt"
    secret.write_text(word := secrets.token_hex())
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
        sent = upload(running, tar("stolen.txt", kind, str(secret)))
        if sent.status_code != 201:
            assert sent.status_code == 400
            continue
        body = {"storage_method": "file", "provisioner": "terraform", "file_id": sent.json()["hash"]}
        version = request(running, "POST", "/organizations/default/templateversions", body=body).json()
        path = f"/templateversions/{version['id']}"
        wait(lambda path=path: request(running, "GET", path).json()["job"]["status"] in ("failed", "succeeded"), path)
        logs = request(running, "GET", f"{path}/logs").text
        assert word not in logs + request(running, "GET", path).text
    assert secret.read_text() == word


def test_a_template_that_is_too_large_is_told_before_it_is_sent(running: Lab, tmp_path: Path) -> None:
    (tmp_path / "main.tf").write_text(FIRST)
    (tmp_path / "provider.bin").write_bytes(os.urandom(2 << 20))
    refused = warren(running, "templates", "push", "big", "--directory", str(tmp_path), "--yes")
    assert refused.status == 1
    assert "error: Archive too big. Must be <= 1048576 bytes" in refused.stderr
    assert "hint: a template holds text" in refused.stderr


def send(place: Lab, *parts: bytes) -> bytes:
    """Send bytes to the server's port; return what came back until it closed or, after an answer, fell silent."""
    answer = b""
    with socket.create_connection(("127.0.0.1", place.port), 20) as connection:
        try:
            for part in parts:
                connection.sendall(part)
                while b"Upgrade:" in part and b"\r\n\r\n" not in answer:
                    answer += connection.recv(65536) or b"closed\r\n\r\n"
            connection.shutdown(socket.SHUT_WR)
            while True:
                connection.settimeout(0.5 if answer else 20)
                data = connection.recv(65536)
                if not data:
                    break
                answer += data
        except (TimeoutError, OSError):
            pass
    return answer


def upgrade(path: str, protocol: str, token: str = "") -> bytes:
    """Ask for another protocol on the server's port."""
    key = base64.b64encode(os.urandom(16)).decode()
    return (
        f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\nCoder-Session-Token: {token}\r\n\r\n"
    ).encode()


def frames(payload: bytes) -> bytes:
    """Wrap bytes in a masked binary WebSocket frame, whose mask is zero."""
    return b"\x82\xfe" + len(payload).to_bytes(2, "big") + bytes(4) + payload


def stun_answers(place: Lab, noise: bytes) -> None:
    """Send noise to the server's STUN port, if it could have one, and see that a request after it is answered."""
    regions = request(place, "GET", "/workspaceagents/connection").json()["derp_map"]["Regions"]
    (port,) = {node.get("STUNPort", 0) for region in regions.values() for node in region["Nodes"]}
    if port <= 0:
        return  # another program has the port
    wanted = b"\x00\x01\x00\x00\x21\x12\xa4\x42" + secrets.token_bytes(12)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stun:
        stun.settimeout(20)
        for datagram in (noise, wanted[:2] + b"\xff\xff" + wanted[4:8] + noise, wanted):
            stun.sendto(datagram, ("127.0.0.1", port))
        assert wanted[4:] in stun.recv(1500)


def test_malformed_bytes_on_the_port_disturb_nobody(running: Lab) -> None:
    agent_token = (next(running.folder.glob("workspaces/*/agent.token"))).read_text()
    rpc = upgrade("/api/v2/workspaceagents/me/rpc?version=2.0&role=helper", "websocket", agent_token)
    pid = running.process.pid if running.process else 0
    before = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    with session(running) as direct, session(running, "--disable-direct-connections") as relayed:
        for number in range(15):
            noise = secrets.token_bytes(900)
            send(running, noise)
            assert b" 400 " in send(running, b"GET / HTTP/9.9\r\n\r\n").split(b"\r\n")[0]
            send(running, b"POST /api/v2/files HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")
            assert b"101 Switching Protocols" in send(running, upgrade("/derp", "DERP"), b"\x02\xff\xff\xff\xff", noise)
            send(running, upgrade("/derp", "DERP"), b"\x01" + len(noise).to_bytes(4, "big") + noise)
            assert b"101 Switching Protocols" in send(running, rpc, frames(noise))
            send(running, rpc, frames(b"\x00\x00\x00\x01\x00\x00\x00\x01\xff\xff\xff\xff" + noise))
            send(running, rpc, b"\xff\xff" + noise)
            stun_answers(running, noise)
            direct.says(f"direct {number}")
            relayed.says(f"relayed {number}")
        assert running.healthy()
        assert (direct.ends(), relayed.ends()) == (0, 0)
    assert warren(running, "ssh", "dev", "--", "echo fine").stdout == "fine\n"
    wait(lambda: len(list(Path(f"/proc/{pid}/fd").iterdir())) <= before + 5, "connections were left open")
    assert "request.failed" not in (running.folder / "server.log").read_text()
