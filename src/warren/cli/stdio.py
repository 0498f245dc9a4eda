"""Pump between our standard streams and a socket, for `ssh --stdio`: the kernel moves the bytes where it can."""

from __future__ import annotations

import errno
import os
import socket
import stat
import threading
from collections.abc import Callable
from functools import partial

import anyio
from anyio.lowlevel import current_token

BLOCK = 1 << 20


async def pump(connection: socket.socket, *, input_fd: int = 0, output_fd: int = 1) -> None:
    """Copy both ways until the other side ends; the end of our input is passed on as a half-close.

    Two threads block in the kernel, so that Python touches no byte between a pipe and a socket. They are daemons: a
    reader of a terminal that never ends must not keep the program.
    """
    connection.setblocking(True)
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
    try:
        copy(input_fd, connection.fileno())
        connection.shutdown(socket.SHUT_WR)
    except OSError:
        return  # the connection ended, which the other thread sees as well


def _incoming(connection: socket.socket, output_fd: int, done: Callable[[], None]) -> None:
    try:
        copy(connection.fileno(), output_fd)
    except OSError:
        pass  # whoever read our output left: the session is over all the same
    finally:
        done()


def copy(source: int, target: int) -> None:
    """Copy from one descriptor to another until the end; inside the kernel when one of them is a pipe."""
    if hasattr(os, "splice") and (_is_pipe(source) or _is_pipe(target)):
        try:
            while os.splice(source, target, BLOCK):
                pass
            return
        except OSError as error:
            if error.errno not in {errno.EINVAL, errno.ENOSYS}:
                raise
    while data := os.read(source, BLOCK):
        view = memoryview(data)
        while view:
            view = view[os.write(target, view) :]


def _is_pipe(descriptor: int) -> bool:
    return stat.S_ISFIFO(os.fstat(descriptor).st_mode)
