"""`speedtest`: how much goes through the tunnel."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack
from datetime import timedelta
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
import click
from anyio.abc import TaskGroup

from warren.cli import agent_wait, connect, duration, params, speed, target, ui
from warren.cli.command import command
from warren.cli.context import Context
from warren.errors import Invalid, RemoteProtocolError, Unavailable, WarrenError

if TYPE_CHECKING:
    from warren.tunnel.connection import AgentConnection

VERSION = 2
COLUMNS = ("interval", "throughput")
DOWN, UP = 0, 1
WAYS = {"down": DOWN, "up": UP}
MOST_STREAMS = 32
REPLY_LIMIT = 4096
SHORTEST, LONGEST = timedelta(seconds=1), timedelta(minutes=2)
DIRECT_WAIT_SECONDS = 30.0


@command()
@click.argument("workspace")
@params.flag("--direct", "-d", help="Wait for a direct path first.")
@params.option(
    "--direction", type=click.Choice(["up", "down", "both"]), default="down", show_default=True, help="Which way."
)
@params.option(
    "--streams",
    type=click.IntRange(1, MOST_STREAMS),
    default=1,
    show_default=True,
    help="How many connections at once, in each direction.",
)
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
    streams: int,
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
    directions = ("down", "up") if direction == "both" else (direction,)
    async with connect.open_agent(context, agent.id) as connection:
        if pcap_file:
            _capture(connection, pcap_file)
        await connection.reachable()
        if direct:
            await _wait_direct(context, connection)
        what = "load test both ways" if direction == "both" else f"{direction}load test"
        many = f" with {streams} streams" if streams > 1 else ""
        context.terminal.say(f"Starting a {duration.text(length)} {what}{many} over {await _path_text(connection)}…")
        total, each = await measure(connection.dial, directions, streams, length)
        path = await _path(connection)
        if pcap_file:
            connection.node.engine.capture(None)
    context.terminal.say(f"path: {path['reason']}")
    if output == "json":
        by_direction = {name: measured.json() for name, measured in each.items()}
        context.terminal.out(
            ui.json_text({**total.json(), "streams": streams, "directions": by_direction, "path": path})
        )
        return
    for name, measured in each.items() if len(each) > 1 else ():
        context.terminal.out(f"{name}:\n{ui.columns_text(_columns(measured.rows(), column))}\n")
    heading = "together:\n" if len(each) > 1 else ""
    context.terminal.out(heading + ui.columns_text(_columns(total.rows(), column)))


def _columns(rows: Sequence[Sequence[str]], wanted: Sequence[str]) -> Sequence[Sequence[str]]:
    """Keep the wanted columns."""
    chosen = [name.lower() for name in wanted]
    unknown = [name for name in chosen if name not in COLUMNS]
    if unknown:
        raise Invalid(f"no column `{unknown[0]}`", hint="there are " + ", ".join(COLUMNS))
    kept = [index for index, name in enumerate(COLUMNS) if not chosen or name in chosen]
    return [[row[index] for index in kept] for row in rows]


async def measure(
    dial: Callable[[int], Awaitable[socket.socket]], directions: Sequence[str], streams: int, length: timedelta
) -> tuple[speed.Measured, Mapping[str, speed.Measured]]:
    """Run `streams` streams in each direction at once; return them together, and each direction.

    Raises:
        Unavailable: the other side refuses, or breaks off.
    """
    board = speed.Board(directions, time.perf_counter)
    ways = [direction for direction in directions for _ in range(streams)]
    limiter = anyio.CapacityLimiter(len(ways))
    failures: list[WarrenError] = []

    async def stream(sock: socket.socket, direction: str, tasks: TaskGroup) -> None:
        # A thread, because a test of the tunnel must not measure the event loop.
        try:
            await anyio.to_thread.run_sync(run, sock, direction, length, board, abandon_on_cancel=True, limiter=limiter)
        except WarrenError as error:
            failures.append(error)
            tasks.cancel_scope.cancel()

    with ExitStack() as sockets:
        opened = [sockets.enter_context(await dial(connect.SPEEDTEST_PORT)) for _ in ways]
        async with anyio.create_task_group() as tasks:
            for sock, direction in zip(opened, ways, strict=True):
                tasks.start_soon(stream, sock, direction, tasks)
    if failures:
        raise failures[0]
    return board.finish()


def run(sock: socket.socket, direction: str, length: timedelta, board: speed.Board) -> None:
    """Speak the test's protocol on a connected socket; blocks.

    Raises:
        Unavailable: the other side refuses, or breaks off.
    """
    import msgspec

    sock.setblocking(True)
    sock.settimeout(length.total_seconds() * 4)
    question = {"version": VERSION, "time": duration.nanoseconds(length), "direction": WAYS[direction]}
    try:
        sock.sendall(msgspec.json.encode(question) + b"\n")
        rest = _read_reply(sock)
        board.start()
        if WAYS[direction] == DOWN:
            _receive(sock, board, len(rest))
        else:
            _send(sock, board, length.total_seconds())
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


def _receive(sock: socket.socket, board: speed.Board, already_bytes: int) -> None:
    buffer = memoryview(bytearray(speed.BLOCK_BYTES))
    filled = already_bytes % speed.BLOCK_BYTES
    while count := sock.recv_into(buffer[filled:]):
        filled += count
        if filled == speed.BLOCK_BYTES:
            filled = 0
            board.block("down")
    board.end("down")


def _send(sock: socket.socket, board: speed.Board, seconds: float) -> None:
    block = os.urandom(speed.BLOCK_BYTES)
    elapsed = 0.0
    while elapsed <= seconds:
        sock.sendall(block)
        elapsed = board.block("up")
    board.end("up")
    sock.shutdown(socket.SHUT_WR)


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


async def _path_text(connection: AgentConnection) -> str:
    pong = await connection.ping()
    return f"the direct path {pong.endpoint}" if pong.direct else "a relay"


async def _path(connection: AgentConnection) -> Mapping[str, object]:
    """Say which way the packets go, and why."""
    agent = await connection.introduced()
    peer = connection.node.peer(agent.key)
    if peer is None:  # the agent left at the very end
        return {"direct": False, "endpoint": "", "region": 0, "latency_ms": None, "reason": "the agent left"}
    return {
        "direct": peer.direct,
        "endpoint": peer.endpoint,
        "region": 0 if peer.direct else peer.region,
        "latency_ms": None if peer.latency_seconds is None else peer.latency_seconds * 1000,
        "reason": peer.reason,
    }


def _capture(connection: AgentConnection, name: str) -> None:
    descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        connection.node.engine.capture(descriptor)
    finally:
        os.close(descriptor)
