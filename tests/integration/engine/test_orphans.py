"""Connections of the kernel's TCP whose process or engine has gone must go: their memory is the whole machine's."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.integration.engine.harness import Node, need_kernel_stack
from tests.integration.engine.orphaning import AGENT, CLIENT, CONNECTIONS, PORT
from tests.integration.engine.test_paths import in_namespace

CHECKOUT = Path(__file__).parents[3]
# Time-wait is no connection any more: the kernel keeps it in a small record that goes with the namespace.
OVER = {"06", "0A"}


@pytest.fixture(autouse=True)
def kernel_stack() -> None:
    need_kernel_stack()


class Entry(NamedTuple):
    """A TCP socket of a namespace; `state` as in tcp_states.h, `orphan` when nobody has it open."""

    state: str
    orphan: bool


class Inside:
    """The network of an engine, which can be looked into after its process has gone."""

    def __init__(self, helper: int) -> None:
        self._files = [os.open(f"/proc/{helper}/ns/{kind}", os.O_RDONLY) for kind in ("user", "net")]

    def close(self) -> None:
        for file in self._files:
            os.close(file)

    def read(self, path: str) -> str:
        """Read a file as it looks from there."""
        user, net = (f"/proc/{os.getpid()}/fd/{file}" for file in self._files)
        enter = ["nsenter", f"--user={user}", f"--net={net}", "--preserve-credentials"]
        return subprocess.run([*enter, "cat", path], check=True, capture_output=True, text=True).stdout

    def connections(self) -> list[Entry]:
        """List what has a peer."""
        rows = [line.split() for line in self.read("/proc/net/tcp6").splitlines()[1:]]
        # A closed end that waits for its peer's end is a small record, too: its timer is the one that tells.
        small = {"05"}
        entries = [(Entry(row[3], row[9] == "0"), row[5].startswith("03:")) for row in rows]
        return [entry for entry, record in entries if entry.state not in OVER and not (record and entry.state in small)]


def helpers(process: int) -> list[int]:
    children = Path(f"/proc/{process}/task").glob("*/children")
    return [int(child) for path in children for child in path.read_text().split()]


# In a mount namespace of its own, as in a container: the kernel's settings can be read only.
READ_ONLY = [
    *("unshare", "--user", "--map-root-user", "--mount", "sh", "-c"),
    'mount --rbind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys && exec "$@"',
    "sh",
]


@contextmanager
def orphaning(*enter: str) -> Generator[tuple[subprocess.Popen[str], list[Inside], list[int]]]:
    """Start the program; gives it, the networks of its engines, and their helpers."""
    command = [*enter, sys.executable, "-m", "tests.integration.engine.orphaning"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=CHECKOUT) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        found = helpers(process.pid)
        assert len(found) == 2
        networks = [Inside(helper) for helper in found]
        try:
            yield process, networks, found
        finally:
            process.kill()
            for network in networks:
                network.close()


def connections(networks: list[Inside]) -> list[Entry]:
    return [entry for network in networks for entry in network.connections()]


def none_left(networks: list[Inside], *, within: float) -> bool:
    deadline = time.monotonic() + within
    while connections(networks):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def test_a_killed_process_leaves_no_connection_behind() -> None:
    with orphaning() as (process, networks, _):
        before = connections(networks)
        assert len(before) >= 2 * CONNECTIONS - CONNECTIONS // 2
        assert any(entry.orphan for entry in before), "some were closed with bytes in them"
        process.kill()
        assert none_left(networks, within=60), connections(networks)


def test_a_closed_engine_leaves_no_connection_behind() -> None:
    with orphaning() as (process, networks, _):
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("close\n")
        process.stdin.flush()
        assert process.stdout.readline() == "closed\n"
        assert none_left(networks, within=60), connections(networks)


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.skipif("WARREN_LONG_TESTS" not in os.environ, reason="takes two minutes: set WARREN_LONG_TESTS")
def test_what_is_killed_with_its_helper_is_given_up_by_the_kernel() -> None:
    with orphaning() as (process, networks, found):
        for each in (*found, process.pid):
            os.kill(each, signal.SIGKILL)
        assert none_left(networks, within=300), connections(networks)


def test_what_a_program_wrote_arrives_although_all_is_closed_at_once() -> None:
    with Node(CLIENT, stack="kernel") as client, Node(AGENT, stack="kernel") as agent:
        client.know(agent)
        agent.know(client)
        agent.engine.listen(PORT)
        near, far = client.dial(AGENT, PORT), agent.accept()
        with far:
            with near:
                near.sendall(bytes(32 << 10))
            client.engine.close()
            far.settimeout(20)
            arrived = 0
            while data := far.recv(1 << 16):
                arrived += len(data)
            assert arrived == 32 << 10


def test_a_silent_peer_is_waited_for_by_counting_attempts_which_ends_for_orphans() -> None:
    with orphaning() as (_, networks, _):
        for network in networks:
            if network.read("/proc/sys/net/ipv4/tcp_retries2").strip() != "255":
                pytest.skip("/proc/sys is read-only here")
            assert network.read("/proc/sys/net/ipv4/tcp_orphan_retries").strip() == "0"
    assert user_timeout() == 0


def user_timeout(*enter: str) -> int:
    """Say what a dialled connection has for `TCP_USER_TIMEOUT`, in milliseconds."""
    program = (
        "import socket\nfrom tests.integration.engine.test_orphans import *\n"
        "with Node(CLIENT, stack='kernel') as client, Node(AGENT, stack='kernel') as agent:\n"
        "    client.know(agent); agent.know(client); agent.engine.listen(PORT)\n"
        "    with client.dial(AGENT, PORT) as near:\n"
        "        print(near.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT))"
    )
    command = [*enter, sys.executable, "-c", program]
    return int(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=CHECKOUT, timeout=60).stdout)


def test_where_the_kernels_settings_are_read_only_connections_wait_by_themselves_and_none_is_left_behind() -> None:
    if subprocess.run([*READ_ONLY, "true"], check=False, capture_output=True).returncode:
        pytest.skip("this machine does not allow mount namespaces")
    assert user_timeout(*READ_ONLY) == 8 * 3600 * 1000
    if not destroys_orphans():
        pytest.skip("before Linux 6.11 orphans cannot be aborted")
    with orphaning(*READ_ONLY) as (process, networks, _):
        process.kill()
        assert none_left(networks, within=60), connections(networks)


def destroys_orphans() -> bool:
    major, minor = (int("".join(filter(str.isdigit, part))) for part in os.uname().release.split(".")[:2])
    return (major, minor) >= (6, 11)


def test_a_silent_peer_is_tried_every_few_seconds_and_what_waits_goes_on_when_it_is_back() -> None:
    found = json.loads(in_namespace("-m", "tests.integration.engine.silence"))
    assert found["attempts"] >= 9, found
    assert found["longest"] < 10, found  # by itself a kernel would be at a minute
    assert found["arrived"] == "after", found
    assert found["resumed"] < 10, found
