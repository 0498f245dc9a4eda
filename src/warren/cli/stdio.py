"""Pump between our standard streams and a socket, for `ssh --stdio`: the kernel moves the bytes where it can."""

from __future__ import annotations

import errno
import os
import select
import socket
import stat
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import anyio
from anyio.lowlevel import current_token

BLOCK = 1 << 20


async def pump(connection: socket.socket, *, input_fd: int = 0, output_fd: int = 1) -> None:
    """Copy both ways until the other side ends; the end of our input is passed on as a half-close.

    Two threads block in the kernel, so that Python touches no byte between a pipe and a socket. They are daemons: a
    reader of a terminal that never ends must not keep the program.
    """
    connection.setblocking(False)
    done = anyio.Event()
    loop = current_token()
    outgoing = partial(_outgoing, connection, input_fd)
    incoming = partial(_incoming, connection, output_fd, lambda: _set_from_thread(loop, done))
    for name, work in (("stdio-out", outgoing), ("stdio-in", incoming)):
        threading.Thread(target=work, name=name, daemon=True).start()
    await done.wait()


def _set_from_thread(token: object, event: anyio.Event) -> None:
    from anyio.from_thread import run_sync

    try:
        run_sync(event.set, token=token)  # pyright: ignore[reportArgumentType]  what current_token gave
    except RuntimeError:
        return  # the loop is gone: nobody waits any more


def _outgoing(connection: socket.socket, input_fd: int) -> None:
    with suppress(OSError):  # whoever wrote our input left, or the connection ended: the other thread sees which
        copy(input_fd, connection.fileno())
    with suppress(OSError):
        connection.shutdown(socket.SHUT_WR)


def _incoming(connection: socket.socket, output_fd: int, done: Callable[[], None]) -> None:
    with suppress(OSError):  # whoever read our output left: the session is over all the same
        copy(connection.fileno(), output_fd)
    done()


def copy(source: int, target: int) -> None:
    """Copy from one descriptor to another until the end; inside the kernel when one of them is a pipe."""
    if hasattr(os, "splice") and (_is_pipe(source) or _is_pipe(target)):
        try:
            _splice(source, target)
            return
        except OSError as error:
            if error.errno not in {errno.EINVAL, errno.ENOSYS}:
                raise
    while data := _read(source):
        view = memoryview(data)
        while view:
            view = view[_write(target, view) :]


def _splice(source: int, target: int) -> None:
    """Move the bytes inside the kernel.

    Never waiting inside `splice`: it would hold the pipe's lock, on which the pipe's other end then hangs as well.
    """
    while True:
        try:
            if not os.splice(source, target, BLOCK, flags=os.SPLICE_F_NONBLOCK):
                return
        except BlockingIOError:
            _wait(source, select.POLLIN)
            _wait(target, select.POLLOUT)


def _read(source: int) -> bytes:
    while True:
        try:
            return os.read(source, BLOCK)
        except BlockingIOError:
            _wait(source, select.POLLIN)


def _write(target: int, data: memoryview) -> int:
    while True:
        try:
            return os.write(target, data)
        except BlockingIOError:
            _wait(target, select.POLLOUT)


def _wait(descriptor: int, event: int) -> None:
    poll = select.poll()
    poll.register(descriptor, event)
    poll.poll()


def _is_pipe(descriptor: int) -> bool:
    return stat.S_ISFIFO(os.fstat(descriptor).st_mode)
