"""A node of the lab in a process of its own, which can be stopped and go on, as a machine that sleeps does.

The process reads a line of JSON with what it is told, and writes a line with what it has to tell; it ends with its
input, and with the process that started it, stopped or not.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import IO

import anyio
import anyio.to_thread
import msgspec

from warren import _engine
from warren.errors import Unavailable
from warren.netlab.namespace import Namespace
from warren.netlab.node import serving
from warren.sdk.proxies import Proxies
from warren.tunnel.node import Node, NodeConfig

START_SECONDS = 30.0
_PR_SET_PDEATHSIG = 1


class Order(msgspec.Struct, frozen=True):
    """What the process is: the first line that it reads."""

    addresses: tuple[str, ...]
    tls_ca_pem: bytes | None
    derp_map: bytes


class Introduction(msgspec.Struct, frozen=True):
    """What one node is told of another; every further line, in both directions."""

    key: bytes
    disco_key: bytes
    addresses: tuple[str, ...]
    home_region: int
    endpoints: tuple[str, ...]


@dataclass(slots=True)
class RemoteNode:
    """The node in the process, as its starter sees it."""

    config: NodeConfig
    key: bytes
    disco_key: bytes
    _process: subprocess.Popen[str]

    def suspend(self) -> None:
        """Stop the process where it is."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on. Idempotent."""
        self._process.send_signal(signal.SIGCONT)


@asynccontextmanager
async def remote_node(
    namespace: Namespace, derp_map: bytes, config: NodeConfig, one: Node
) -> AsyncGenerator[RemoteNode]:
    """Start a node that serves as `serving` says, and keep it and `one` introduced to each other."""
    command = namespace.command(sys.executable, "-m", "warren.netlab.remote")
    with _start(command) as process:
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            _write(process.stdin, Order(config.addresses, config.tls_ca_pem, derp_map))
            with anyio.fail_after(START_SECONDS):
                first = await _read(process.stdout, Introduction)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_listen, process.stdout, one, first)
                tasks.start_soon(_tell, one, process.stdin)
                yield RemoteNode(config, first.key, first.disco_key, process)
                tasks.cancel_scope.cancel()
        finally:
            process.kill()


def _start(command: Sequence[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


async def _listen(source: IO[str], node: Node, first: Introduction) -> None:
    """Introduce to a node what is read, for ever."""
    introduction = first
    while True:
        _introduce(node, introduction)
        introduction = await _read(source, Introduction)


async def _tell(node: Node, target: IO[str]) -> None:
    """Write what a node is, now and whenever that changes, for ever."""
    async with node.watch() as events:
        while True:
            info = node.net_info
            if info is not None and info.preferred_region:
                endpoints = tuple(info.endpoints)
                told = Introduction(node.key, node.disco_key, node.config.addresses, info.preferred_region, endpoints)
                # In a thread: one that is stopped does not read.
                await anyio.to_thread.run_sync(_write, target, told, abandon_on_cancel=True)
            while not isinstance(await events.next(), _engine.NetInfo):
                pass


def _introduce(node: Node, other: Introduction) -> None:
    node.engine.set_peer(
        other.key,
        disco_key=other.disco_key,
        allowed_ips=other.addresses,
        home_region=other.home_region,
        endpoints=other.endpoints,
        keepalive=False,
    )


def _write(target: IO[str], value: msgspec.Struct) -> None:
    target.write(msgspec.json.encode(value).decode() + "\n")
    target.flush()


async def _read(source: IO[str], kind: type[Introduction]) -> Introduction:
    line = await anyio.to_thread.run_sync(source.readline, abandon_on_cancel=True)
    if not line:
        raise Unavailable("the process of the other node ended")
    return msgspec.json.decode(line, type=kind)


async def _main() -> None:
    order = msgspec.json.decode(sys.stdin.readline(), type=Order)
    config = NodeConfig(addresses=order.addresses, tls_ca_pem=order.tls_ca_pem, proxies=Proxies())
    async with Node.open(config) as node, serving(node), anyio.create_task_group() as tasks:
        node.engine.set_derp_map(order.derp_map)
        tasks.start_soon(_tell, node, sys.stdout)
        with suppress(Unavailable):
            while True:
                _introduce(node, await _read(sys.stdin, Introduction))
        tasks.cancel_scope.cancel()


if __name__ == "__main__":
    # A process that is stopped would outlive its starter for ever.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != 1:
        anyio.run(_main)
