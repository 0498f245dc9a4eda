"""One end of a measured connection, in a process of its own: an engine, or plain kernel TCP for comparison.

The first argument is its configuration as JSON; it says what it is on a line of JSON, then does what each line of its
input asks and answers with a line. Every end serves the old small services: 7 echoes, 9 discards, 13 ticks (a few
bytes every 5 ms), 19 pours zeros.
"""

from __future__ import annotations

import itertools
import json
import os
import queue
import resource
import select
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

BLOCK_BYTES = 2 << 20
TICK_SECONDS = 0.005
TICK = b"tick"
ECHO, DISCARD, TICKS, POUR = 7, 9, 13, 19
DIAL_SECONDS = 15.0

Json = dict[str, Any]  # what stands on a line: an object of anything


class Network(Protocol):
    """What carries the connections of an end."""

    about: Json

    def know(self, peer: Json) -> None: ...
    def dial(self, port: int) -> socket.socket: ...
    def path(self) -> Json: ...


def serve(connection: socket.socket, port: int) -> None:
    """Be the service of a port until the other side has had enough."""
    connection.setblocking(True)
    buffer = bytearray(BLOCK_BYTES)
    try:
        with connection:
            if port == POUR:
                while True:
                    connection.sendall(buffer)
            elif port == TICKS:
                while True:
                    connection.sendall(TICK)
                    time.sleep(TICK_SECONDS)
            else:
                while count := connection.recv_into(buffer):
                    if port == ECHO:
                        connection.sendall(memoryview(buffer)[:count])
    except OSError:
        return  # the other side has left


def start(work: Callable[..., None], *args: object) -> threading.Thread:
    """Run `work` beside everything else."""
    thread = threading.Thread(target=work, args=args, daemon=True)
    thread.start()
    return thread


class Tunnel:
    """Connections through an engine."""

    def __init__(self, config: Json) -> None:
        from warren import _engine

        self._module = _engine
        self._address = config["address"]
        self.began = time.perf_counter()
        self.engine = _engine.Engine(
            _engine.generate_key(),
            _engine.generate_key(),
            [self._address],
            stack=config.get("stack", "auto"),
            block_direct=config.get("block_direct", False),
        )
        self._peer: Json = {}
        self._replies: dict[int, queue.SimpleQueue[Any]] = {}
        self._changes: list[tuple[float, bool, str]] = []
        for port in (ECHO, DISCARD, TICKS, POUR):
            self.engine.listen(port)
        start(self._follow)
        self.about = {
            "key": self.engine.public_key.hex(),
            "disco": self.engine.disco_public_key.hex(),
            "address": self._address,
            "endpoints": [f"{config['host']}:{self.engine.local_port}"],
            "stack": self.engine.stack,
            "stack_reason": self.engine.stack_reason,
        }
        if config.get("map"):
            self.engine.set_derp_map(json.dumps(config["map"]).encode())

    def know(self, peer: Json) -> None:
        """Introduce the other end."""
        self._peer = peer
        self.engine.set_peer(
            bytes.fromhex(peer["key"]),
            disco_key=bytes.fromhex(peer["disco"]),
            allowed_ips=[peer["address"] + "/128"],
            home_region=peer.get("region", 0),
            endpoints=peer["endpoints"],
            keepalive=False,
        )

    def dial(self, port: int) -> socket.socket:
        """Connect to the other end."""
        token = self.engine.dial(self._peer["address"], port, timeout_seconds=DIAL_SECONDS)
        event = self._reply(token)
        if isinstance(event, self._module.DialFailed):
            raise ConnectionError(f"{event.code}: {event.reason}")
        connection = socket.socket(fileno=event.fd)
        connection.setblocking(True)
        return connection

    def ping(self) -> float:
        """Seconds of one ping inside of the tunnel."""
        event = self._reply(self.engine.ping(bytes.fromhex(self._peer["key"]), kind="tunnel"))
        if isinstance(event, self._module.PingFailed):
            raise ConnectionError(event.reason)
        return event.latency_seconds

    def path(self) -> Json:
        """Which way the other end is reached, why, and since when (seconds after the start of the engine)."""
        stats = self.engine.peers()[0]
        direct_at = next((at for at, direct, _ in self._changes if direct), None)
        return {"direct": stats.direct, "reason": stats.reason, "direct_after": direct_at, "changes": self._changes}

    def _reply(self, token: int) -> Any:
        return self._replies.setdefault(token, queue.SimpleQueue()).get(timeout=DIAL_SECONDS + 5)

    def _follow(self) -> None:
        while True:
            select.select([self.engine.fileno()], [], [])
            for event in self.engine.events():
                match event:
                    case self._module.Accepted(port, fd, _, _):
                        start(serve, socket.socket(fileno=fd), port)
                    case self._module.PathChanged(_, direct, _, _, _, reason):
                        self._changes.append((time.perf_counter() - self.began, direct, reason))
                    case _ if (token := getattr(event, "token", 0)) != 0:
                        self._replies.setdefault(token, queue.SimpleQueue()).put(event)
                    case _:
                        pass


class Plain:
    """Connections of the kernel's own, without a tunnel: what the path itself gives."""

    def __init__(self, config: Json) -> None:
        self._control = config.get("congestion_control", "")
        self._peer: Json = {}
        ports: dict[str, int] = {}
        for port in (ECHO, DISCARD, TICKS, POUR):
            listener = self._socket()
            listener.bind((config["host"], 0))
            listener.listen()
            ports[str(port)] = listener.getsockname()[1]
            start(self._accept, listener, port)
        used = self._socket().getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\0").decode()
        self.about = {"host": config["host"], "ports": ports, "stack": "plain", "congestion_control": used}

    def know(self, peer: Json) -> None:
        """Introduce the other end."""
        self._peer = peer

    def dial(self, port: int) -> socket.socket:
        """Connect to the other end."""
        connection = self._socket()
        connection.settimeout(DIAL_SECONDS)
        connection.connect((self._peer["host"], self._peer["ports"][str(port)]))
        connection.setblocking(True)
        return connection

    def path(self) -> Json:
        """There is one way only."""
        return {"direct": True}

    def _socket(self) -> socket.socket:
        made = socket.socket()
        if self._control:
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, self._control.encode())
        return made

    def _accept(self, listener: socket.socket, port: int) -> None:
        while True:
            start(serve, listener.accept()[0], port)


def take(connection: socket.socket, seconds: float, counts: list[int]) -> None:
    """Receive for so long."""
    buffer, total = bytearray(BLOCK_BYTES), 0
    end = time.perf_counter() + seconds
    with connection:
        while (left := end - time.perf_counter()) > 0:
            connection.settimeout(left)
            try:
                count = connection.recv_into(buffer)
            except TimeoutError:
                break
            if not count:
                raise ConnectionError("the stream ended")
            total += count
    counts.append(total)


def give(connection: socket.socket, seconds: float, counts: list[int]) -> None:
    """Send for so long; count what the other side was given room for."""
    block, total = bytes(BLOCK_BYTES), 0
    end = time.perf_counter() + seconds
    with connection:
        while (left := end - time.perf_counter()) > 0:
            connection.settimeout(left)
            try:
                total += connection.send(block)
            except TimeoutError:
                break
    counts.append(total)


def move(network: Network, takes: int, gives: int, seconds: float) -> Json:
    """Move bytes by several streams at once."""
    counts: list[int] = []
    work = [(take, network.dial(POUR)) for _ in range(takes)] + [(give, network.dial(DISCARD)) for _ in range(gives)]
    began = time.perf_counter()
    threads = [start(each, connection, seconds, counts) for each, connection in work]
    for thread in threads:
        thread.join()
    if len(counts) < len(work):
        raise ConnectionError("a stream broke")
    return {"bytes": sum(counts), "seconds": time.perf_counter() - began}


def echoes(network: Network, count: int) -> Json:
    """Send a byte and wait for it, again and again."""
    times: list[float] = []
    with network.dial(ECHO) as connection:
        if connection.family != socket.AF_UNIX:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(count):
            began = time.perf_counter()
            connection.sendall(b"x")
            connection.recv(1)
            times.append(time.perf_counter() - began)
    return {"seconds": sorted(times)[len(times) // 2]}


class Ticks:
    """A steady trickle from the other end, and the longest pause in it."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._arrivals: list[float] = []
        self._broken = ""
        self._thread = start(self._read)

    def _read(self) -> None:
        try:
            while self._connection.recv(4096):
                self._arrivals.append(time.perf_counter())
            self._broken = "the stream ended"
        except OSError as error:
            self._broken = str(error)

    def since(self, at: float) -> Json:
        """The longest pause after `at`, in seconds, and whether the stream still lives."""
        times = [at, *(each for each in self._arrivals if each >= at), time.perf_counter()]
        gaps = [right - left for left, right in itertools.pairwise(times)]
        return {"gap": max(gaps), "broken": self._broken, "ticks": len(times) - 2}


def memory() -> Json:
    """Peak and present resident memory, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    present = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return {"peak": peak, "present": present}


def answer(network: Any, ticks: list[Ticks], asked: Json) -> Json:
    """Do what a line asks."""
    match asked["do"]:
        case "know":
            network.know(asked["peer"])
            return {}
        case "move":
            return move(network, asked["takes"], asked["gives"], asked["seconds"])
        case "echo":
            echoes(network, 1)
            return {"since_start": time.perf_counter() - network.began}
        case "echoes":
            return echoes(network, asked["count"])
        case "pings":
            return {"seconds": sorted(network.ping() for _ in range(asked["count"]))[asked["count"] // 2]}
        case "ticks":
            ticks.append(Ticks(network.dial(TICKS)))
            return {}
        case "gap":
            return ticks[-1].since(asked["at"])
        case "path":
            return network.path()
        case "memory":
            return memory()
        case unknown:
            return {"error": f"no such work: {unknown}"}


def main() -> None:
    """Serve until the input ends."""
    config: Json = json.loads(sys.argv[1])
    before = memory()["present"]
    network = Plain(config) if config.get("stack") == "plain" else Tunnel(config)
    ticks: list[Ticks] = []

    def say(line: Json) -> None:
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()

    say(network.about | {"pid": os.getpid(), "before": before})
    for line in sys.stdin:
        try:
            say(answer(network, ticks, json.loads(line)))
        except (OSError, queue.Empty) as error:
            say({"error": f"{type(error).__name__}: {error}"})
    os._exit(0)  # threads that serve are in the middle of something


if __name__ == "__main__":
    main()
