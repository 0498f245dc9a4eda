"""Run one session of the client over a TCP port instead of the tunnel: `session_program.py PORT JSON|stdio`."""

from __future__ import annotations

import json
import socket
import sys

import anyio


async def main() -> int:
    port, what = int(sys.argv[1]), sys.argv[2]
    connection = socket.create_connection(("127.0.0.1", port))
    connection.setblocking(False)
    if what == "stdio":
        from warren.cli import stdio

        await stdio.pump(connection)
        return 0
    from warren.cli.ssh_session import RemoteForward, SessionOptions, run

    options = json.loads(what)
    options["forwards"] = [RemoteForward(*forward) for forward in options.get("forwards", [])]
    return (await run(connection, SessionOptions(**options))).status


if __name__ == "__main__":
    sys.exit(anyio.run(main))
