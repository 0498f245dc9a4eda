"""Open a tunnel to an agent for a command."""

from __future__ import annotations

import logging
import os
import secrets
import sys
import threading
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from importlib import import_module
from pathlib import Path
from string import ascii_lowercase
from typing import TYPE_CHECKING, TextIO
from uuid import UUID

from warren.clock import SystemClock

if TYPE_CHECKING:
    from warren.cli.context import Context
    from warren.sdk.types.agents import AgentConnectionInfo
    from warren.tunnel.connection import AgentConnection, ConnectOptions, ServerAddress

SSH_PORT = 1
SPEEDTEST_PORT = 3


@asynccontextmanager
async def open_agent(
    context: Context, agent_id: UUID, *, info: AgentConnectionInfo | None = None, log: TextIO | None = None
) -> AsyncGenerator[AgentConnection]:
    """Open a tunnel to an agent; it is closed when the context ends. All that happens is written to `log`."""
    quiet_imports()
    quiet_logs(verbose=context.options.verbose, log=log)
    from warren.net import derp_map
    from warren.tunnel.connection import dial_agent

    info = info or await context.client.agents.connection(agent_id)
    regions = derp_map.parse(info.derp_map or {})
    async with dial_agent(
        server_address(context), agent_id, regions, connect_options(context, info), clock=SystemClock()
    ) as connection:
        yield connection


def server_address(context: Context) -> ServerAddress:
    """Say where the control plane is, as the tunnel wants to know it."""
    from warren.tunnel.connection import ServerAddress

    client = context.client
    ca_file = client.tls_options.ca_file
    return ServerAddress(
        url=client.url,
        headers=dict(client.headers),
        relay_headers=dict(client.extra_headers),
        tls=client.trust,
        ca_pem=Path(ca_file).read_bytes() if ca_file else None,
    )


def connect_options(context: Context, info: AgentConnectionInfo) -> ConnectOptions:
    """Say how to connect: what the server asks for, and what the user does."""
    from warren.tunnel.connection import ConnectOptions

    return ConnectOptions(
        block_direct=context.options.disable_direct or info.disable_direct_connections,
        force_websockets=info.derp_force_websockets,
        port_mapping=context.options.port_mapping,
        listen_port=context.options.listen_port,
        stack=context.options.tunnel_stack,
        congestion_control=context.options.tunnel_congestion_control,
    )


def quiet_imports() -> None:
    """Import structlog without rich, which it takes along only for pretty tracebacks: 30 ms of every connection."""
    if "structlog" in sys.modules or "rich" in sys.modules:
        return
    # None in this table makes an import fail, which structlog expects where rich is not installed.
    sys.modules["rich"] = None  # pyright: ignore[reportArgumentType]  as the documentation of sys.modules has it
    try:
        import_module("structlog")
    finally:
        del sys.modules["rich"]


def preload_in_background(*, ssh: bool) -> None:
    """Import what a session needs in a thread, while we wait for the server; whoever imports it then waits for that."""
    import_module("warren.sdk.types.workspaces")  # ours first: two threads must not import the same at the same time
    threading.Thread(target=_preload, kwargs={"ssh": ssh}, name="preload", daemon=True).start()


def _preload(*, ssh: bool) -> None:
    quiet_imports()
    import_module("warren.tunnel.connection")
    if not ssh:
        return
    with _no_library_search():
        import_module("asyncssh")


@contextmanager
def _no_library_search() -> Generator[None]:
    """Keep asyncssh from looking for liboqs, for which it runs ldconfig and the C compiler: 20 ms for nothing.

    Its key exchange is not offered: the tunnel is what keeps others out.
    """
    import ctypes.util

    search = ctypes.util.find_library
    ctypes.util.find_library = _found_nothing
    try:
        yield
    finally:
        ctypes.util.find_library = search


def _found_nothing(name: str) -> str | None:
    del name
    return None


def quiet_logs(*, verbose: bool, log: TextIO | None = None) -> None:
    """Log all to a file if there is one, else to stderr what a user must know: stdout belongs to the data."""
    import structlog

    everything = verbose or log is not None
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.StackInfoRenderer(),
            structlog.processors.TimeStamper(fmt="%Y-%m-%d %H:%M:%S", utc=False),
            # Not the default traceback: that prints the values of local variables, secrets among them.
            structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG if everything else logging.ERROR),
        logger_factory=structlog.PrintLoggerFactory(log or sys.stderr),
    )


@contextmanager
def log_file(folder: str, *, stdio: bool) -> Generator[TextIO | None]:
    """Open a log file of our own in a folder; none when no folder was named."""
    if not folder:
        yield None
        return
    stamp = SystemClock().now().strftime("%Y%m%d-%H%M%S")
    letters = "".join(secrets.choice(ascii_lowercase) for _ in range(5))
    parent = f"-{os.getppid()}" if stdio else ""
    path = Path(folder).expanduser() / f"coder-ssh-{stamp}-{letters}{parent}.log"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", buffering=1) as file:
        yield file
