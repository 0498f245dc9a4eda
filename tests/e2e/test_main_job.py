"""What a new user does on the first day, with stock tools over the tunnel."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from benchmarks.lab import Lab

from tests.ports import free_port


def tool(
    place: Lab, *command: str, seconds: float = 60, text: str = "", check: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run a program as the user would who is signed in."""
    done = subprocess.run(
        command, env=place.environment, input=text, capture_output=True, text=True, timeout=seconds, check=False
    )
    assert not check or done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def forwarding(place: Lab, *arguments: str, ready: str) -> Generator[None]:
    """Run `warren port-forward` until the end of the block."""
    process = subprocess.Popen(
        ["warren", "port-forward", "dev", *arguments],
        env=place.environment,
        stderr=subprocess.STDOUT,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    )
    assert process.stdout is not None
    lines: list[str] = []
    try:
        for line in process.stdout:
            lines.append(line)
            if ready in line:
                break
        else:
            raise AssertionError("".join(lines))
        yield
    finally:
        process.terminate()
        process.wait(10)
        process.stdout.close()


def test_a_command_runs_in_the_workspace_and_its_exit_code_is_ours(running: Lab) -> None:
    done = tool(running, "warren", "ssh", "dev", "--", "echo out; echo err >&2; exit 7", check=False)

    assert (done.returncode, done.stdout, done.stderr.strip().splitlines()[-1:]) == (7, "out\n", ["err"])


def test_stock_ssh_pipes_both_ways(running: Lab, ssh_config: Path) -> None:
    done = tool(running, "ssh", "-F", str(ssh_config), "coder.dev", "tr a-z A-Z; exit 3", text="hello", check=False)

    assert (done.returncode, done.stdout) == (3, "HELLO")


def test_scp_copies_a_tree_and_back(running: Lab, ssh_config: Path, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "deep").mkdir(parents=True)
    (tree / "big").write_bytes(os.urandom(32 << 20))
    (tree / "deep/small").write_text("small")
    (tree / "deep/run.sh").write_text("#!/bin/sh\n")
    (tree / "deep/run.sh").chmod(0o755)

    tool(running, "scp", "-F", str(ssh_config), "-rpq", str(tree), f"coder.dev:{running.folder}/copied")
    tool(running, "scp", "-F", str(ssh_config), "-rpq", f"coder.dev:{running.folder}/copied", str(tmp_path / "back"))

    assert digest(tmp_path / "back/big") == digest(tree / "big")
    assert (tmp_path / "back/deep/small").read_text() == "small"
    assert (tmp_path / "back/deep/run.sh").stat().st_mode & 0o777 == 0o755


def test_sftp_lists_gets_and_renames(running: Lab, ssh_config: Path, tmp_path: Path) -> None:
    target = running.folder / "sftp-target"
    (tmp_path / "file").write_text("by sftp")
    lines = [
        f"put {tmp_path}/file {target}",
        f"rename {target} {target}.new",
        f"get {target}.new {tmp_path}/back",
        f"ls -l {target}.new",
    ]
    batch = "\n".join([*lines, ""])

    done = tool(running, "sftp", "-F", str(ssh_config), "-b", "-", "coder.dev", text=batch)

    assert (tmp_path / "back").read_text() == "by sftp"
    assert "sftp-target.new" in done.stdout


@pytest.mark.skipif(not shutil.which("rsync"), reason="rsync is not installed here")
def test_rsync_sends_what_changed(running: Lab, ssh_config: Path, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    command = ["rsync", "-a", "-e", f"ssh -F {ssh_config}", f"{tmp_path}/", f"coder.dev:{running.folder}/synced/"]
    tool(running, *command)
    (tmp_path / "b").write_text("b")
    tool(running, *command)

    assert (running.folder / "synced/b").read_text() == "b"


def test_git_pushes_and_clones_over_the_tunnel(running: Lab, ssh_config: Path, tmp_path: Path) -> None:
    running_git = [
        "git",
        "-c",
        "user.name=Dev",
        "-c",
        "user.email=dev@example.com",
        "-c",
        f"core.sshCommand=ssh -F {ssh_config}",
    ]
    source, remote = tmp_path / "source", f"coder.dev:{running.folder}/repository.git"
    tool(running, "warren", "ssh", "dev", "--", f"git init -q --bare -b main {running.folder}/repository.git")
    tool(running, "git", "init", "-q", "-b", "main", str(source))
    (source / "file").write_text("versioned")
    tool(running, *running_git, "-C", str(source), "add", "file")
    tool(running, *running_git, "-C", str(source), "commit", "-qm", "first")
    tool(running, *running_git, "-C", str(source), "push", "-q", remote, "main")
    tool(running, *running_git, "clone", "-q", "-b", "main", remote, str(tmp_path / "clone"))

    assert (tmp_path / "clone/file").read_text() == "versioned"


def test_a_forwarded_tcp_port_carries_many_connections(running: Lab) -> None:
    local, served = free_port(), socket.create_server(("127.0.0.1", 0))
    remote = served.getsockname()[1]
    served.settimeout(60)

    def serve() -> None:
        for _ in range(20):
            connection, _ = served.accept()
            with connection:
                connection.sendall(connection.recv(100).upper())

    server = threading.Thread(target=serve)
    server.start()
    with forwarding(running, "--tcp", f"{local}:{remote}", ready=str(local)):
        for number in range(20):
            with socket.create_connection(("127.0.0.1", local), 10) as connection:
                connection.sendall(f"hello {number}".encode())
                assert connection.recv(100) == f"HELLO {number}".encode()
    server.join(10)
    served.close()


def test_a_closed_port_is_refused(running: Lab) -> None:
    local, closed = free_port(), free_port()
    with (
        forwarding(running, "--tcp", f"{local}:{closed}", ready=str(local)),
        socket.create_connection(("127.0.0.1", local), 10) as connection,
    ):
        connection.settimeout(10)
        with suppress(ConnectionResetError):
            assert connection.recv(1) == b""


def test_a_forwarded_udp_port_answers_like_a_name_server(running: Lab) -> None:
    local = free_port()
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 0))
    stop = threading.Event()

    def serve() -> None:
        server.settimeout(0.2)
        while not stop.is_set():
            try:
                query, source = server.recvfrom(1500)
            except TimeoutError:
                continue
            server.sendto(query[:2] + b"\x81\x80" + query[4:], source)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with (
            forwarding(running, "--udp", f"{local}:{server.getsockname()[1]}", ready=str(local)),
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
        ):
            client.settimeout(20)
            for number in range(5):
                query = bytes([7, number]) + b"\x01\x00" + b"question"
                client.sendto(query, ("127.0.0.1", local))
                assert client.recv(1500) == bytes([7, number]) + b"\x81\x80" + b"question"
    finally:
        stop.set()
        thread.join()
        server.close()


def test_ping_tells_the_path_and_the_reason(running: Lab) -> None:
    output = running.run("ping", "-v", "dev", "-n", "4")

    assert "pong from dev" in output
    assert "p2p via" in output, output


def test_everything_works_by_relay_when_direct_paths_are_off(running: Lab) -> None:
    output = running.run("--disable-direct-connections", "ping", "dev", "-n", "2")
    assert "proxied via DERP" in output
    assert "p2p via" not in output

    assert running.run("--disable-direct-connections", "ssh", "dev", "--", "echo relayed") == "relayed\n"


def test_speedtest_reports_json(running: Lab) -> None:
    result = json.loads(running.run("speedtest", "dev", "--time", "1s", "--output", "json"))

    assert result["overall"]["throughput_mbits"] > 10
    assert result["intervals"]


def test_a_stopped_workspace_is_started_by_ssh_with_its_home_kept(running: Lab) -> None:
    running.run("ssh", "dev", "--", "echo kept > ~/note")
    running.run("stop", "dev", "--yes")
    assert running.agent_pids() == []

    assert running.run("ssh", "dev", "--", "cat ~/note") == "kept\n"


def test_list_and_show_say_what_is_there(running: Lab) -> None:
    assert "dev" in running.run("list")
    (workspace,) = json.loads(running.run("list", "--output", "json"))
    assert workspace["name"] == "dev"
    assert workspace["latest_build"]["status"] == "running"
    assert "main" in running.run("show", "dev")


def test_inside_the_workspace_coder_is_warren(running: Lab) -> None:
    assert running.run("ssh", "dev", "--", "coder version").split()[0].lower().startswith(("warren", "coder"))
    assert running.run("ssh", "dev", "--", 'echo "$CODER $CODER_WORKSPACE_NAME"') == "true dev\n"


def test_a_client_that_is_killed_leaves_no_trace(running: Lab) -> None:
    marker = f"waits-{os.getpid()}"
    # As with OpenSSH, a command without a terminal is not killed with its client; its input ends.
    client = subprocess.Popen(
        ["warren", "ssh", "dev", "--", f"exec -a {marker} cat"],
        env=running.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        stdin=subprocess.PIPE,
    )
    wait(lambda: processes(marker), "the command in the workspace did not start")
    client.kill()
    client.communicate()
    wait(lambda: not processes(marker), "the command in the workspace lives on", seconds=45)


def processes(marker: str) -> list[int]:
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and (entry / "cmdline").read_bytes().startswith(marker.encode()):
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def wait(condition: object, problem: str, seconds: float = 15) -> None:
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, problem
        time.sleep(0.05)
