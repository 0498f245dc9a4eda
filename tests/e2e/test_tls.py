"""A server with TLS and a certificate of a private authority: clients, agents, relay, and what goes wrong."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from benchmarks.lab import Lab

from tests.certificates import Authority, Issued
from tests.ports import free_port


class SecureLab(Lab):
    """A lab whose access URL is https; its server, and so the agents it starts, know the authority."""

    def __init__(self, folder: Path, authority: Authority) -> None:
        super().__init__(folder)
        self.authority = authority
        self.plain_url = self.url
        self.tls_port = free_port()
        self.url = f"https://localhost:{self.tls_port}"
        self._serving = False

    @property
    def environment(self) -> dict[str, str]:
        known = {"SSL_CERT_FILE": str(self.authority.file)} if self._serving else {}
        return super().environment | known

    def serve(self, pair: Issued) -> None:
        self._serving = True
        try:
            self.start(
                *("--tls-enable", "--tls-address", f"127.0.0.1:{self.tls_port}", "--redirect-to-access-url"),
                *("--tls-cert-file", str(pair.certificate), "--tls-key-file", str(pair.key)),
                *("--strict-transport-security", "600"),
            )
        finally:
            self._serving = False

    def healthy(self) -> bool:
        context = ssl.create_default_context(cafile=str(self.authority.file))
        try:
            with urllib.request.urlopen(f"{self.url}/healthz", timeout=1, context=context) as answer:
                return answer.status == 200
        except OSError:
            return False

    def run(self, *arguments: str, seconds: float = 300, text_input: str = "") -> str:
        trusting = ("--client-tls-ca-file", str(self.authority.file))
        return super().run(*trusting, *arguments, seconds=seconds, text_input=text_input)


@pytest.fixture(scope="module")
def authority() -> Iterator[Authority]:
    with tempfile.TemporaryDirectory(prefix="warren-ca-") as folder:
        yield Authority(Path(folder))


@pytest.fixture(scope="module")
def secure(authority: Authority) -> Iterator[SecureLab]:
    """A server with TLS, and workspace `dev`."""
    with tempfile.TemporaryDirectory(prefix="warren-tls-") as folder:
        place = SecureLab(Path(folder), authority)
        try:
            place.serve(authority.issue("server"))
            place.login()
            place.template()
            place.workspace()
            yield place
        finally:
            place.close()


def test_a_command_runs_over_a_direct_tunnel(secure: SecureLab) -> None:
    assert secure.run("ssh", "dev", "--", "echo $SSL_CERT_FILE") == f"{secure.authority.file}\n"
    assert "p2p" in secure.run("ping", "dev", "-n", "5", "--wait", "200ms")


def test_the_relay_works_under_tls(secure: SecureLab) -> None:
    assert secure.run("--disable-direct-connections", "ssh", "dev", "--", "echo relayed") == "relayed\n"
    pong = secure.run("--disable-direct-connections", "ping", "dev", "-n", "1")
    assert "DERP" in pong
    assert "p2p" not in pong


def test_the_relay_is_fast_under_tls(secure: SecureLab) -> None:
    shown = secure.run("--disable-direct-connections", "speedtest", "dev", "--time", "1s", "--output", "json")

    assert json.loads(shown)["overall"]["throughput_mbits"] > 50


def test_stock_ssh_finds_the_authority_in_what_config_ssh_wrote(secure: SecureLab) -> None:
    config = secure.folder / "ssh_config"
    secure.run("config-ssh", "--yes", "--ssh-config-file", str(config))

    done = subprocess.run(
        ["ssh", "-F", str(config), "coder.dev", "cat; exit 3"],
        env=secure.environment,
        cwd="/",
        input="hello",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (done.returncode, done.stdout) == (3, "hello"), done.stderr


def test_a_client_that_does_not_know_the_authority_is_told_what_to_pass(secure: SecureLab) -> None:
    done = subprocess.run(
        ["warren", "list"], env=secure.environment, capture_output=True, text=True, timeout=60, check=False
    )

    assert done.returncode == 1
    assert "its certificate is not trusted" in done.stderr
    assert "--client-tls-ca-file" in done.stderr
    assert "_ssl.c" not in done.stderr


def test_plain_http_is_sent_to_the_access_url(secure: SecureLab) -> None:
    answer = httpx2.get(f"{secure.plain_url}/api/v2/buildinfo?a=b%0d%0ac", timeout=10, trust_env=False)

    assert answer.status_code == 307
    assert answer.headers["Location"] == f"{secure.url}/api/v2/buildinfo?a=b%0d%0ac"


def test_browsers_are_told_to_stay_with_https_and_probes_are_not_redirected(secure: SecureLab) -> None:
    context = ssl.create_default_context(cafile=str(secure.authority.file))
    with urllib.request.urlopen(f"{secure.url}/api/v2/buildinfo", timeout=10, context=context) as answer:
        assert answer.headers["Strict-Transport-Security"] == "max-age=600"
    with urllib.request.urlopen(f"{secure.plain_url}/healthz", timeout=10) as answer:
        assert answer.status == 200


def test_the_log_of_the_server_names_both_addresses(secure: SecureLab) -> None:
    log = (secure.folder / "server.log").read_text()

    assert f"Started HTTP listener at {secure.plain_url}" in log
    assert f"Started HTTPS listener at https://127.0.0.1:{secure.tls_port}" in log


def refusal(folder: Path, *pairs: Issued) -> str:
    """Start a server with certificates that it must refuse; return what it said."""
    files = [word for it in pairs for word in ("--tls-cert-file", str(it.certificate), "--tls-key-file", str(it.key))]
    place = Lab(folder)
    done = subprocess.run(
        ["warren", "server", "--http-address", "127.0.0.1:0", "--tls-enable", "--tls-address", "127.0.0.1:0", *files],
        env=place.environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 1
    assert not place.folder.joinpath("config/postgres").exists(), "something was started before the check"
    return done.stdout + done.stderr


def test_everything_wrong_with_certificates_is_told_before_anything_starts(
    authority: Authority, tmp_path: Path
) -> None:
    good, old = authority.issue("good"), authority.issue("old", ends_in_hours=-1)
    missing = tmp_path / "missing.pem"
    (text := tmp_path / "text.pem").write_text("no certificate")

    said = refusal(tmp_path, Issued(good.certificate, old.key), old, Issued(missing, good.key), Issued(text, good.key))

    assert f"{old.key} is not the key of {good.certificate}" in said
    assert f"{old.certificate} expired at" in said
    assert f"cannot read {missing}: No such file or directory" in said
    assert f"{text} holds no certificate" in said
    assert "Traceback" not in said


def test_a_taken_tls_port_is_refused_with_the_right_flag(authority: Authority, tmp_path: Path) -> None:
    pair = authority.issue("again")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = subprocess.run(
            [
                *("warren", "server", "--http-address", "", "--tls-enable", "--tls-address", address),
                *("--tls-cert-file", str(pair.certificate), "--tls-key-file", str(pair.key)),
            ],
            env=Lab(tmp_path).environment,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    assert done.returncode == 1
    assert f"cannot listen on {address}" in done.stderr
    assert "--tls-address" in done.stderr
