"""A long `scp` by stock OpenSSH goes on, each way, its checksum right, through the faults of networks and servers.

Server and workspace are in one network namespace, the client in another. `WARREN_TRANSFER_MIB=1024` makes the file
1 GiB; `--log-cli-level=info` tells how long bytes paused after each fault.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest
from benchmarks.lab import Lab
from benchmarks.transfer import checksum

from tests.e2e.stories import wait
from tests.integration.engine.harness import RelayServer
from warren.netlab.namespace import Namespace, join_by_wire, missing

log = logging.getLogger(__name__)

MIB = 1 << 20
SIZE = int(os.environ.get("WARREN_TRANSFER_MIB", "64")) * MIB
UNDISTURBED_SECONDS = 80
"""What a copy takes by its rate limit: every fault comes while it runs."""
STEP = SIZE // 40
"""Bytes that must arrive after a fault: more than the buffers hold that are behind it."""
RECOVERY_SECONDS = 45
SERVER, FIRST, SECOND = "10.77.0.1", "10.77.0.2", "10.77.0.3"
OTHER_REGION = 7
COUNTED = """
table inet faults {
    counter direct { }
    chain seen { type filter hook input priority 10; meta l4proto udp counter name direct; }
}
"""
CUT = """
table inet cut {
    chain out { type filter hook output priority 0; meta l4proto udp drop; }
    chain in { type filter hook input priority 0; meta l4proto udp drop; }
}
"""

pytestmark = [
    pytest.mark.skipif(bool(missing()), reason=missing() or "nothing is missing"),
    pytest.mark.skipif(not shutil.which("scp"), reason="OpenSSH is not installed here"),
    pytest.mark.timeout(600),
]


@dataclass
class Deployment:
    """A server with workspace `dev` on one side of a wire, a client on the other, and a relay besides the server's."""

    site: Namespace
    client: Namespace
    place: Lab
    folder: Path
    relay: RelayServer = field(init=False)
    address: str = FIRST

    def start_relay(self, port: int = 0) -> None:
        """Start the relay that is not the server's."""
        self.relay = self.site.call(lambda: RelayServer(host=SERVER, port=port))

    def restart_relay(self) -> None:
        """Let it go away, and come back after a moment."""
        self.relay.close()
        self.start_relay(self.relay.port)

    def start(self) -> None:
        """Start the server."""
        self.site.call(partial(self.place.start, "--derp-config-path", str(self.folder / "map.json")))

    def restart(self, number: signal.Signals) -> None:
        """End the server by a signal, and start the next."""
        assert self.place.process is not None
        self.place.process.send_signal(number)
        assert self.place.process.wait(30) == (0 if number is signal.SIGTERM else -number)
        self.start()

    def cut(self) -> None:
        """Lose all UDP between the two, without a word."""
        self.client.nft(CUT)

    def mend(self) -> None:
        """Let UDP pass again, and see it carry the bytes."""
        self.client.nft("delete table inet cut")
        self.wait_direct()

    def move(self) -> None:
        """Change the client's address."""
        before, self.address = self.address, SECOND if self.address == FIRST else FIRST
        self.client.ip(f"addr del {before}/24 dev wire", f"addr add {self.address}/24 dev wire")

    def udp_bytes(self) -> int:
        """Count what came to either side by UDP."""
        return sum(_counted(side) for side in (self.site, self.client))

    def wait_direct(self) -> None:
        """Wait until the bytes come by UDP, which is the direct path."""
        before = self.udp_bytes()
        wait(lambda: self.udp_bytes() - before > STEP, "the path is not direct", seconds=RECOVERY_SECONDS)


def _counted(side: Namespace) -> int:
    found = json.loads(side.run("nft", "-j", "list", "counter", "inet", "faults", "direct"))["nftables"]
    return next(int(each["counter"]["bytes"]) for each in found if "counter" in each)


@pytest.fixture(scope="module")
def deployment() -> Iterator[Deployment]:
    folder = Path(tempfile.mkdtemp(prefix="warren-long-", dir="/tmp"))
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        site, client = stack.enter_context(Namespace("site")), stack.enter_context(Namespace("client"))
        join_by_wire(site, client, "wire", "wire")
        site.ip(f"addr add {SERVER}/24 dev wire")
        client.ip(f"addr add {FIRST}/24 dev wire")
        for side in (site, client):
            side.nft(COUNTED)
        made = Deployment(site, client, Lab(folder, stun=False, host=SERVER), folder)
        made.start_relay()
        stack.callback(lambda: made.relay.close())
        (folder / "map.json").write_text(json.dumps(derp_map(made.relay.port)))
        stack.callback(site.call, made.place.close)
        made.start()
        for prepare in (made.place.login, made.place.template, made.place.workspace):
            site.call(prepare)
        config = ("config-ssh", "--yes", "--ssh-config-file", str(folder / "ssh_config"))
        client.call(partial(made.place.run, *config))
        yield made


def derp_map(port: int) -> dict[str, object]:
    """Make a map of the relay that is not the server's."""
    node = {
        "Name": f"{OTHER_REGION}a",
        "RegionID": OTHER_REGION,
        "HostName": SERVER,
        "DERPPort": port,
        "ForceHTTP": True,
        "STUNPort": -1,
    }
    region = {"RegionID": OTHER_REGION, "RegionCode": "other", "RegionName": "Other", "Nodes": [node]}
    return {"Regions": {str(OTHER_REGION): region}}


class Copy:
    """A running `scp`: how far it is, and the longest time in which nothing arrived, by what had happened last."""

    def __init__(self, deployment: Deployment, way: str) -> None:
        self.way, self.pauses = way, dict[str, float]()
        self.source, self._target = deployment.folder / f"{way}-source", deployment.folder / f"{way}-target"
        with self.source.open("wb") as file:
            for _ in range(SIZE // MIB):
                file.write(os.urandom(MIB))
        names = (
            (self.source, f"coder.dev:{self._target}") if way == "up" else (f"coder.dev:{self.source}", self._target)
        )
        rate = SIZE * 8 // 1000 // UNDISTURBED_SECONDS
        command = ["scp", "-q", "-l", str(rate), "-F", str(deployment.folder / "ssh_config"), *map(str, names)]
        self._told = deployment.folder / f"{way}-told"
        with self._told.open("wb") as told:
            self._process = deployment.client.call(
                lambda: subprocess.Popen(
                    command, env=deployment.place.environment, stdin=subprocess.DEVNULL, stderr=told
                )
            )
        self._began = time.monotonic()
        self._since = "the start"
        self._stop = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()

    @property
    def size(self) -> int:
        """Bytes that arrived."""
        return self._target.stat().st_size if self._target.exists() else 0

    @property
    def nearly_done(self) -> bool:
        """Whether it could end before the next fault has had its effect."""
        return self.size > SIZE - 4 * STEP

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def suffers(self, what: str) -> None:
        """Count pauses from now on as what this fault makes."""
        self._since = what

    def goes_on(self) -> None:
        """Wait until more has arrived than was on its way."""
        wanted = self.size + STEP

        def arrived() -> bool:
            size = self.size
            assert self.running or size == SIZE, f"{self.way}: scp ended after {self._since}: {self._told.read_text()}"
            return size >= min(wanted, SIZE)

        wait(arrived, f"{self.way}: nothing more arrived after {self._since}", seconds=RECOVERY_SECONDS)

    def ends(self) -> None:
        """Wait for its end, and compare the two files."""
        assert self._process.wait(4 * UNDISTURBED_SECONDS) == 0, self._told.read_text()
        self.close()
        log.info("%s: %d MiB in %.1f s", self.way, SIZE // MIB, time.monotonic() - self._began)
        for name, pause in self.pauses.items():
            log.info("  %-32s longest pause %.2f s", name, pause)
        assert checksum(self._target) == checksum(self.source)

    def close(self) -> None:
        """Stop it, if it runs, and looking at it. Idempotent."""
        self._stop.set()
        self._watcher.join()
        self._process.kill()
        self._process.wait(10)

    def _watch(self) -> None:
        size, grew_at = 0, time.monotonic()
        while not self._stop.wait(0.02):
            now = time.monotonic()
            self.pauses[self._since] = max(self.pauses.get(self._since, 0.0), now - grew_at)
            if self.size != size:
                size, grew_at = self.size, now


@pytest.mark.slow
def test_a_long_scp_each_way_goes_on_through_every_fault(deployment: Deployment) -> None:
    faults: list[tuple[str, Callable[[], None]]] = [
        ("direct: server killed", partial(deployment.restart, signal.SIGKILL)),
        ("direct: path cut", deployment.cut),
        ("relayed: other relay restarted", deployment.restart_relay),
        ("relayed: server restarted", partial(deployment.restart, signal.SIGTERM)),
        ("relayed: server killed", partial(deployment.restart, signal.SIGKILL)),
        ("relayed: address changed", deployment.move),
        ("direct again", deployment.mend),
        ("direct: address changed", deployment.move),
    ]
    with ExitStack() as stack:
        copies = [Copy(deployment, way) for way in ("down", "up")]
        for copy in copies:
            stack.callback(copy.close)
        deployment.wait_direct()
        for copy in copies:
            copy.goes_on()
        for name, fault in faults:
            for copy in [each for each in copies if each.nearly_done]:  # a busy machine: the rest is for the next
                copy.ends()
                copies[copies.index(copy)] = another = Copy(deployment, copy.way)
                stack.callback(another.close)
                another.goes_on()
            began = time.monotonic()
            for copy in copies:
                copy.suffers(name)
            fault()
            for copy in copies:
                copy.goes_on()
            so_far = ", ".join(f"{copy.way} {copy.size * 100 // SIZE} %" for copy in copies)
            log.info("%s: goes on after %.1f s (%s)", name, time.monotonic() - began, so_far)
        for copy in copies:
            copy.ends()
