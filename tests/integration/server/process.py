"""The program itself, as an operator starts it."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio
import httpx2
from anyio.abc import Process

from tests.ports import free_port

START_SECONDS = 15.0


@dataclass
class Program:
    """A running `warren server`."""

    process: Process
    url: str
    log: Path

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        with anyio.fail_after(START_SECONDS):
            return await self.process.wait()


def environment(folder: Path, **extra: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("CODER_", "WARREN_", "PG"))}
    return kept | {
        "WARREN_CONFIG_DIR": str(folder / "c"),
        "WARREN_CACHE_DIRECTORY": str(folder / "cache"),
        "WARREN_DERP_SERVER_STUN_ADDRESSES": "disable",
        "WARREN_STUN_ADDRESS": "",
        **extra,
    }


@asynccontextmanager
async def program(folder: Path, *arguments: str) -> AsyncGenerator[Program]:
    """Start a server and wait until it answers."""
    port = free_port()
    log = folder / "server.log"
    command = [sys.executable, "-m", "warren", "server", "--http-address", f"127.0.0.1:{port}", *arguments]
    with log.open("ab") as output:
        process = await anyio.open_process(command, stdout=output, stderr=output, env=environment(folder))
    url = f"http://127.0.0.1:{port}"
    try:
        async with httpx2.AsyncClient(base_url=url) as client:
            with anyio.fail_after(START_SECONDS):
                while not await _healthy(client):
                    assert process.returncode is None, log.read_text()
                    await anyio.sleep(0.01)
        yield Program(process, url, log)
    finally:
        with anyio.CancelScope(shield=True):
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
                await process.wait()
            await process.aclose()


async def _healthy(client: httpx2.AsyncClient) -> bool:
    try:
        return (await client.get("/healthz")).status_code == 200
    except httpx2.TransportError:
        return False
