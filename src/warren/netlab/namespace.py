"""Network namespaces that live as long as the process which made them.

A `Namespace` is a descriptor, not a name: nothing is left on the machine however its process ends. A thread enters one
with `setns`, and what the thread starts is inside: sockets, programs, and the threads of an engine.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from warren.errors import Unavailable

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)
_PROGRAM_SECONDS = 20.0
_NEEDED = {"ip": "iproute2", "nft": "nftables", "unshare": "util-linux"}
"""Programs that the lab runs, and the Debian packages that have them."""

Result = TypeVar("Result")


def missing() -> str:
    """Say what this machine lacks for the lab and what to do; empty when nothing is missing."""
    packages = sorted({package for program, package in _NEEDED.items() if shutil.which(program) is None})
    if packages:
        return f"the lab needs {', '.join(packages)}: apt-get install {' '.join(packages)}"
    if not Path("/dev/net/tun").exists():
        return "the lab needs TUN devices, and there is no /dev/net/tun: modprobe tun"
    if not allowed():
        return (
            "the lab may not make network namespaces: run it as root, or allow user namespaces with "
            "`sysctl kernel.unprivileged_userns_clone=1 kernel.apparmor_restrict_unprivileged_userns=0`"
        )
    return ""


def allowed() -> bool:
    """Whether this process may make network namespaces as it is."""
    try:
        _in_thread(_unshare)
    except PermissionError:
        return False
    return True


class Namespace:
    """A network namespace of our own, with its loopback up."""

    def __init__(self, name: str) -> None:
        """Make one; `name` is for messages."""
        self.name = name
        self.descriptor: int = _in_thread(_new_descriptor)
        self.ip("link set lo up")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give it up; it ends with the last process, socket and device in it. Idempotent."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def call(self, work: Callable[[], Result]) -> Result:
        """Run `work` in a thread inside the namespace and return what it returns."""

        def inside() -> Result:
            self.enter()
            return work()

        return _in_thread(inside)

    def enter(self) -> None:
        """Move the calling thread, and what it starts, into the namespace for good."""
        _check(_libc.setns(self.descriptor, _CLONE_NEWNET))

    def command(self, *arguments: str) -> list[str]:
        """Make the command line that runs a program inside, for use while this process lives."""
        return ["nsenter", f"--net=/proc/{os.getpid()}/fd/{self.descriptor}", "--", *arguments]

    def run(self, *arguments: str, text: str = "") -> str:
        """Run a program inside, with `text` as its input, and return what it printed.

        Raises:
            Unavailable: it failed; the message has what it said.
        """
        done = self.call(
            lambda: subprocess.run(
                arguments, input=text, capture_output=True, text=True, timeout=_PROGRAM_SECONDS, check=False
            )
        )
        if done.returncode != 0:
            raise Unavailable(f"`{' '.join(arguments)}` failed in {self.name}: {done.stderr.strip()}", detail=text)
        return done.stdout

    def start(self, arguments: Sequence[str], *, environment: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        """Start a program inside, with pipes for its input and output; its caller ends it."""
        return self.call(
            lambda: subprocess.Popen(
                arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
            )
        )

    def ip(self, *lines: str) -> None:
        """Run commands of `ip`, one a line, without the word."""
        self.run("ip", "-batch", "-", text="\n".join(lines) + "\n")

    def nft(self, ruleset: str) -> None:
        """Load nftables rules."""
        self.run("nft", "-f", "-", text=ruleset)

    def sysctl(self, values: Mapping[str, str]) -> None:
        """Set kernel settings of the namespace, named as below /proc/sys/net, such as `ipv4/ip_forward`."""

        def write() -> None:
            for name, value in values.items():
                Path("/proc/sys/net", name).write_text(value)

        self.call(write)


def join_by_wire(left: Namespace, right: Namespace, left_name: str, right_name: str) -> None:
    """Join two namespaces with a pair of Ethernet devices, both up, without addresses."""
    path = f"/proc/{os.getpid()}/fd"
    left.ip(
        f"link add {left_name} type veth peer name {right_name} netns {path}/{right.descriptor}",
        f"link set {left_name} up",
    )
    right.ip(f"link set {right_name} up")


def _new_descriptor() -> int:
    _unshare()
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def _unshare() -> None:
    _check(_libc.unshare(_CLONE_NEWNET))


def _check(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _in_thread(work: Callable[[], Result]) -> Result:
    """Run `work` in a thread of its own, whose namespace is then nobody else's business."""
    results: list[Result] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:  # raised again below, in the thread that waits
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]
