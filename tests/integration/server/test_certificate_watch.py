"""Certificates that are renewed while the server runs, in the engine and by OpenSSL."""

from __future__ import annotations

import shutil
import socket
import ssl
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
import structlog
import structlog.testing

from tests.certificates import Authority
from tests.integration.relay.test_tls import application
from warren.clock import SystemClock
from warren.server.certificate_watch import follow, tls_context
from warren.server.certificates import TLSSettings
from warren.server.listeners import serving

pytestmark = pytest.mark.anyio


def serial(port: int, context: ssl.SSLContext) -> str:
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as sock,
    ):
        certificate: Any = sock.getpeercert()
        return certificate["serialNumber"]


@pytest.mark.parametrize("by", ["the engine", "OpenSSL"])
async def test_renewed_files_are_shown_and_bad_ones_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    monkeypatch.setattr("warren.server.certificate_watch.CHECK_SECONDS", 0.02)
    authority = Authority(tmp_path)
    old, new = authority.issue("old"), authority.issue("new")
    # A suite that the engine has not makes OpenSSL serve.
    ciphers = ["ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-ECDSA-AES256-SHA384"] if by == "OpenSSL" else []
    settings = TLSSettings([str(old.certificate)], [str(old.key)], ciphers=ciphers)
    clock = SystemClock()
    context = tls_context(settings, clock)
    assert isinstance(context, ssl.SSLContext) is (by == "OpenSSL")
    client = authority.client_context()

    async def until_shown(port: int, *, other_than: str) -> str:
        with anyio.fail_after(20):
            while (shown := await anyio.to_thread.run_sync(serial, port, client)) == other_than:  # noqa: ASYNC110
                await anyio.sleep(0.01)
        return shown

    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    with structlog.testing.capture_logs() as told:
        async with serving(application, listening, tls=context) as server, anyio.create_task_group() as tasks:
            first = await anyio.to_thread.run_sync(serial, port, client)
            tasks.start_soon(follow, settings, clock, server.reload)
            await anyio.wait_all_tasks_blocked()
            shutil.copy(new.key, old.key)
            shutil.copy(new.certificate, old.certificate)
            second = await until_shown(port, other_than=first)

            old.certificate.write_text("damaged")
            with anyio.fail_after(20):
                while not any("refused" in str(each) for each in told):  # noqa: ASYNC110 (a log has no event)
                    await anyio.sleep(0.01)
            assert await anyio.to_thread.run_sync(serial, port, client) == second
            tasks.cancel_scope.cancel()
