"""Ports of the loopback interface that nothing listens on."""

from __future__ import annotations

import random
import socket
import sys

# Below what systems give to those who name no port: a connection that is made meanwhile must not take one that was
# found here and is not listened on yet.
_RANGE = range(15_000, 32_000)
_TRIES = 1000


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """Find a port that nobody uses, and that no one else who asks here is given while this process lives."""
    chance = random.SystemRandom()
    for _ in range(_TRIES):
        port = chance.choice(_RANGE)
        if _is_free(port, kind) and _reserve(port):
            return port
    raise OSError(f"no port of {_RANGE} is free")


def _is_free(port: int, kind: socket.SocketKind) -> bool:
    with socket.socket(socket.AF_INET, kind) as probe:
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True


def _reserve(port: int) -> bool:
    """Take a name for the port that only one process of the machine can have, where the system has such names."""
    if sys.platform != "linux":
        return True
    name = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        name.bind(f"\0warren-test-port-{port}")
    except OSError:
        name.close()
        return False
    name.detach()  # held until the process ends
    return True
