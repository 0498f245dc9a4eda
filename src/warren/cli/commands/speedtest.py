"""`speedtest`: how much goes through the tunnel."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
import click

from warren.cli import agent_wait, connect, duration, params, speed, target, ui
from warren.cli.command import command
from warren.cli.context import Context
from warren.errors import Invalid, RemoteProtocolError, Unavailable

if TYPE_CHECKING:
    from warren.tunnel.connection import AgentConnection

VERSION = 2
COLUMNS = ("interval", "throughput")
DOWN, UP = 0, 1
REPLY_LIMIT = 4096
SHORTEST, LONGEST = timedelta(seconds=1), timedelta(minutes=2)
DIRECT_WAIT_SECONDS = 30.0


@command()
@click.argument("workspace")
@params.flag("--direct", "-d", help="Wait for a direct path first.")
@params.option("--direction", type=click.Choice(["up", "down"]), default="down", show_default=True, help="Which way.")
@params.durations("--time", "-t", "length", default="5s", show_default=True, help="How long.")
@params.option("--pcap-file", default="", help="File to write the packets inside the tunnel to.")
@ui.output_option()
@params.strings("--column", "-c", help="Columns to show: interval, throughput.")
async def speedtest(
    context: Context,
    *,
    workspace: str,
    direct: bool,
    direction: str,
    length: timedelta,
    pcap_file: str,
    output: str,
    column: tuple[str, ...],
) -> None:
    """Measure the throughput of the tunnel to a workspace."""
    if not SHORTEST <= length <= LONGEST:
        raise click.BadParameter(
            f"choose from {duration.short(SHORTEST)} to {duration.short(LONGEST)}", param_hint="--time"
        )
    _, agent = await agent_wait.started_workspace(
        context, target.parse(workspace), autostart=True, reason="ssh_connection"
    )
    agent = await agent_wait.ready_agent(context, agent, wait="no")
    async with connect.open_agent(context, agent.id) as connection:
        if pcap_file:
            _capture(connection, pcap_file)
        await connection.reachable()
        if direct:
            await _wait_direct(context, connection)
        context.terminal.say(f"Starting a {duration.text(length)} {direction}load test over {await _path(connection)}…")
        sock = await connection.dial(connect.SPEEDTEST_PORT)
        way = DOWN if direction == "down" else UP
        with sock:
            # A thread, because a test of the tunnel must not measure the event loop.
            meter, overall = await anyio.to_thread.run_sync(run, sock, way, length, abandon_on_cancel=True)
        if pcap_file:
            connection.node.engine.capture(None)
    if output == "json":
        context.terminal.out(ui.json_text(speed.json(overall, meter.intervals)))
        return
    context.terminal.out(ui.columns_text(_columns(speed.rows(overall, meter.intervals), column)))


def _columns(rows: Sequence[Sequence[str]], wanted: Sequence[str]) -> Sequence[Sequence[str]]:
    """Keep the wanted columns."""
    chosen = [name.lower() for name in wanted]
    unknown = [name for name in chosen if name not in COLUMNS]
    if unknown:
        raise Invalid(f"no column `{unknown[0]}`", hint="there are " + ", ".join(COLUMNS))
    kept = [index for index, name in enumerate(COLUMNS) if not chosen or name in chosen]
    return [[row[index] for index in kept] for row in rows]


def run(sock: socket.socket, direction: int, length: timedelta) -> tuple[speed.Meter, speed.Interval]:
    """Speak the test's protocol on a connected socket; blocks.

    Raises:
        Unavailable: the other side refuses, or breaks off.
    """
    import msgspec

    sock.setblocking(True)
    sock.settimeout(length.total_seconds() * 4)
    question = {"version": VERSION, "time": duration.nanoseconds(length), "direction": direction}
    meter = speed.Meter()
    try:
        sock.sendall(msgspec.json.encode(question) + b"\n")
        rest = _read_reply(sock)
        if direction == DOWN:
            return meter, _receive(sock, meter, len(rest))
        return meter, _send(sock, meter, length.total_seconds())
    except (TimeoutError, OSError) as error:
        raise Unavailable(f"the speed test broke off: {error}") from error


def _read_reply(sock: socket.socket) -> bytes:
    """Read the line that answers; return the bytes of the test that came with it."""
    import msgspec

    received = bytearray()
    while b"\n" not in received:
        data = sock.recv(REPLY_LIMIT)
        if not data or len(received) > REPLY_LIMIT:
            raise RemoteProtocolError("the agent did not answer as a speed test does")
        received += data
    line, _, rest = bytes(received).partition(b"\n")
    try:
        answer = msgspec.json.decode(line, type=dict[str, str])
    except msgspec.MsgspecError as error:
        raise RemoteProtocolError(f"the agent did not answer as a speed test does: {line[:100]!r}") from error
    if refusal := answer.get("error"):
        raise Unavailable(f"the agent refused the speed test: {refusal}")
    return rest


def _receive(sock: socket.socket, meter: speed.Meter, already_bytes: int) -> speed.Interval:
    buffer = memoryview(bytearray(speed.BLOCK_BYTES))
    began = time.perf_counter()
    filled = already_bytes % speed.BLOCK_BYTES
    while count := sock.recv_into(buffer[filled:]):
        filled += count
        if filled == speed.BLOCK_BYTES:
            filled = 0
            meter.block(time.perf_counter() - began)
    return meter.finish(time.perf_counter() - began)


def _send(sock: socket.socket, meter: speed.Meter, seconds: float) -> speed.Interval:
    block = os.urandom(speed.BLOCK_BYTES)
    began = time.perf_counter()
    elapsed = 0.0
    while elapsed <= seconds:
        sock.sendall(block)
        elapsed = time.perf_counter() - began
        meter.block(elapsed)
    sock.shutdown(socket.SHUT_WR)
    return meter.finish(elapsed)


async def _wait_direct(context: Context, connection: AgentConnection) -> None:
    from warren import _engine

    context.terminal.say("Waiting for a direct path…")
    with anyio.move_on_after(DIRECT_WAIT_SECONDS):
        agent = await connection.introduced()
        async with connection.node.watch() as events:
            if (await connection.ping()).direct:
                return
            async for event in events:
                if isinstance(event, _engine.PathChanged) and event.key == agent.key and event.direct:
                    return
    raise Unavailable("there is no direct path", hint=f"{context.program} ping -v explains why")


async def _path(connection: AgentConnection) -> str:
    pong = await connection.ping()
    return f"the direct path {pong.endpoint}" if pong.direct else "a relay"


def _capture(connection: AgentConnection, name: str) -> None:
    descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        connection.node.engine.capture(descriptor)
    finally:
        os.close(descriptor)
