"""Running a command: its lines, its end, and making it end."""

from __future__ import annotations

import os
from pathlib import Path

import anyio
import pytest

from tests.integration.provisioner.conftest import eventually
from warren.provisioner.process import Cancellation, Command, Exit, run

pytestmark = pytest.mark.anyio


class Heard:
    """What a command printed."""

    def __init__(self) -> None:
        self.stdout: list[str] = []
        self.stderr: list[str] = []
        self.cancellation = Cancellation()

    async def run(self, script: str, folder: Path, exit_seconds: float = 5) -> Exit:
        command = Command(["sh", "-c", script], folder, dict(os.environ), exit_seconds)
        return await run(command, self.cancellation, self.stdout.append, self.stderr.append)


async def test_lines_of_both_streams(tmp_path: Path) -> None:
    heard = Heard()
    ended = await heard.run("echo one; echo two >&2; printf 'three\\r\\nno end'; exit 3", tmp_path)
    assert (ended.failed, ended.reason) == (True, "exit status 3")
    assert heard.stdout == ["one", "three", "no end"]
    assert heard.stderr == ["two"]


async def test_much_output_at_once(tmp_path: Path) -> None:
    heard = Heard()
    ended = await heard.run("seq 1 200000; head -c 3000000 /dev/zero | tr '\\0' x", tmp_path)
    assert not ended.failed
    assert len(heard.stdout) == 200_001
    assert len(heard.stdout[-1]) == 3_000_000


async def test_a_child_that_keeps_the_pipe_does_not_hold_us_up(tmp_path: Path) -> None:
    heard = Heard()
    with anyio.fail_after(20):
        ended = await heard.run(f"setsid sleep 30 & echo $! >{tmp_path}/child; echo done", tmp_path)
    assert not ended.failed
    assert heard.stdout == ["done"]
    os.kill(int(await anyio.Path(tmp_path / "child").read_text()), 9)


async def test_cancelling_interrupts(tmp_path: Path) -> None:
    heard = Heard()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask_when, tmp_path / "ready", heard.cancellation)
        ended = await heard.run(
            f"trap 'echo saved; exit 7' INT; touch {tmp_path}/ready; while :; do sleep 0.05; done", tmp_path
        )
        assert ended.code == 7
    assert heard.stdout == ["saved"]


async def test_what_does_not_end_is_killed(tmp_path: Path) -> None:
    heard = Heard()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask_when, tmp_path / "ready", heard.cancellation)
        ended = await heard.run(
            f"trap '' INT; touch {tmp_path}/ready; while :; do sleep 0.05; done", tmp_path, exit_seconds=0.2
        )
        assert ended.reason == "signal: killed"


async def test_leaving_the_task_ends_the_command(tmp_path: Path) -> None:
    heard = Heard()
    with anyio.move_on_after(0.5) as scope:
        await heard.run("trap 'echo $$ >ended; exit' INT; while :; do sleep 0.05; done", tmp_path)
    assert scope.cancelled_caught
    assert await anyio.Path(tmp_path / "ended").exists()


async def ask_when(path: Path, cancellation: Cancellation) -> None:
    await eventually(path.exists)
    cancellation.request()
