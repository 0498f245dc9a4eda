"""Run one job from the server: an import, a dry run or a build, as a sequence of the session's steps."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Protocol, TypeAlias
from uuid import uuid4

from warren.clock import Clock
from warren.errors import WarrenError
from warren.provisioner import convert
from warren.provisioner.binary import Binary
from warren.provisioner.model import (
    BuildMetadata,
    Found,
    Inputs,
    Level,
    LogLine,
    Module,
    Parsed,
    Timing,
    Transition,
    VariableValue,
)
from warren.provisioner.process import Cancellation
from warren.provisioner.session import (
    Initialized,
    PlanMade,
    ProvisionerConfig,
    Session,
    StepFailed,
    open_session,
)
from warren.provisioner.workdir import read_state
from warren.rpc._pb import provisionerd_pb2 as pbd

Outcome: TypeAlias = pbd.CompletedJob | pbd.FailedJob

SETUP_STAGE = "Setting up"
CLEANUP_STAGE = "Cleaning Up"
QUOTA_STAGE = "Commit quota"
_PERSISTENT_STAGE, _EPHEMERAL_STAGE = "Detecting persistent resources", "Detecting ephemeral resources"
_TRANSITION_STAGES = {
    Transition.START: "Starting workspace",
    Transition.STOP: "Stopping workspace",
    Transition.DESTROY: "Destroying workspace",
}
_CODES = (
    ("missing parameter", "MISSING_TEMPLATE_PARAMETER"),
    ("required template variables", "REQUIRED_TEMPLATE_VARIABLES"),
    ("insufficient quota", "INSUFFICIENT_QUOTA"),
)
_TASKS_ALLOWED = 1


class Server(Protocol):
    """What a job needs of the server while it runs."""

    def log(self, stage: str, line: LogLine) -> None:
        """Take a line of Terraform's."""
        ...

    def mark(self, stage: str) -> None:
        """Take the beginning of a stage."""
        ...

    async def resolve_variables(self, parsed: Parsed) -> tuple[VariableValue, ...]:
        """Report what a template declares; get the values of its variables."""
        ...

    async def commit_quota(self, daily_cost: int) -> Quota:
        """Ask whether the owner may spend this much a day."""
        ...

    async def module_files(self, file_id: str) -> bytes:
        """Fetch the modules that were kept with a template version."""
        ...


class Quota(Protocol):
    """The answer about a quota."""

    @property
    def ok(self) -> bool:
        """Tell whether it is allowed."""
        ...

    @property
    def credits_consumed(self) -> int:
        """Tell what the owner spends then."""
        ...

    @property
    def budget(self) -> int:
        """Tell what the owner may spend; negative: no limit."""
        ...


class JobFailed(WarrenError):
    """A job failed; what it left behind must be stored all the same."""

    def __init__(self, message: str, state: bytes = b"", timings: tuple[Timing, ...] = ()) -> None:
        super().__init__(message)
        self.state = state
        self.timings = timings


async def run(
    job: pbd.AcquiredJob,
    folder: Path,
    config: ProvisionerConfig,
    binary: Binary,
    cancellation: Cancellation,
    clock: Clock,
    server: Server,
) -> Outcome:
    """Run a job in its folder; the outcome is ready to be sent."""
    server.mark(SETUP_STAGE)
    try:
        async with open_session(
            config,
            binary,
            folder,
            job.template_source_archive,
            cancellation,
            clock,
            server.log,
            _log_level(job),
        ) as session:
            completed = await _work(job, session, server)
    except JobFailed as error:
        return failed(job, error.message, error.state, error.timings)
    except WarrenError as error:
        return failed(job, error.message, b"", ())
    except OSError as error:  # a full disk above all
        return failed(job, f"{error.filename or folder}: {error.strerror}", _left(folder), ())
    server.mark(CLEANUP_STAGE)
    completed.job_id = job.job_id
    return completed


def _log_level(job: pbd.AcquiredJob) -> Level | None:
    """Give the level below which a build's log is of no interest, if it names one."""
    name = job.workspace_build.log_level.upper()
    return Level[name] if name in Level.__members__ else None


def _left(folder: Path) -> bytes:
    """Give the state that is there, if any is."""
    try:
        return read_state(folder)
    except OSError:
        return b""


def failed(job: pbd.AcquiredJob, reason: str, state: bytes, timings: tuple[Timing, ...]) -> pbd.FailedJob:
    """Say that a job failed. Without a state the one the server has stays untouched."""
    message = pbd.FailedJob(
        job_id=job.job_id,
        error=reason,
        error_code=next((code for words, code in _CODES if words in reason), ""),
    )
    kind = job.WhichOneof("type") or ""
    add_left(message, kind, state)
    if kind == "workspace_build":
        message.workspace_build.timings.extend(map(convert.timing, timings))
    return message


def add_left(message: pbd.FailedJob, kind: str, state: bytes) -> None:
    """Say of what kind the failed job was, and what it left behind."""
    match kind:
        case "workspace_build":
            message.workspace_build.SetInParent()
            if state:
                message.workspace_build.state = state
        case "template_import":
            message.template_import.SetInParent()
        case "template_dry_run":
            message.template_dry_run.SetInParent()
        case _:
            pass


async def _work(job: pbd.AcquiredJob, session: Session, server: Server) -> pbd.CompletedJob:
    match job.WhichOneof("type"):
        case "workspace_build":
            return await _build(job.workspace_build, session, server)
        case "template_import":
            return await _import(job.template_import, session, server)
        case "template_dry_run":
            return await _dry_run(job.template_dry_run, job.user_name, session)
        case _:
            raise JobFailed(f'unknown job type "{job.WhichOneof("type")}"')


# Builds --------------------------------------------------------------------------------------------------------------


async def _build(build: pbd.AcquiredJob.WorkspaceBuild, session: Session, server: Server) -> pbd.CompletedJob:
    metadata = replace(
        convert.metadata_from(build.metadata),
        workspace_build_id=build.workspace_build_id or build.metadata.workspace_build_id,
        workspace_name=build.workspace_name or build.metadata.workspace_name,
    )
    inputs = Inputs(
        metadata,
        convert.parameters_from(build.rich_parameter_values),
        convert.parameters_from(build.previous_parameter_values),
        convert.variables_from(build.variable_values),
        {provider.id: provider.access_token for provider in build.external_auth_providers},
    )
    initialized, plan = await _prepare_build(session, server, inputs, build.state)
    timings = initialized.timings + plan.timings
    if plan.ai_task_count > _TASKS_ALLOWED:
        count = plan.ai_task_count
        raise JobFailed(f"only one 'coder_ai_task' resource can be provisioned per template, found {count}")
    if plan.daily_cost and metadata.transition is not Transition.DESTROY:
        await _commit_quota(server, plan.daily_cost, timings)
    stage = _TRANSITION_STAGES[metadata.transition]
    server.mark(stage)
    applied = await session.apply(metadata, stage=stage)
    timings += applied.timings
    if applied.failure:
        raise JobFailed(applied.failure, applied.state, timings)
    try:
        found = await session.found_in_state(applied.state)
    except StepFailed as error:
        raise JobFailed(error.message, applied.state, timings + error.timings) from error
    return _built(applied.state, found, timings, initialized.modules, plan)


async def _prepare_build(
    session: Session, server: Server, inputs: Inputs, state: bytes
) -> tuple[Initialized, PlanMade]:
    file_id = inputs.metadata.modules_file
    module_files = await server.module_files(file_id) if file_id else b""
    try:
        initialized = await session.init(fresh=False, module_files=module_files)
    except StepFailed as error:
        raise JobFailed(error.message, state, error.timings) from error
    try:
        return initialized, await session.plan(inputs, state, document=False)
    except StepFailed as error:
        raise JobFailed(error.message, b"", initialized.timings + error.timings) from error


async def _commit_quota(server: Server, daily_cost: int, timings: tuple[Timing, ...]) -> None:
    answer = await server.commit_quota(daily_cost)
    for name, amount in (
        ("Build cost      ", daily_cost),
        ("Budget          ", answer.budget),
        ("Credits consumed", answer.credits_consumed),
    ):
        server.log(QUOTA_STAGE, LogLine(Level.INFO, f"{name} —   {amount}"))
    if not answer.ok:
        server.log(QUOTA_STAGE, LogLine(Level.WARN, "This build would exceed your quota. Failing."))
        raise JobFailed("insufficient quota", b"", timings)


def _built(
    state: bytes, found: Found, timings: tuple[Timing, ...], modules: tuple[Module, ...], plan: PlanMade
) -> pbd.CompletedJob:
    return pbd.CompletedJob(
        workspace_build=pbd.CompletedJob.WorkspaceBuild(
            state=state,
            resources=[convert.resource(item) for item in found.resources],
            timings=[convert.timing(item) for item in timings],
            modules=[convert.module(item) for item in modules],
            resource_replacements=[convert.replacement(item) for item in plan.replacements],
            ai_tasks=[convert.ai_task(item) for item in found.ai_tasks],
        )
    )


# Imports -------------------------------------------------------------------------------------------------------------


async def _import(request: pbd.AcquiredJob.TemplateImport, session: Session, server: Server) -> pbd.CompletedJob:
    try:
        initialized = await session.init(fresh=True, keep_modules=True)
    except StepFailed as error:
        raise JobFailed(f"template import init error: {error.message}") from error
    server.mark("Parsing template parameters")
    try:
        parsed = await session.parse()
    except StepFailed as error:
        raise JobFailed(f"run parse: parse error: {error.message}") from error
    variables = await server.resolve_variables(parsed)
    access_url = request.metadata.coder_url
    start_plan, start = await _detect(session, server, access_url, Transition.START, _PERSISTENT_STAGE, variables)
    _stop_plan, stop = await _detect(session, server, access_url, Transition.STOP, _EPHEMERAL_STAGE, variables)
    result = pbd.CompletedJob.TemplateImport(
        start_resources=[convert.resource(item) for item in start.resources],
        stop_resources=[convert.resource(item) for item in stop.resources],
        rich_parameters=[convert.parameter(item) for item in start.parameters],
        external_auth_providers_names=[item.id for item in start.external_auth],
        external_auth_providers=[convert.external_auth(item) for item in start.external_auth],
        start_modules=[convert.module(item) for item in initialized.modules],
        presets=[convert.preset(item) for item in start.presets],
        plan=start_plan.document,
        module_files=initialized.module_files,
        has_ai_tasks=bool(start.ai_tasks),
        has_external_agents=start.has_external_agents,
    )
    if initialized.module_files:
        result.module_files_hash = hashlib.sha256(initialized.module_files).digest()
    return pbd.CompletedJob(template_import=result)


async def _detect(
    session: Session,
    server: Server,
    access_url: str,
    transition: Transition,
    stage: str,
    variables: tuple[VariableValue, ...],
) -> tuple[PlanMade, Found]:
    """Plan a transition of a workspace that does not exist, to learn what the template would make."""
    server.mark(stage)
    metadata = BuildMetadata(access_url=access_url, transition=transition, owner_groups=("Everyone",))
    what = f"template import provision for {transition.value}"
    try:
        plan = await session.plan(Inputs(metadata, variables=variables), b"", stage=stage, document=True)
    except StepFailed as error:
        raise JobFailed(f"{what}: plan during template import provision error: {error.message}") from error
    try:
        return plan, await session.found_in_plan(plan.document)
    except StepFailed as error:
        raise JobFailed(f"{what}: graph during template import provision error: {error.message}") from error


# Dry runs ------------------------------------------------------------------------------------------------------------


async def _dry_run(request: pbd.AcquiredJob.TemplateDryRun, user: str, session: Session) -> pbd.CompletedJob:
    try:
        initialized = await session.init(fresh=False)
    except StepFailed as error:
        raise JobFailed(f"template dry-run init error: {error.message}") from error
    inputs = Inputs(
        _dry_metadata(convert.metadata_from(request.metadata), user),
        convert.parameters_from(request.rich_parameter_values),
        variables=convert.variables_from(request.variable_values),
    )
    try:
        plan = await session.plan(inputs, b"", stage=_PERSISTENT_STAGE, document=True)
        found = await session.found_in_plan(plan.document)
    except StepFailed as error:
        raise JobFailed(f"run dry-run provision job: {error.message}") from error
    return pbd.CompletedJob(
        template_dry_run=pbd.CompletedJob.TemplateDryRun(
            resources=[convert.resource(item) for item in found.resources],
            modules=[convert.module(item) for item in initialized.modules],
        )
    )


def _dry_metadata(given: BuildMetadata, user: str) -> BuildMetadata:
    """Fill in what a dry run is not told."""
    return replace(
        given,
        transition=Transition.START,
        access_url=given.access_url or "http://localhost:3000",
        workspace_name=given.workspace_name or "dryrun",
        workspace_id=given.workspace_id or str(uuid4()),
        owner=given.owner or user or "dryrunner",
        owner_id=given.owner_id or str(uuid4()),
        owner_email=given.owner_email or "dryrunner@example.com",
    )
