"""Coder's own program as client and as agent, against our server: where `WARREN_UPSTREAM_CLI` names it.

The same stories are told with `warren` as that program, so that they are known to be right where the other one cannot
be had. Only what both accept is used: options, configuration folder, and the words in which results are told.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest
from benchmarks.lab import CHECKOUT, PASSWORD, Lab, lab

from tests.ports import free_port

pytestmark = pytest.mark.slow

VARIABLE = "WARREN_UPSTREAM_CLI"
OURS = CHECKOUT / ".venv/bin/warren"
EMAIL = "admin@example.com"
START_AGENT = "AGENT_SCRIPT  = coder_agent.main.init_script"


def program(whose: str) -> Path:
    """Give the program that plays; skip where it is upstream's and nobody said where it is."""
    if whose == "warren":
        return OURS
    named = os.environ.get(VARIABLE)
    if not named:
        pytest.skip(f"{VARIABLE} does not name Coder's own command line")
    found = shutil.which(named)
    assert found, f"{VARIABLE}={named} is no program"
    return Path(found).resolve()


class Client:
    """A program with a configuration folder of its own."""

    def __init__(self, path: Path, place: Lab, folder: Path) -> None:
        self.path = path
        self.place = place
        kept = {name: value for name, value in place.environment.items() if not name.startswith("WARREN_")}
        self.environment = kept | {"CODER_CONFIG_DIR": str(folder), "CODER_NO_VERSION_WARNING": "true"}

    def ask(
        self, *arguments: str, text: str = "", seconds: float = 60, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run it to its end."""
        done = subprocess.run(
            [self.path, *arguments],
            env=self.environment,
            input=text,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        assert not check or done.returncode == 0, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    @contextmanager
    def running(self, *arguments: str, ready: str) -> Generator[None]:
        """Run it beside the block, from when it printed `ready` on."""
        command = [self.path, *arguments]
        process = subprocess.Popen(
            command, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, bufsize=1
        )
        watchdog = threading.Timer(60, process.kill)
        watchdog.start()
        with process:
            assert process.stdout is not None
            try:
                lines: list[str] = []
                for line in process.stdout:
                    lines.append(line)
                    if ready in line:
                        break
                else:
                    raise AssertionError("".join(lines))
                yield
            finally:
                watchdog.cancel()
                process.terminate()

    def build(self, name: str) -> tuple[str, str]:
        """Say what the latest build of a workspace wanted, and what became of it."""
        workspaces = json.loads(self.ask("list", "--output", "json").stdout)
        (build,) = [item["latest_build"] for item in workspaces if item["name"] == name]
        return build["transition"], build["status"]


@pytest.fixture(scope="module", params=["warren", "upstream"])
def client(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Generator[Client]:
    """A new server whose first user signed up with this program, pushed a template and made a workspace."""
    path = program(request.param)
    with lab() as place:
        place.start()
        made = Client(path, place, tmp_path_factory.mktemp("client"))
        made.ask(
            *("login", place.url, "--first-user-username", "admin", "--first-user-full-name", "Admin"),
            *("--first-user-email", EMAIL, "--first-user-password", PASSWORD, "--first-user-trial=false"),
        )
        source = place.folder / "template"
        write_template(place)
        push(made, source)
        made.ask("create", "dev", "--template", "local", "--yes")
        try:
            yield made
        finally:
            made.ask("delete", "dev", "--yes", check=False)


def write_template(place: Lab) -> None:
    """Write our starter template, which the other program does not know."""
    place.run("templates", "init", "--id", "local", str(place.folder / "template"))


def push(client: Client, source: Path) -> None:
    """Push the template; nobody is there to answer questions."""
    homes = f"data_dir={client.place.folder / 'workspaces'}"
    client.ask(
        *("templates", "push", "local", "--directory", str(source), "--variable", homes),
        *("--ignore-lockfile", "--yes"),
    )


def test_login_with_a_token(client: Client, tmp_path: Path) -> None:
    token = client.ask("tokens", "create").stdout.strip()
    other = Client(client.path, client.place, tmp_path)
    refused = other.ask("login", client.place.url, "--token", f"{token[:-1]}-", check=False)
    assert refused.returncode == 1

    other.ask("login", client.place.url, "--token", token)
    assert "admin" in other.ask("whoami").stdout
    assert other.build("dev") == ("start", "running")


def test_list_shows_the_workspace(client: Client) -> None:
    table = client.ask("list").stdout
    assert "admin/dev" in table
    assert "local" in table


def test_ssh_runs_a_command(client: Client) -> None:
    done = client.ask("ssh", "dev", "tr a-z A-Z; echo err >&2; exit 7", text="hello", check=False)

    assert (done.returncode, done.stdout) == (7, "HELLO"), done.stderr
    assert "err" in done.stderr


def test_stock_ssh_runs_a_command(client: Client, tmp_path: Path) -> None:
    config = tmp_path / "ssh_config"
    client.ask("config-ssh", "--yes", "--ssh-config-file", str(config))
    command = ["ssh", "-F", config, "coder.dev", "tr a-z A-Z; exit 3"]
    done = subprocess.run(
        command, env=client.environment, input="hello", capture_output=True, text=True, timeout=30, check=False
    )

    assert (done.returncode, done.stdout) == (3, "HELLO"), done.stderr


def test_pings_are_direct_and_relayed(client: Client) -> None:
    assert "p2p via" in client.ask("ping", "dev", "-n", "8", "--wait", "200ms").stdout

    relayed = client.ask("--disable-direct-connections", "ping", "dev", "-n", "2", "--wait", "200ms").stdout
    assert relayed.count("proxied via DERP") == 2, relayed


@pytest.mark.parametrize("direction", ["down", "up"])
def test_speedtest_measures_the_tunnel(client: Client, direction: str) -> None:
    output = client.ask("speedtest", "dev", "--direction", direction, "--time", "1s", "--output", "json").stdout

    assert json.loads(output)["overall"]["throughput_mbits"] > 10


def test_ports_are_forwarded(client: Client) -> None:
    forward_tcp(client, "dev")
    forward_udp(client, "dev")


def test_a_workspace_is_stopped_started_and_deleted(client: Client) -> None:
    client.ask("create", "other", "--template", "local", "--yes")
    assert client.ask("ssh", "other", "echo kept > ~/note; echo written").stdout == "written\n"
    client.ask("stop", "other", "--yes")
    assert client.build("other") == ("stop", "stopped")
    client.ask("start", "other", "--yes")
    assert client.ask("ssh", "other", "cat ~/note").stdout == "kept\n"
    client.ask("delete", "other", "--yes")
    assert [item["name"] for item in json.loads(client.ask("list", "--output", "json").stdout)] == ["dev"]


@pytest.fixture(scope="module", params=["warren", "upstream"])
def reached(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Generator[Client]:
    """Our command line, and a workspace whose agent is this program."""
    path = program(request.param)
    with lab() as place:
        place.start()
        place.login()
        write_template(place)
        template = place.folder / "template/main.tf"
        text = template.read_text()
        assert text.count(START_AGENT) == 1
        url = "${data.coder_workspace.me.access_url}"
        script = f'"export CODER_AGENT_AUTH=token CODER_AGENT_URL={url}; exec {path} agent"'
        template.write_text(text.replace(START_AGENT, f"AGENT_SCRIPT  = {script}"))
        made = Client(OURS, place, tmp_path_factory.mktemp("client"))
        made.ask("login", place.url, "--token", place.token)
        push(made, template.parent)
        made.ask("create", "dev", "--template", "local", "--yes")
        try:
            made.ask("ssh", "dev", "--", "true")
            (agent,) = place.agent_pids()
            assert str(path).encode() in Path(f"/proc/{agent}/cmdline").read_bytes().split(b"\0")
            yield made
        finally:
            made.ask("delete", "dev", "--yes", check=False)


def test_our_ssh_reaches_that_agent(reached: Client, tmp_path: Path) -> None:
    test_ssh_runs_a_command(reached)
    test_stock_ssh_runs_a_command(reached, tmp_path)
    assert reached.ask("ssh", "dev", "--", "echo $CODER_WORKSPACE_NAME").stdout == "dev\n"


def test_scp_copies_to_that_agent_and_back(reached: Client, tmp_path: Path) -> None:
    config = tmp_path / "ssh_config"
    reached.ask("config-ssh", "--yes", "--ssh-config-file", str(config))
    (tmp_path / "file").write_bytes(payload := os.urandom(8 << 20))
    there = f"coder.dev:{reached.place.folder}/copied"
    for source, target in ((tmp_path / "file", there), (there, tmp_path / "back")):
        command = ["scp", "-F", config, "-q", source, target]
        subprocess.run(command, env=reached.environment, check=True, timeout=60)

    assert (tmp_path / "back").read_bytes() == payload


def test_our_pings_and_speedtests_reach_that_agent(reached: Client) -> None:
    test_pings_are_direct_and_relayed(reached)
    for direction in ("down", "up"):
        test_speedtest_measures_the_tunnel(reached, direction)


def test_our_forwarded_ports_reach_that_agent(reached: Client) -> None:
    test_ports_are_forwarded(reached)


def test_that_agent_comes_and_goes_with_the_workspace(reached: Client) -> None:
    reached.ask("stop", "dev", "--yes")
    assert reached.place.agent_pids() == []
    reached.ask("start", "dev", "--yes")
    assert reached.ask("ssh", "dev", "--", "echo back").stdout == "back\n"


def forward_tcp(client: Client, workspace: str) -> None:
    """Forward a TCP port, and have a dozen connections through it answered."""
    local, served = free_port(socket.SOCK_STREAM), socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        for _ in range(12):
            connection, _ = served.accept()
            with connection:
                connection.sendall(connection.recv(100).upper())

    server = threading.Thread(target=serve)
    with served:
        served.settimeout(20)
        server.start()
        forwarded = f"{local}:{served.getsockname()[1]}"
        with client.running("port-forward", workspace, "--tcp", forwarded, ready=str(local)):
            for number in range(12):
                with socket.create_connection(("127.0.0.1", local), 10) as connection:
                    connection.sendall(f"hello {number}".encode())
                    assert connection.recv(100) == f"HELLO {number}".encode()
        server.join()


def forward_udp(client: Client, workspace: str) -> None:
    """Forward a UDP port, and have datagrams through it answered."""
    local = free_port(socket.SOCK_DGRAM)
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        server.bind(("127.0.0.1", 0))
        server.settimeout(10)
        sender.settimeout(10)
        forwarded = f"{local}:{server.getsockname()[1]}"
        with client.running("port-forward", workspace, "--udp", forwarded, ready=str(local)):
            for number in range(5):
                sender.sendto(f"question {number}".encode(), ("127.0.0.1", local))
                question, source = server.recvfrom(1500)
                assert question == f"question {number}".encode()
                server.sendto(b"answer to " + question, source)
                assert sender.recv(1500) == b"answer to " + question
