"""File transfer over a session: requests go to a worker thread in batches, so a slow disk holds up nobody else."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio.to_thread
import structlog

from warren.agent.ssh.sftp_files import FileServer
from warren.agent.ssh.stdin import Stdin
from warren.errors import RemoteProtocolError

log = structlog.get_logger()

BATCH_BYTES = 1024 * 1024
"""How many bytes of replies are made before they are sent: bounds the memory of a download."""


async def serve_sftp(stdin: Stdin, write: Callable[[memoryview], Awaitable[None]], *, directory: str, home: str) -> int:
    """Serve until the client ends its input; return the exit status."""
    server = FileServer(directory, home)
    try:
        while chunks := await stdin.take():
            server.feed(chunks)
            more = True
            while more:
                with await anyio.to_thread.run_sync(server.answer, BATCH_BYTES) as replies:
                    more = len(replies) > 0
                    await write(replies)
    except RemoteProtocolError as error:
        log.warning("sftp.failed", error=error.message)
        return 1
    finally:
        server.close()
    return 0
