"""Links with the faults of real networks: two TUN devices and an impairer of ours between them.

For whoever wants to measure over a bad line, as `benchmarks/network` does:

    with impaired_link(delay_seconds=0.01, loss=0.001, seed=7) as link:
        server = subprocess.Popen(link.right.command("iperf3", "-s", "-1"))
        subprocess.run(link.left.command("iperf3", "-c", link.right_address), check=True)
        link.impairer.set(loss=1.0)              # cut it silently
        to_the_right, to_the_left = link.impairer.stats()

`left` and `right` are namespaces (`warren.netlab.namespace`): `.command(...)` makes a command line that runs a program
inside (with `nsenter`, while this process lives), `.start(...)` starts one, `.call(function)` runs a function in a
thread inside. The delay is one way: 0.01 s make a round trip of 20 ms. It needs root, or a user namespace of one's own
(`unshare --map-root-user`). Everything is gone when the context ends, or the process. TCP's buffers may grow to 128 MiB
in both, so that it is the line which limits, not a window.
"""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass

from warren import _engine
from warren.netlab.namespace import Namespace

LEFT_ADDRESS, RIGHT_ADDRESS = "10.99.0.1", "10.99.0.2"
LEFT_ADDRESS6, RIGHT_ADDRESS6 = "2001:db8:99::1", "2001:db8:99::2"
_QUEUE_PACKETS = 5000
"""Packets that may wait for the impairer's thread: a scheduling delay of some milliseconds must lose nothing."""
_TCP_BUFFERS = {
    f"ipv4/tcp_{name}": "4096 131072 134217728"  # least, at first, most: 10 Gbit/s at 100 ms need 125 MB
    for name in ("rmem", "wmem")
}
_INTERFACE = struct.Struct("16sH22x")
_TUN, _NO_PACKET_INFO, _VNET_HEADER = 0x0001, 0x1000, 0x4000
_TUNSETIFF, _TUNSETOFFLOAD = 0x400454CA, 0x400454D0
_CHECKSUM, _TSO4, _TSO6, _TSO_ECN, _USO4, _USO6 = 0x01, 0x02, 0x04, 0x08, 0x20, 0x40
_OFFLOADS = _CHECKSUM | _TSO4 | _TSO6 | _TSO_ECN


@dataclass(frozen=True, slots=True)
class Impairment:
    """What a link does to packets, in each direction; shares are from 0 to 1."""

    delay_seconds: float = 0.0
    loss: float = 0.0
    reorder: float = 0.0
    reorder_seconds: float = 0.001
    duplicate: float = 0.0
    rate_bits_per_second: float = 0.0
    queue_bytes: int | None = None
    """None: a tenth of a second of the rate."""

    def start(self, left: int, right: int, *, seed: int) -> _engine.Impairer:
        """Start an impairer between the TUN devices with these descriptors."""
        return _engine.Impairer(
            left,
            right,
            seed=seed,
            delay_seconds=self.delay_seconds,
            loss=self.loss,
            reorder=self.reorder,
            reorder_seconds=self.reorder_seconds,
            duplicate=self.duplicate,
            rate_bits_per_second=self.rate_bits_per_second,
            queue_bytes=self.queue_bytes,
        )


@dataclass(frozen=True, slots=True)
class ImpairedLink:
    """Two namespaces and the line between them."""

    left: Namespace
    right: Namespace
    impairer: _engine.Impairer
    left_address: str = LEFT_ADDRESS
    right_address: str = RIGHT_ADDRESS
    left_address6: str = LEFT_ADDRESS6
    right_address6: str = RIGHT_ADDRESS6


@contextmanager
def impaired_link(
    *,
    seed: int = 1,
    delay_seconds: float = 0.0,
    loss: float = 0.0,
    reorder: float = 0.0,
    reorder_seconds: float = 0.001,
    duplicate: float = 0.0,
    rate_bits_per_second: float = 0.0,
    queue_bytes: int | None = None,
    mtu: int = 1500,
) -> Generator[ImpairedLink]:
    """Make two namespaces joined by an impaired line, with IPv4 and IPv6 addresses at both ends."""
    impairment = Impairment(
        delay_seconds=delay_seconds,
        loss=loss,
        reorder=reorder,
        reorder_seconds=reorder_seconds,
        duplicate=duplicate,
        rate_bits_per_second=rate_bits_per_second,
        queue_bytes=queue_bytes,
    )
    with (
        Namespace("left") as left,
        Namespace("right") as right,
        join_by_line(left, right, "wan", "wan", impairment, seed=seed, mtu=mtu) as impairer,
    ):
        for namespace in (left, right):
            namespace.sysctl(_TCP_BUFFERS)
        _number(left, (LEFT_ADDRESS, LEFT_ADDRESS6), (RIGHT_ADDRESS, RIGHT_ADDRESS6))
        _number(right, (RIGHT_ADDRESS, RIGHT_ADDRESS6), (LEFT_ADDRESS, LEFT_ADDRESS6))
        yield ImpairedLink(left, right, impairer)


@contextmanager
def join_by_line(
    left: Namespace,
    right: Namespace,
    left_name: str,
    right_name: str,
    impairment: Impairment,
    *,
    seed: int = 1,
    mtu: int = 1500,
) -> Generator[_engine.Impairer]:
    """Join two namespaces with an impaired line; its devices are up, without addresses, and end with the context."""
    left_device = right_device = -1
    try:
        left_device = open_tun(left, left_name, mtu=mtu)
        right_device = open_tun(right, right_name, mtu=mtu)
        impairer = impairment.start(left_device, right_device, seed=seed)
    finally:
        for device in (left_device, right_device):
            if device >= 0:
                os.close(device)  # the impairer has copies
    try:
        yield impairer
    finally:
        impairer.close()


def open_tun(namespace: Namespace, name: str, *, mtu: int = 1500) -> int:
    """Make a TUN device that takes and gives super-segments; return its descriptor, with which it ends."""
    device = namespace.call(lambda: os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK))
    try:
        fcntl.ioctl(device, _TUNSETIFF, _INTERFACE.pack(name.encode(), _TUN | _NO_PACKET_INFO | _VNET_HEADER))
        try:
            fcntl.ioctl(device, _TUNSETOFFLOAD, _OFFLOADS | _USO4 | _USO6)
        except OSError:
            fcntl.ioctl(device, _TUNSETOFFLOAD, _OFFLOADS)  # UDP segments came with Linux 6.2
        namespace.ip(f"link set {name} mtu {mtu} txqueuelen {_QUEUE_PACKETS} up")
    except BaseException:
        os.close(device)
        raise
    return device


def _number(namespace: Namespace, own: tuple[str, str], other: tuple[str, str]) -> None:
    namespace.ip(
        f"address add {own[0]} peer {other[0]}/32 dev wan",
        f"address add {own[1]}/128 dev wan nodad",
        f"route add {other[1]}/128 dev wan src {own[1]}",
    )
