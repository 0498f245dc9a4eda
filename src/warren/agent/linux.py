"""The agent on Linux: `/etc/passwd`, `/proc`, pseudo-terminals, pidfds."""

from __future__ import annotations

import fcntl
import os
import pwd
import signal
import struct
import subprocess
import termios
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import anyio
import anyio.to_thread

from warren.agent.system import Command, ListeningPort, MemoryUsage, TerminalSize
from warren.agent.terminal_modes import with_modes
from warren.errors import NotFound

_LISTEN = "0A"
_SHELL_FIELD = 6
_MAX_LENGTH = 0xFFFF  # of the kernel's `struct winsize`

# The first terminal that a session leader opens becomes its controlling one, so a shell that opens it for the program
# it then becomes needs no code between fork and exec.
_BECOME_TERMINAL_LEADER = 'exec "$@" <>"$0" >&0 2>&0'


class LinuxSystem:
    """Facts about the machine and the user, from files."""

    def __init__(self, environment: Mapping[str, str], *, passwd: Path = Path("/etc/passwd")) -> None:
        self._environment, self._passwd = environment, passwd

    def user_name(self) -> str:
        """Return the name of the user that the agent runs as."""
        try:
            return pwd.getpwuid(os.getuid()).pw_name
        except KeyError:
            return self._environment.get("USER") or str(os.getuid())

    def home(self) -> str:
        """Return `HOME`, else what the user database says."""
        try:
            return self._environment.get("HOME") or pwd.getpwuid(os.getuid()).pw_dir
        except KeyError:
            return "/"

    def shell(self) -> str:
        """Return the seventh field of the user's line in the password file, else `SHELL`."""
        prefix = f"{self.user_name()}:"
        for line in self._passwd.read_text(errors="replace").splitlines():
            if line.startswith(prefix):
                fields = line.split(":")
                if len(fields) <= _SHELL_FIELD:
                    raise NotFound(f"malformed user entry: {line!r}")
                return fields[_SHELL_FIELD].strip() or "/bin/sh"
        shell = self._environment.get("SHELL", "")
        if not shell:
            raise NotFound(f"user {self.user_name()!r} not found in {self._passwd} and $SHELL not set")
        return shell

    def memory(self) -> MemoryUsage:
        """Measure the memory of the control group, or of the machine where the group has no limit."""
        machine = _machine_memory()
        limit, used = _first_number(_GROUP_LIMITS), _first_number(_GROUP_USAGE)
        if limit is None or used is None or limit >= machine.total_bytes:
            return machine
        return MemoryUsage(used, limit)

    def listening_command_line(self, port: int) -> str:
        """Return the command line of the process that listens on a TCP port, empty when it is not ours to see."""
        owners = (entry.pid for entry in self.listening_ports() if entry.port == port and entry.pid)
        pid = next(owners, 0)
        return _command_line(pid) if pid else ""

    def listening_ports(self) -> Sequence[ListeningPort]:
        """List the TCP ports in state LISTEN, one entry a port."""
        inodes: dict[int, str] = {}
        for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
            inodes.update(_listeners(table))
        owners = _socket_owners(set(inodes.values()))
        return [ListeningPort(port, *owners.get(inode, ("", 0))) for port, inode in sorted(inodes.items())]


class LinuxProcesses:
    """Children in sessions of their own, watched by pidfd."""

    def start(self, command: Command, *, stdin: int, stdout: int, stderr: int) -> subprocess.Popen[bytes]:
        """Start a program in a session of its own."""
        return subprocess.Popen(
            command.arguments,
            env=command.environment,
            cwd=command.directory,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
        )

    def start_on_terminal(
        self, command: Command, size: TerminalSize, modes: Mapping[int, int]
    ) -> tuple[subprocess.Popen[bytes], int]:
        """Start a program on a new pseudo-terminal of that size."""
        master, slave = os.openpty()
        try:
            self.resize(master, size)
            if modes:
                termios.tcsetattr(slave, termios.TCSANOW, with_modes(termios.tcgetattr(slave), modes))
            os.set_blocking(master, False)
            arguments = ["/bin/sh", "-c", _BECOME_TERMINAL_LEADER, os.ttyname(slave), *command.arguments]
            environment = {**command.environment, "SSH_TTY": os.ttyname(slave)}
            wrapped = Command(arguments, environment, command.directory)
            # The child holds the slave from the start: a master without one reads as ended.
            return self.start(wrapped, stdin=slave, stdout=slave, stderr=slave), master
        except BaseException:
            os.close(master)
            raise
        finally:
            os.close(slave)

    def resize(self, master: int, size: TerminalSize) -> None:
        """Tell the terminal its new size."""
        rows, columns = min(size.rows, _MAX_LENGTH), min(size.columns, _MAX_LENGTH)
        fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    async def wait(self, process: subprocess.Popen[bytes]) -> int:
        """Wait until a program ended and return its status, negative for a signal."""
        status = process.poll()
        if status is not None:
            return status
        try:
            descriptor = os.pidfd_open(process.pid)
        except OSError:  # kernels before 5.3, and sandboxes that know no pidfd: a thread per child
            limiter = anyio.CapacityLimiter(1)
            return await anyio.to_thread.run_sync(process.wait, abandon_on_cancel=True, limiter=limiter)
        try:
            await anyio.wait_readable(descriptor)
        finally:
            os.close(descriptor)
        return process.wait()

    def signal_group(self, process: subprocess.Popen[bytes], number: int) -> None:
        """Send a signal to the program's process group; one that ended is ignored."""
        if process.returncode is not None:
            return
        try:
            os.killpg(process.pid, signal.Signals(number))
        except (ProcessLookupError, PermissionError):
            return


_GROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
_GROUP_USAGE = ("/sys/fs/cgroup/memory.current", "/sys/fs/cgroup/memory/memory.usage_in_bytes")


def _first_number(paths: Sequence[str]) -> int | None:
    for path in paths:
        try:
            return int(Path(path).read_text())
        except (OSError, ValueError):
            continue
    return None


def _machine_memory() -> MemoryUsage:
    sizes: dict[str, int] = {}
    for line in Path("/proc/meminfo").read_text().splitlines():
        name, _, rest = line.partition(":")
        sizes[name] = int(rest.split()[0]) * 1024
    total = sizes["MemTotal"]
    return MemoryUsage(total - sizes.get("MemAvailable", sizes["MemFree"]), total)


def _listeners(table: Path) -> Iterator[tuple[int, str]]:
    """Yield port and socket inode of each listening row."""
    try:
        rows = table.read_text().splitlines()[1:]
    except OSError:
        return
    for row in rows:
        fields = row.split()
        if fields[3] == _LISTEN:
            yield int(fields[1].rpartition(":")[2], 16), fields[9]


def _socket_owners(wanted: set[str]) -> dict[str, tuple[str, int]]:
    """Find the process that holds each socket, as far as we may look."""
    owners: dict[str, tuple[str, int]] = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit() or not wanted - owners.keys():
            continue
        held = wanted & _sockets_of(folder)
        if held:
            owners.update(dict.fromkeys(held - owners.keys(), (_name_of(folder), int(folder.name))))
    return owners


def _sockets_of(folder: Path) -> set[str]:
    """Return the inodes of a process's sockets; it may end or close some while we look."""
    inodes: set[str] = set()
    try:
        for entry in (folder / "fd").iterdir():
            try:
                link = str(entry.readlink())
            except FileNotFoundError:
                continue
            if link.startswith("socket:["):
                inodes.add(link[len("socket:[") : -1])
    except OSError:
        return inodes
    return inodes


def _name_of(folder: Path) -> str:
    try:
        return (folder / "comm").read_text().strip()
    except OSError:
        return ""


def _command_line(pid: int) -> str:
    try:
        return (Path("/proc") / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""
