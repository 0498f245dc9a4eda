"""Pipes between the agent and its children."""

from __future__ import annotations

import fcntl
import os
from types import TracebackType

import anyio

BLOCK_BYTES = 256 * 1024
"""How much is moved at once: large enough that the cost of a turn of the event loop vanishes."""


def enlarge(descriptor: int) -> None:
    """Let a pipe hold a whole block where the system allows it; smaller works too, only slower."""
    resize = getattr(fcntl, "F_SETPIPE_SZ", None)  # Linux only
    if resize is None:
        return
    try:
        fcntl.fcntl(descriptor, resize, BLOCK_BYTES)
    except OSError:  # the user's share of pipe memory is used up
        return


class Pipe:
    """One pipe; `ours` never blocks, `theirs` goes to a child and is closed here once it has it."""

    def __init__(self, ours: int, theirs: int) -> None:
        self.ours, self.theirs = ours, theirs
        os.set_blocking(ours, False)
        enlarge(ours)

    @classmethod
    def to_child(cls) -> Pipe:
        """Make a pipe that we write."""
        theirs, ours = os.pipe()
        return cls(ours, theirs)

    @classmethod
    def from_child(cls) -> Pipe:
        """Make a pipe that we read."""
        ours, theirs = os.pipe()
        return cls(ours, theirs)

    def handed_over(self) -> None:
        """Close the child's end: the child has its own copy."""
        if self.theirs >= 0:
            os.close(self.theirs)
            self.theirs = -1

    def close(self) -> None:
        """Close what is open. Idempotent."""
        self.handed_over()
        if self.ours >= 0:
            anyio.notify_closing(self.ours)
            os.close(self.ours)
            self.ours = -1

    def __enter__(self) -> Pipe:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


async def read_block(descriptor: int) -> bytes:
    """Wait for output and read it; empty at the end, which a terminal reports as an error."""
    while True:
        try:
            return os.read(descriptor, BLOCK_BYTES)
        except BlockingIOError:
            await anyio.wait_readable(descriptor)
        except OSError:  # EIO: the last program on the terminal closed it
            return b""
