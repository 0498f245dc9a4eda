"""Which TCP an engine gets on systems that allow more or less, and what it says about it."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.integration.engine.harness import Node, need_kernel_stack
from tests.integration.engine.test_paths import AGENT, CLIENT, PORT
from warren import _engine

CHECKOUT = Path(__file__).parents[3]
ADDRESS = "fd7a:115c:a1e0::1"

# In a process of its own: each takes rights away from itself before it makes engines.
PROGRAM = """
import ctypes, json, os, platform, struct, sys
from pathlib import Path
from tests.integration.engine.harness import Node
from tests.integration.engine.test_paths import AGENT, CLIENT, PORT, exchange
from warren import _engine

CLONE_NEWUSER, CLONE_NEWNS, MS_BIND = 0x10000000, 0x00020000, 4096
libc = ctypes.CDLL(None, use_errno=True)

def check(result):
    if result != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))

def own_user_namespace(more=0):
    uid, gid = os.getuid(), os.getgid()
    check(libc.unshare(CLONE_NEWUSER | more))
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
    Path("/proc/self/gid_map").write_text(f"0 {gid} 1")

def no_user_namespaces():
    own_user_namespace()
    Path("/proc/sys/user/max_user_namespaces").write_text("0")

def no_namespaces():
    no_user_namespaces()
    Path("/proc/sys/user/max_net_namespaces").write_text("0")

def no_tun():
    own_user_namespace(CLONE_NEWNS)
    check(libc.mount(b"/dev/null", b"/dev/net/tun", None, MS_BIND, None))

def nobody():
    if os.getuid() == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)


def seccomp():
    number = {"x86_64": 56, "aarch64": 220}[platform.machine()]
    load, equal, has, answer = 0x20, 0x15, 0x45, 0x06
    steps = [
        (load, 0, 0, 0), (equal, 0, 2, number), (load, 0, 0, 16), (has, 1, 0, 0x50000000),
        (answer, 0, 0, 0x7FFF0000), (answer, 0, 0, 0x00050001),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in steps))
    program = struct.pack("@HP", len(steps), ctypes.addressof(code))
    check(libc.prctl(38, 1, 0, 0, 0))
    check(libc.prctl(22, 2, program))

{rights}()
with Node(CLIENT) as client, Node(AGENT) as agent:
    client.know(agent)
    agent.know(client)
    agent.engine.listen(PORT)
    client.engine.ping(agent.engine.public_key, kind="tunnel")
    exchange(client, agent)
    refusal = ""
    try:
        Node(CLIENT, stack="kernel").engine.close()
    except _engine.InvalidConfig as error:
        refusal = str(error)
    print(json.dumps([client.engine.stack, client.engine.stack_reason, refusal]))
"""


@pytest.fixture(autouse=True)
def kernel_stack() -> None:
    """Skip where even we may not have namespaces: there is nothing to take away."""
    need_kernel_stack()


class Outcome(NamedTuple):
    stack: str
    reason: str
    refusal: str


def outcome(rights: str) -> Outcome:
    """Run two engines after `rights` took effect; they must exchange a word whatever they got."""
    program = PROGRAM.replace("{rights}", rights)
    done = subprocess.run(
        [sys.executable, "-c", program], check=False, capture_output=True, text=True, cwd=CHECKOUT, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return Outcome(*json.loads(done.stdout))


def test_an_ordinary_user_gets_the_kernels_tcp_at_once() -> None:
    assert outcome("nobody") == ("kernel", "", "")


def test_where_user_namespaces_are_forbidden_an_administrator_needs_none() -> None:
    got = outcome("no_user_namespaces")
    assert (got.stack, got.refusal) == ("kernel", "")
    assert got.reason.startswith("making a user and network namespace failed: No space left on device")
    assert "sysctl user.max_user_namespaces is 0" in got.reason


def test_where_all_namespaces_are_forbidden_the_portable_stack_takes_over_and_says_why() -> None:
    got = outcome("no_namespaces")
    assert got.stack == "portable"
    assert "making a user and network namespace failed" in got.reason
    assert "making a network namespace failed" in got.reason
    assert "hint: sysctl user.max_user_namespaces is 0: raise it" in got.reason
    assert got.refusal == f"the kernel's TCP cannot be used: {got.reason}"


def test_a_container_runtimes_filter_is_recognised() -> None:
    got = outcome("seccomp")
    assert got.stack == "portable"
    assert got.reason == (
        "making a user and network namespace failed: Operation not permitted (os error 1)"
        " (hint: a seccomp profile filters system calls here: allow clone with CLONE_NEWUSER)"
    )


def test_without_a_tun_device_a_veth_pair_does_the_same() -> None:
    got = outcome("no_tun")
    assert (got.stack, got.refusal) == ("kernel", "")
    assert got.reason.startswith("making a TUN device failed: Inappropriate ioctl for device")


def test_a_dialled_socket_is_the_kernels_own() -> None:
    with Node(CLIENT, stack="kernel") as client, Node(AGENT, stack="kernel") as agent:
        client.know(agent)
        agent.know(client)
        agent.engine.listen(PORT)
        near = client.dial(AGENT, PORT)
        far = agent.accept()
        with near, far:
            assert near.getpeername()[:2] == (AGENT, PORT)
            assert far.getpeername() == near.getsockname()
            for end in (near, far):
                assert os.get_blocking(end.fileno())
                assert end.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
                chosen = end.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\0").decode()
                assert chosen == client.engine.congestion_control
            assert client.engine.stats().tcp_flows == 1
        assert eventually(lambda: client.engine.stats().tcp_flows == 0)


def test_many_addresses_are_each_reachable() -> None:
    key, disco = _engine.generate_key(), _engine.generate_key()
    addresses = ["fd7a:115c:a1e0::b", "fd60:627a:a42b::b", "fd00:1234::b"]
    agent = _engine.Engine(key, disco, addresses, stack="kernel")
    agent.listen(PORT)
    with Node(CLIENT, stack="kernel") as client:
        client.engine.set_peer(
            agent.public_key,
            disco_key=agent.disco_public_key,
            allowed_ips=addresses,
            home_region=0,
            endpoints=[f"127.0.0.1:{agent.local_port}"],
            keepalive=False,
        )
        agent.set_peer(
            client.engine.public_key,
            disco_key=client.engine.disco_public_key,
            allowed_ips=[CLIENT],
            home_region=0,
            endpoints=[f"127.0.0.1:{client.engine.local_port}"],
            keepalive=False,
        )
        for address in addresses:
            with client.dial(address, PORT) as near:
                assert near.getpeername()[0] == address
    agent.close()


def helpers() -> list[int]:
    """List the helper processes of this one."""
    found = list[int]()
    for entry in Path("/proc").iterdir():
        try:
            fields = (entry / "stat").read_text().rsplit(") ", 1)[1].split() if entry.name.isdigit() else []
            if fields and int(fields[1]) == os.getpid() and (entry / "comm").read_text() == "warren-netns\n":
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def eventually(claim: object, *, within: float = 10) -> bool:
    assert callable(claim)
    deadline = time.monotonic() + within
    while not claim():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def test_a_helper_lives_as_long_as_its_engine_and_is_nobodys_child() -> None:
    before = set(helpers())
    engines = [Node(ADDRESS, stack="kernel") for _ in range(3)]
    ours = set(helpers()) - before
    assert len(ours) == 3
    for helper in ours:
        with pytest.raises(ChildProcessError):
            os.waitpid(helper, os.WNOHANG)
    for node in engines:
        node.engine.close()
    assert eventually(lambda: set(helpers()) <= before)


def test_a_helper_dies_with_a_process_that_is_killed() -> None:
    program = (
        "import sys; from tests.integration.engine.harness import Node\n"
        f"node = Node('{ADDRESS}', stack='kernel'); print('ready', flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=CHECKOUT
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        children = Path(f"/proc/{process.pid}/task").glob("*/children")
        (child,) = "".join(path.read_text() for path in children).split()
        process.kill()
    gone = Path(f"/proc/{child}")
    assert eventually(lambda: not gone.exists())


def test_engines_start_and_end_on_many_threads_at_once() -> None:
    failures = list[BaseException]()

    def live() -> None:
        try:
            for _ in range(5):
                with Node(ADDRESS, stack="kernel") as node:
                    node.engine.listen(22)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=live) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


@pytest.mark.parametrize("congestion_control", ["bbr", "cubic", "auto"])
def test_the_congestion_control_is_what_was_asked_for(congestion_control: str) -> None:
    key = _engine.generate_key()
    try:
        engine = _engine.Engine(key, key, [ADDRESS], stack="kernel", congestion_control=congestion_control)
    except _engine.InvalidConfig as error:
        pytest.skip(f"this kernel has none: {error}")
    assert engine.congestion_control in (congestion_control, "bbr", "cubic", "reno")
    if congestion_control != "auto":
        assert engine.congestion_control == congestion_control
    engine.close()


def test_what_is_no_stack_and_no_congestion_control_is_refused() -> None:
    key = _engine.generate_key()
    with pytest.raises(_engine.InvalidConfig, match="`vegas` is no congestion control"):
        _engine.Engine(key, key, [ADDRESS], congestion_control="vegas")
    with pytest.raises(_engine.InvalidConfig, match="`users` is no stack"):
        _engine.Engine(key, key, [ADDRESS], stack="users")
