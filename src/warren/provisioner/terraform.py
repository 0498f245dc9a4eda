"""Run Terraform in a job's folder: init, plan, apply, show, graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from warren.clock import Clock
from warren.errors import WarrenError
from warren.provisioner import logs, process
from warren.provisioner.binary import JSON_INIT, TYPED_GRAPH, Binary
from warren.provisioner.model import LogLine, Timing, VariableValue
from warren.provisioner.process import Cancellation, Command
from warren.provisioner.workdir import PLAN_FILE

LogListener = Callable[[LogLine], None]

DEFAULT_EXIT_SECONDS = 180.0  # clouds take their time to let go; the server's reaper waits longer than this


class TerraformFailed(WarrenError):
    """A command of Terraform failed; the reason is in the log."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a command told."""

    output: str
    timings: tuple[Timing, ...]
    failure: str  # empty: it succeeded
    events: tuple[logs.Event, ...] = ()


class Terraform:
    """One job's Terraform: the program, the folder, and who listens to its log."""

    def __init__(
        self,
        binary: Binary,
        folder: Path,
        environment: Mapping[str, str],
        cancellation: Cancellation,
        clock: Clock,
        log: LogListener,
        exit_seconds: float = DEFAULT_EXIT_SECONDS,
    ) -> None:
        self._binary = binary
        self._folder = folder
        self._environment = environment
        self._cancellation = cancellation
        self._clock = clock
        self._log = log
        self._exit_seconds = exit_seconds

    async def init(self, more: Mapping[str, str]) -> Result:
        """Fetch providers and modules."""
        json_flag = ["-json"] if self._binary.at_least(JSON_INIT) else []
        return await self._logged("init", ["init", "-no-color", "-input=false", *json_flag], more)

    async def plan(self, more: Mapping[str, str], variables: Sequence[VariableValue], *, destroy: bool) -> Result:
        """Plan into the plan file."""
        arguments = ["plan", "-no-color", "-input=false", "-json", "-refresh=true", f"-out={self._folder / PLAN_FILE}"]
        if destroy:
            arguments.append("-destroy")
        for variable in variables:
            arguments += ["-var", f"{variable.name}={variable.value}"]
        return await self._logged("plan", arguments, more)

    async def apply(self, more: Mapping[str, str], progressed: Callable[[], None]) -> Result:
        """Do what the plan file says; `progressed` is called after each line of what Terraform says of it."""
        arguments = ["apply", "-no-color", "-auto-approve", "-input=false", "-json", str(self._folder / PLAN_FILE)]
        return await self._logged("apply", arguments, more, progressed)

    async def show_plan(self, more: Mapping[str, str]) -> bytes:
        """Give the plan as JSON.

        Raises:
            TerraformFailed: it could not be shown.
        """
        arguments = ["show", "-json", "-no-color", str(self._folder / PLAN_FILE)]
        return (await self._captured(arguments, more)).encode()

    async def graph(self, more: Mapping[str, str]) -> str:
        """Give the graph of the template, in the DOT language.

        Raises:
            TerraformFailed: it could not be made.
        """
        kind = ["-type=plan"] if self._binary.at_least(TYPED_GRAPH) else []
        return await self._captured(["graph", *kind], more)

    async def _logged(
        self,
        stage: str,
        arguments: Sequence[str],
        more: Mapping[str, str],
        progressed: Callable[[], None] | None = None,
    ) -> Result:
        timings = logs.TimingCollector(stage)
        events: list[logs.Event] = []
        started = self._clock.now()

        def on_stdout(line: str) -> None:
            if progressed is not None:
                progressed()
            event = logs.parse(line)
            if event is not None:
                timings.handle_event(event, self._clock.now())
                events.append(event)
            for entry in logs.from_stdout(line, event):
                self._log(entry)

        ended = await self._run(arguments, more, on_stdout, self._on_stderr)
        failure = f"{ended.reason}" if ended.failed else ""
        collected = timings.finish(started, self._clock.now(), failed=ended.failed)
        return Result("", collected, failure, tuple(events))

    async def _captured(self, arguments: Sequence[str], more: Mapping[str, str]) -> str:
        lines: list[str] = []
        errors: list[str] = []
        ended = await self._run(arguments, more, lines.append, errors.append)
        if ended.failed:
            raise TerraformFailed(f"terraform {arguments[0]}: {ended.reason}", detail="\n".join(errors))
        return "\n".join(lines)

    async def _run(
        self,
        arguments: Sequence[str],
        more: Mapping[str, str],
        on_stdout: process.LineListener,
        on_stderr: process.LineListener,
    ) -> process.Exit:
        command = Command(
            [str(self._binary.path), *arguments], self._folder, {**self._environment, **more}, self._exit_seconds
        )
        return await process.run(command, self._cancellation, on_stdout, on_stderr)

    def _on_stderr(self, line: str) -> None:
        for entry in logs.from_stderr(line, logs.parse(line)):
            self._log(entry)
