"""The agent as a process: log, signals, the program that answers to `coder`, listeners on loopback."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import stat
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import anyio
import structlog

from warren.agent.agent import Agent
from warren.agent.api import Facts, debug_routes, metrics_routes
from warren.agent.commands import CommandFactory, Settings
from warren.agent.config import AgentConfig
from warren.agent.http_server import Router, serve_http
from warren.agent.linux import LinuxProcesses, LinuxSystem
from warren.agent.scripts import Folders
from warren.clock import SystemClock

log = structlog.get_logger()

DATA_FOLDER = "coder-script-data"
NAMES = ("coder", "warren")
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class Program:
    """The folder and path of the wrapper that runs this very Warren."""

    folder: Path
    path: Path


def install_wrappers(folder: Path) -> Program:
    """Write small programs named `coder` and `warren` that run this Warren, whatever the PATH says.

    Raises:
        OSError: the folder cannot be written.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Isolated (-I): neither the working directory nor PYTHON variables of the user may change what is imported.
    text = f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -I -m warren "$@"\n'
    for name in NAMES:
        path = folder / name
        if path.is_file() and path.read_text() == text:
            continue
        # Written beside and renamed: a command that runs at this moment keeps its file.
        fresh = folder / f".{name}.{os.getpid()}"
        fresh.write_text(text)
        fresh.chmod(0o755)
        fresh.replace(path)
    return Program(folder, folder / NAMES[0])


def private_folder(parent: Path) -> Path:
    """Return our folder for scripts' data; when somebody else owns it, as in a shared `/tmp`, a new one of our own.

    Programs in there are first on the PATH, so a folder that others can write would hand them the workspace.

    Raises:
        OSError: no folder can be made.
    """
    folder = parent / DATA_FOLDER
    try:
        folder.mkdir(parents=True, exist_ok=True)
        status = folder.lstat()
    except OSError as error:
        log.warning("data_folder.unusable", folder=str(folder), error=str(error))
    else:
        others_write = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        if stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not others_write:
            return folder
        log.warning("data_folder.not_ours", folder=str(folder), owner=status.st_uid)
    return Path(tempfile.mkdtemp(prefix=f"{DATA_FOLDER}-"))


async def run(config: AgentConfig, environment: Mapping[str, str]) -> None:
    """Run an agent until a stop signal; a second one ends it at once."""
    system = LinuxSystem(environment)
    folders = Folders(config.log_folder, private_folder(config.data_folder))
    for folder in (folders.bin, folders.private):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    program = install_wrappers(folders.base / "program")
    settings = Settings(
        process_environment=environment,
        program=str(program.path),
        first_on_path=(str(folders.bin), str(program.folder)),
    )
    commands = CommandFactory(system, settings, lambda: config.token)
    agent = Agent(
        config,
        system=system,
        processes=LinuxProcesses(),
        commands=commands,
        folders=folders,
        clock=SystemClock(),
        tls=None,
    )
    stop = anyio.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_watch_signals, stop, tasks.cancel_scope)
        tasks.start_soon(_serve_loopback, config.debug_address, Router(debug_routes(agent.facts)), agent.facts)
        tasks.start_soon(_serve_loopback, config.prometheus_address, Router(metrics_routes(agent.facts)), agent.facts)
        await agent.run(stop)
        tasks.cancel_scope.cancel()


async def _watch_signals(stop: anyio.Event, everything: anyio.CancelScope) -> None:
    with anyio.open_signal_receiver(*STOP_SIGNALS) as signals:
        async for number in signals:
            log.info("signal.received", signal=number.name)
            if stop.is_set():
                everything.cancel()
            stop.set()


async def _serve_loopback(address: str, router: Router, facts: Facts) -> None:
    """Serve an HTTP API at `host:port`; a port that is taken, as by a second agent, is no reason to fail."""
    host, _, port = address.rpartition(":")
    if not port:
        return
    try:
        listener = socket.create_server((host.strip("[]"), int(port)), family=_family(host))
    except (OSError, ValueError) as error:
        log.info("listener.unavailable", address=address, error=str(error))
        return
    listener.setblocking(False)
    facts.own_ports.add(listener.getsockname()[1])
    with listener:
        async with anyio.create_task_group() as tasks:
            while True:
                await anyio.wait_readable(listener)
                connection, _ = listener.accept()
                connection.setblocking(False)
                tasks.start_soon(serve_http, connection, router)


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
