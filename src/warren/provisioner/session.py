"""One job's work with Terraform: init, parse, plan, apply, and finding what came of it.

A session knows nothing of the server. It lives in the job's folder and tells its log to a listener; what goes wrong is
raised as `StepFailed` with the words that job errors have.
"""

from __future__ import annotations

import shutil
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from anyio import to_thread

from warren.clock import Clock
from warren.errors import WarrenError
from warren.provisioner import archive, environment, modules, parse, planned, resources
from warren.provisioner import replacements as replaced
from warren.provisioner.binary import Binary, Release
from warren.provisioner.graph import Graph
from warren.provisioner.model import (
    BuildMetadata,
    CoderProvider,
    Found,
    Inputs,
    Level,
    LogLine,
    Module,
    Parsed,
    PrebuildStage,
    Replacement,
    Timing,
    Transition,
)
from warren.provisioner.process import Cancellation
from warren.provisioner.terraform import DEFAULT_EXIT_SECONDS, Result, Terraform
from warren.provisioner.workdir import (
    DATA_FOLDER,
    LOCK_FILE,
    PLAN_FILE,
    STATE_FILE,
    Cache,
    Frozen,
    StateKeeper,
    frozen_key,
    read_state,
)

if TYPE_CHECKING:
    from warren.provisioner.coder_provider.server import RunningProvider

StageListener = Callable[[str, LogLine], None]

INIT_STAGE = "Initializing Terraform Directory"
PARSE_STAGE = "Parse parameters"
PLAN_STAGE = "Planning Infrastructure"
GRAPH_STAGE = "Graphing Infrastructure"

# With these Terraform says that `init` has to run (again).
_NEEDS_INIT = (
    "Required plugins are not installed",
    "Inconsistent dependency lock file",
    "Module not installed",
    "Backend initialization required",
    "Could not load plugin",
    "Failed to load plugin schemas",
)
_NOTHING_TO_DO = "The terraform state does not exist, there is nothing to do"


class StepFailed(WarrenError):
    """A step of a job failed; `timings` tells how long it took."""

    def __init__(self, message: str, timings: tuple[Timing, ...] = (), *, detail: str = "") -> None:
        super().__init__(message, detail=detail)
        self.timings = timings


@dataclass(frozen=True, slots=True)
class ProvisionerConfig:
    """What a provisioner needs to know of the machine it is on."""

    cache: Cache
    host_environment: Mapping[str, str]
    terraform_path: Path | None = None  # else it is looked for on the PATH
    release: Release | None = None  # what to fetch when none is installed
    coder_provider: CoderProvider = CoderProvider.BUILTIN
    extra_path: str = ""  # put before PATH: where `warren` is
    exit_seconds: float = DEFAULT_EXIT_SECONDS  # how long Terraform may take to end when cancelled
    plugin_folder: str = "shared"  # concurrent daemons must not share one: Terraform does not lock it


@dataclass(frozen=True, slots=True)
class Initialized:
    """What `init` told."""

    modules: tuple[Module, ...]
    module_files: bytes
    timings: tuple[Timing, ...]


@dataclass(frozen=True, slots=True)
class PlanMade:
    """What a plan told. `document` is empty where nothing asked for it."""

    document: bytes
    daily_cost: int
    ai_task_count: int
    replacements: tuple[Replacement, ...]
    timings: tuple[Timing, ...]


@dataclass(frozen=True, slots=True)
class Applied:
    """What an apply left behind; `failure` is empty when it succeeded."""

    state: bytes
    failure: str
    timings: tuple[Timing, ...]


class Session:
    """The steps of one job, in the job's folder."""

    def __init__(
        self,
        config: ProvisionerConfig,
        binary: Binary,
        folder: Path,
        source: bytes,
        cancellation: Cancellation,
        clock: Clock,
        log: StageListener,
        provider: RunningProvider | None,
        log_level: Level | None = None,
    ) -> None:
        self._config = config
        self._folder = folder
        self._source = source
        self._clock = clock
        self._log = log
        self._provider = provider
        self._log_level = log_level
        self._stage = INIT_STAGE
        self._graph = ""
        self._thawed = False
        self._done_nothing = False
        self._frozen = Frozen(config.cache.folder)
        self._version = binary.version_text
        base = environment.of_host(config.host_environment, config.cache.config_file, config.extra_path)
        self._terraform = Terraform(
            binary, folder, base, cancellation, clock, self._on_log, exit_seconds=config.exit_seconds
        )

    async def init(self, *, fresh: bool, module_files: bytes = b"", keep_modules: bool = False) -> Initialized:
        """Unpack the template and have its providers and modules; `fresh` fetches them even if we have them.

        Raises:
            StepFailed: the archive is bad, or Terraform failed.
        """
        self._stage = INIT_STAGE
        try:
            await to_thread.run_sync(_unpack_source, self._source, self._folder)
        except WarrenError as error:
            raise StepFailed(f"extract template archive: {error.message}") from error
        key = frozen_key(self._source, module_files, f"{self._version} {self._config.coder_provider}")
        self._frozen = self._config.cache.frozen(key)
        if not fresh and self._frozen.exists:
            self._graph = self._frozen.thaw(self._folder)
            self._thawed = True
            self._say(Level.INFO, "Using the providers and modules that were fetched for this template before.")
            return Initialized(modules.listed(self._folder), b"", ())
        if module_files:
            await to_thread.run_sync(archive.unpack, module_files, self._folder)
        result = await self._init()
        packed = await to_thread.run_sync(modules.pack, self._folder) if keep_modules else modules.Packed(b"", ())
        for skipped in packed.skipped:
            self._say(Level.WARN, f"module {skipped} is too large to be kept with the template version")
        return Initialized(modules.listed(self._folder), packed.archive, result.timings)

    async def parse(self) -> Parsed:
        """Read variables, tags and README out of the template.

        Raises:
            StepFailed: the template is malformed.
        """
        self._stage = PARSE_STAGE
        try:
            return await to_thread.run_sync(parse.parse_folder, self._folder)
        except WarrenError as error:
            raise StepFailed(error.message, detail=error.detail) from error

    async def plan(self, inputs: Inputs, state: bytes, *, stage: str = PLAN_STAGE, document: bool) -> PlanMade:
        """Plan; `document` asks for the plan as JSON, which is made anyway where something depends on it.

        Raises:
            StepFailed: Terraform failed.
        """
        self._stage = stage
        destroy = inputs.metadata.transition is Transition.DESTROY
        if state:
            await to_thread.run_sync(_write_private, self._folder / STATE_FILE, state)
        elif destroy:
            self._say(Level.INFO, _NOTHING_TO_DO)
            self._done_nothing = True
            return PlanMade(b"", 0, 0, (), ())
        build = environment.of_plan(inputs)
        self._announce()
        result = await self._plan(build, inputs, destroy=destroy)
        if result.failure and self._thawed and _asks_for_init(result):
            self._unfreeze()
            await self._init()
            self._stage = stage
            result = await self._plan(build, inputs, destroy=destroy)
        if result.failure:
            raise StepFailed(f"terraform plan: {_with_reason(result)}", result.timings)
        replacing = any(event.change is not None and event.change.action == "replace" for event in result.events)
        if not (document or replacing or self._counts()):
            return PlanMade(b"", 0, 0, (), result.timings)
        try:
            shown = await self._terraform.show_plan(self._variables(build))
        except WarrenError as error:
            raise StepFailed(f"show terraform plan file: {error.message}", detail=error.detail) from error
        return self._read_plan(shown, inputs.metadata, result.timings)

    async def apply(self, metadata: BuildMetadata, *, stage: str) -> Applied:
        """Do what was planned; the state comes back also when that fails."""
        self._stage = stage
        if self._done_nothing:
            self._say(Level.INFO, _NOTHING_TO_DO)
            return Applied(b"", "", ())
        build = environment.of_apply(metadata)
        self._announce()
        keeper = StateKeeper(self._folder)
        result = await self._terraform.apply({**self._variables(build), **self._debugging()}, keeper.look)
        failure = f"terraform apply: {_with_reason(result)}" if result.failure else ""
        try:
            state = await to_thread.run_sync(read_state, self._folder)
        except OSError as error:
            return Applied(b"", failure or f'read statefile "{STATE_FILE}": {error.strerror}', result.timings)
        if not state:
            return Applied(b"", failure or f'statefile "{STATE_FILE}" is not there', result.timings)
        return Applied(state, failure, result.timings)

    async def found_in_plan(self, document: bytes) -> Found:
        """Find the resources of a plan.

        Raises:
            StepFailed: they cannot be told.
        """
        self._stage = GRAPH_STAGE
        return self._convert(planned.from_plan(document))

    async def found_in_state(self, state: bytes) -> Found:
        """Find the resources of a state.

        Raises:
            StepFailed: they cannot be told.
        """
        self._stage = GRAPH_STAGE
        return self._convert(planned.from_state_file(state))

    def _convert(self, instances: Sequence[planned.Instance]) -> Found:
        try:
            found = resources.convert(instances, Graph.parse(self._graph))
        except WarrenError as error:
            raise StepFailed(f"convert state for graph: {error.message}") from error
        for warning in found.warnings:
            self._say(Level.WARN, warning)
        return found

    async def _init(self) -> Result:
        self._stage = INIT_STAGE
        self._announce()
        plugins = self._config.cache.plugins / self._config.plugin_folder
        await to_thread.run_sync(partial(plugins.mkdir, parents=True, exist_ok=True, mode=0o700))
        result = await self._terraform.init({"TF_PLUGIN_CACHE_DIR": str(plugins), **self._variables({})})
        if result.failure:
            raise StepFailed(f"initialize terraform: {_with_reason(result)}", result.timings)
        try:
            self._graph = await self._terraform.graph(self._variables({}))
        except WarrenError as error:
            raise StepFailed(f"generate graph: {error.message}", result.timings, detail=error.detail) from error
        await to_thread.run_sync(self._frozen.freeze, self._folder, self._graph)
        return result

    async def _plan(self, build: Mapping[str, str], inputs: Inputs, *, destroy: bool) -> Result:
        variables = {**self._variables(build), **self._debugging()}
        return await self._terraform.plan(variables, inputs.variables, destroy=destroy)

    def _read_plan(self, document: bytes, metadata: BuildMetadata, timings: tuple[Timing, ...]) -> PlanMade:
        try:
            instances = planned.from_plan(document)
            changes = planned.replacements(document)
        except WarrenError as error:
            raise StepFailed(f"convert plan state: {error.message}", timings, detail=error.detail) from error
        if changes and metadata.prebuild_stage is not PrebuildStage.CLAIM:
            for line in replaced.described(changes):
                self._say(Level.WARN, line)
        return PlanMade(
            document,
            planned.daily_cost(instances),
            sum(instance.type == "coder_ai_task" for instance in instances),
            tuple(replaced.with_reasons(changes)),
            timings,
        )

    def _counts(self) -> bool:
        """Tell whether the template may cost something or have tasks, so that a build must look into its plan."""
        telling = b"daily_cost" in self._source or b"coder_ai_task" in self._source
        return telling or bool(modules.listed(self._folder))

    def _unfreeze(self) -> None:
        self._thawed = False
        (self._folder / DATA_FOLDER).unlink(missing_ok=True)
        (self._folder / LOCK_FILE).unlink(missing_ok=True)

    def _variables(self, build: Mapping[str, str]) -> Mapping[str, str]:
        """Give the variables of the build, and those that lead Terraform to our provider."""
        if self._provider is None:
            return build
        self._provider.use(build)
        return {**build, **self._provider.variables}

    def _debugging(self) -> Mapping[str, str]:
        """Have Terraform tell what it does inside, where the job asks for a level of logging."""
        return {} if self._log_level is None else {"TF_LOG": "JSON"}

    def _announce(self) -> None:
        for line in environment.announcements(self._config.host_environment):
            self._say(Level.WARN, line)

    def _say(self, level: Level, output: str) -> None:
        self._on_log(LogLine(level, output))

    def _on_log(self, line: LogLine) -> None:
        if self._log_level is None or line.level.value >= self._log_level.value:
            self._log(self._stage, line)


@asynccontextmanager
async def open_session(
    config: ProvisionerConfig,
    binary: Binary,
    folder: Path,
    source: bytes,
    cancellation: Cancellation,
    clock: Clock,
    log: StageListener,
    log_level: Level | None = None,
) -> AsyncGenerator[Session]:
    """Open a session in a job's folder, with a provider of its own unless the published one is to be used."""
    if config.coder_provider is CoderProvider.REGISTRY:
        yield Session(config, binary, folder, source, cancellation, clock, log, None, log_level)
        return
    # It brings gRPC with it, which takes a server longer to import than most of the rest.
    from warren.provisioner.coder_provider.server import serve_provider

    async with serve_provider({}) as provider:
        yield Session(config, binary, folder, source, cancellation, clock, log, provider, log_level)


def _with_reason(result: Result) -> str:
    """Say how a command ended, and the first error it reported with its place."""
    for event in result.events:
        diagnostic = event.diagnostic
        if diagnostic is not None and diagnostic.severity == "error":
            where = diagnostic.range
            place = "" if where is None else f" ({where.filename}:{where.start.line})"
            return f"{result.failure}: {diagnostic.summary}{place}"
    return result.failure


def _asks_for_init(result: Result) -> bool:
    summaries = [event.diagnostic.summary for event in result.events if event.diagnostic is not None]
    return any(summary.startswith(_NEEDS_INIT) for summary in summaries)


def _unpack_source(source: bytes, folder: Path) -> None:
    """Unpack a template, without what Terraform keeps for itself: a state in it must not become the workspace's."""
    archive.unpack(source, folder)
    shutil.rmtree(folder / DATA_FOLDER, ignore_errors=True)
    for name in (STATE_FILE, f"{STATE_FILE}.backup", PLAN_FILE):
        (folder / name).unlink(missing_ok=True)


def _write_private(path: Path, data: bytes) -> None:
    path.touch(mode=0o600)
    path.write_bytes(data)
