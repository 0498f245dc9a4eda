"""Reach a relay through a proxy that others wrote, in a network and with a hosts file of its own; run by a test.

Usage: `python -m tests.integration.engine.stock_proxies {tinyproxy,stunnel,microsocks,ssh}`, inside of new network and
mount namespaces.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio
import anyio.to_thread
import asyncssh

from tests.integration.engine.harness import RelayServer
from tests.integration.engine.test_paths import certificate
from tests.integration.engine.test_proxies import carries_a_stream

RELAY_PORT, PROXY_PORT, INNER_PORT, SSH_PORT = 4430, 3128, 3129, 2222
START_SECONDS = 20.0
TINYPROXY = f"""\
Listen 127.0.0.1
Port %d
BasicAuth me p.ss
ConnectPort {RELAY_PORT}
"""
STUNNEL = f"""\
foreground = yes
pid =
[proxy]
accept = 127.0.0.1:{PROXY_PORT}
connect = 127.0.0.1:{INNER_PORT}
cert = %s
key = %s
"""


@contextmanager
def running(words: Sequence[str], port: int) -> Generator[None]:
    """Run a program until the end, once it listens."""
    with subprocess.Popen(words, stdin=subprocess.DEVNULL) as process:
        try:
            _wait_for(port, process)
            yield
        finally:
            process.kill()


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            assert time.monotonic() < deadline, "the proxy did not start"
            assert process.poll() is None, "the proxy ended"
            time.sleep(0.02)
        else:
            return


@contextmanager
def tinyproxy(folder: Path, port: int = PROXY_PORT) -> Generator[str]:
    config = folder / "tinyproxy.conf"
    config.write_text(TINYPROXY % port)
    with running(["tinyproxy", "-d", "-c", str(config)], port):
        yield f"http://me:p%2Ess@127.0.0.1:{port}"


@contextmanager
def stunnel(folder: Path) -> Generator[str]:
    config = folder / "stunnel.conf"
    config.write_text(STUNNEL % (folder / "chain.pem", folder / "key.pem"))
    with tinyproxy(folder, INNER_PORT), running(["stunnel", str(config)], PROXY_PORT):
        yield f"https://me:p%2Ess@127.0.0.1:{PROXY_PORT}"


@contextmanager
def microsocks(_: Path) -> Generator[str]:
    words = ["microsocks", "-i", "127.0.0.1", "-p", str(PROXY_PORT), "-u", "me", "-P", "p@ss"]
    with running(words, PROXY_PORT):
        yield f"socks5h://me:p%40ss@127.0.0.1:{PROXY_PORT}"


class Server(asyncssh.SSHServer):
    """Lets everybody in, and opens connections for them."""

    def begin_auth(self, username: str) -> bool:
        return False

    def connection_requested(self, dest_host: str, dest_port: int, orig_host: str, orig_port: int) -> bool:
        return True


@asynccontextmanager
async def ssh(folder: Path) -> AsyncGenerator[str]:
    """`ssh -D`: the stock client listens for SOCKS, the far end connects."""
    key = asyncssh.generate_private_key("ssh-ed25519")  # pyright: ignore[reportUnknownMemberType]
    async with await asyncssh.listen("127.0.0.1", SSH_PORT, server_factory=Server, server_host_keys=[key]):
        known = folder / "known_hosts"
        known.write_text(f"[127.0.0.1]:{SSH_PORT} {key.export_public_key().decode()}")
        words = ["ssh", "-F", "none", "-N", "-D", f"127.0.0.1:{PROXY_PORT}", "-p", str(SSH_PORT)]
        words += ["-o", f"UserKnownHostsFile={known}", "-o", "BatchMode=yes", "me@127.0.0.1"]
        started = running(words, PROXY_PORT)
        await anyio.to_thread.run_sync(started.__enter__)
        try:
            yield f"socks5://127.0.0.1:{PROXY_PORT}"
        finally:
            started.__exit__(None, None, None)


async def main(kind: str) -> None:
    with TemporaryDirectory() as text:
        folder = Path(text)
        hosts = folder / "hosts"
        hosts.write_text("127.0.0.1 localhost relay.invalid\n")
        await anyio.run_process(["mount", "--bind", str(hosts), "/etc/hosts"])
        relay_context, relay_pem = certificate("relay.invalid", folder)
        _, proxy_pem = certificate("127.0.0.1", folder)  # its files stay in the folder
        with RelayServer(port=RELAY_PORT, tls=relay_context) as relay:

            def carry(url: str) -> None:
                carries_a_stream(relay.port, {"https": url}, force_http=False, pem=relay_pem + proxy_pem)

            if kind == "ssh":
                async with ssh(folder) as url:
                    await anyio.to_thread.run_sync(carry, url)
            else:
                serve = {"tinyproxy": tinyproxy, "stunnel": stunnel, "microsocks": microsocks}[kind]
                with serve(folder) as url:
                    carry(url)
    print("carried")


if __name__ == "__main__":
    os.environ.setdefault("HOME", "/")
    anyio.run(main, sys.argv[1])
