"""The provisioner daemon: takes jobs from the server, runs them one at a time, reports on them.

It speaks DRPC over any byte stream, so the built-in daemons of a server and external ones are the same code. A lost
connection does not disturb a running job: what is to be reported waits for the next connection.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib import import_module
from typing import TypeVar

import anyio
import structlog
from anyio import to_thread
from anyio.abc import ByteStream
from google.protobuf.message import Message

from warren import retry
from warren.clock import Clock
from warren.errors import Forbidden, ProtocolError, RemoteError, Unauthenticated, Unavailable, WarrenError
from warren.provisioner import binary, convert, jobs, uploads
from warren.provisioner.model import Level, LogLine, Parsed, VariableValue
from warren.provisioner.process import Cancellation
from warren.provisioner.session import ProvisionerConfig
from warren.provisioner.workdir import JobNote, recover
from warren.rpc import drpc
from warren.rpc._pb import provisioner_pb2 as pb
from warren.rpc._pb import provisionerd_pb2 as pbd
from warren.rpc.methods import ProvisionerDaemonAPI, Unary
from warren.rpc.multiplexer import Multiplexer

log = structlog.get_logger()

Connect = Callable[[], Awaitable[ByteStream]]

_PROVIDER_MODULE = "warren.provisioner.coder_provider.server"
KILLED = "the provisioner daemon was killed while it ran this job; what Terraform had saved of the state is kept"
HARD_CLOSE = "provisioner daemon was shutdown gracefully"
_LOST = (anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream, Unavailable, ProtocolError, OSError)
_DIAL = retry.Backoff(initial_seconds=0.05, longest_seconds=10)
_ACQUIRE = retry.Backoff(initial_seconds=0.01, longest_seconds=1)
_CALL = retry.Backoff(initial_seconds=0.025, longest_seconds=5)
_BATCH_SECONDS = 0.25
_BATCH_LINES = 100
_BATCH_BYTES = 1 << 20  # a message may have 4 MiB
_MAX_LINE = 64 << 10
_MAX_MESSAGE_BYTES = 4 << 20
_LAST_WORDS_SECONDS = 5.0

Req = TypeVar("Req", bound=Message)
Res = TypeVar("Res", bound=Message)


@dataclass(frozen=True, slots=True)
class DaemonConfig:
    """How a daemon works; its name is for people, the server knows it by its connection."""

    name: str
    provisioner: ProvisionerConfig
    heartbeat_seconds: float = 1.0


class _Refused(Exception):
    """The server does not want this daemon."""

    def __init__(self, reason: WarrenError) -> None:
        super().__init__(reason.message)
        self.reason = reason


class ProvisionerDaemon:
    """Takes one job after the other until it is told to stop.

    `run` ends after `stop` when the job in hand is done; cancelling `run` interrupts the job, which then fails with
    what Terraform saved of its state.
    """

    def __init__(self, config: DaemonConfig, connect: Connect, clock: Clock) -> None:
        self._config = replace(config, provisioner=replace(config.provisioner, plugin_folder=config.name))
        self._connect = connect
        self._clock = clock
        self._stopping = anyio.Event()
        self._connection = _Connection()
        self._binary: binary.Binary | None = None
        self._refused: WarrenError | None = None
        self._current: Cancellation | None = None

    def stop(self, *, cancel_job: bool = False) -> None:
        """Take no more jobs; with `cancel_job` cancel the one in hand, else finish it."""
        self._stopping.set()
        if cancel_job and self._current is not None:
            self._current.request()

    @property
    def busy(self) -> bool:
        """Tell whether a job is being run."""
        return self._current is not None

    async def run(self) -> None:
        """Serve until stopped or cancelled.

        Raises:
            Unavailable: there is no Terraform; the hint says what to install.
            Forbidden, Unauthenticated: the server does not want this daemon.
        """
        config = self._config.provisioner
        await to_thread.run_sync(config.cache.prepare)
        await to_thread.run_sync(config.cache.clean, self._clock.now())
        search_path = config.host_environment.get("PATH", "")
        self._binary = await _find_terraform(config, search_path)
        await to_thread.run_sync(import_module, _PROVIDER_MODULE)  # here it holds up no job
        log.info("provisioner_daemon.started", daemon=self._config.name, terraform=self._binary.version_text)
        async with anyio.create_task_group() as tasks:
            # The connection outlives the job in hand, so that even a cancelled one can be reported.
            connected = anyio.CancelScope(shield=True)
            tasks.start_soon(self._stay_connected, connected)
            try:
                await self._end_leftovers()
                await self._take_jobs()
            finally:
                connected.cancel()
        log.info("provisioner_daemon.stopped", daemon=self._config.name)
        if self._refused is not None:
            raise self._refused

    async def _stay_connected(self, scope: anyio.CancelScope) -> None:
        with scope:
            try:
                await retry.forever(self._hold_connection, on=(*_LOST, WarrenError), backoff=_DIAL)
            except _Refused as error:
                self._refused = error.reason
                self._stopping.set()

    async def _hold_connection(self) -> None:
        try:
            await self._connection.hold(self._connect)
        except (Forbidden, Unauthenticated) as error:
            raise _Refused(error) from error

    async def _end_leftovers(self) -> None:
        """End the jobs in which a daemon of our name was killed: hand over the state that Terraform has saved."""
        cache = self._config.provisioner.cache
        for job_id, note in await to_thread.run_sync(cache.leftovers, self._config.name):
            state = await recover(cache, job_id) or b""
            message = pbd.FailedJob(job_id=job_id, error=KILLED)
            jobs.add_left(message, note.type, state)
            log.info("job.recovered", job_id=job_id, daemon=self._config.name, state_bytes=len(state))
            if await self._connection.fail(message, unless=self._stopping):
                await to_thread.run_sync(cache.forget, job_id)
            elif not self._stopping.is_set():
                # The server ended the job itself. Whether it has the state we cannot tell: keep that for a while.
                await to_thread.run_sync(cache.retire, job_id)

    async def _take_jobs(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            try:
                job = await self._acquire()
            except (RemoteError, *_LOST) as error:
                failures += 1
                log.debug("job.acquire_failed", daemon=self._config.name, error=str(error) or repr(error))
                with anyio.move_on_after(_ACQUIRE.pause_seconds(failures)):
                    await self._stopping.wait()
                continue
            failures = 0
            if job is not None:
                try:
                    await self._run(job)
                except Exception:
                    log.exception("job.crashed", job_id=job.job_id, daemon=self._config.name)
                    state = await recover(self._config.provisioner.cache, job.job_id) or b""
                    await self._connection.fail(jobs.failed(job, "internal error of the provisioner daemon", state, ()))

    async def _acquire(self) -> pbd.AcquiredJob | None:
        """Wait for a job; `None` when we stopped meanwhile. A job that comes all the same is run."""
        client = await self._connection.client(unless=self._stopping)
        if client is None:
            return None
        async with client.stream(ProvisionerDaemonAPI.AcquireJobWithCancel) as call:

            async def cancel_when_stopping() -> None:
                await self._stopping.wait()
                with suppress(*_LOST):
                    await call.send(pbd.CancelAcquire())

            result: pbd.AcquiredJob | Exception = pbd.AcquiredJob()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(cancel_when_stopping)
                try:
                    result = await call.receive()
                except (RemoteError, *_LOST) as error:
                    result = error
                tasks.cancel_scope.cancel()
        if isinstance(result, Exception):
            raise result
        return result if result.job_id else None

    async def _run(self, job: pbd.AcquiredJob) -> None:
        assert self._binary is not None
        words = log.bind(job_id=job.job_id, type=job.WhichOneof("type"), daemon=self._config.name)
        words.info("job.started")
        self._current = Cancellation()
        run = _Run(job, self._config, self._binary, self._connection, self._current, self._clock)
        try:
            outcome = await run.run()
        finally:
            self._current = None
        words.info("job.completed" if isinstance(outcome, pbd.CompletedJob) else "job.failed", error=_error(outcome))


class _Connection:
    """The present connection to the server, if there is one."""

    def __init__(self) -> None:
        self._client: drpc.Client | None = None
        self._changed = anyio.Event()

    async def hold(self, connect: Connect) -> None:
        """Connect, and stay until the connection ends."""
        stream = await connect()
        async with Multiplexer(stream, client=True) as mux:
            self._set(drpc.Client(mux))
            try:
                async for unwanted in mux.accept():
                    await unwanted.aclose()
            finally:
                self._set(None)
        raise Unavailable("the connection to the server ended")

    async def client(self, unless: anyio.Event | None = None) -> drpc.Client | None:
        """Wait for a connection, or for `unless`."""
        while self._client is None and not (unless is not None and unless.is_set()):
            async with anyio.create_task_group() as tasks:
                if unless is not None:
                    tasks.start_soon(_cancel_after, unless, tasks.cancel_scope)
                await self._changed.wait()
                tasks.cancel_scope.cancel()
        return self._client

    async def call(self, method: Unary[Req, Res], request: Req) -> Res:
        """Call the server, again and again while the connection is lost.

        Raises:
            RemoteError: it answered with an error.
        """
        failures = 0
        while True:
            client = await self.client()
            assert client is not None
            try:
                return await client.unary(method, request)
            except RemoteError:
                raise
            except _LOST:
                failures += 1
                await anyio.sleep(_CALL.pause_seconds(failures))

    async def fail(self, message: pbd.FailedJob, unless: anyio.Event | None = None) -> bool:
        """Say that a job failed; tell whether the server took it."""
        if await self.client(unless) is None:
            return False
        try:
            await self.call(ProvisionerDaemonAPI.FailJob, message)
        except RemoteError as error:
            log.info("job.report_refused", job_id=message.job_id, error=error.message)
            return False
        return True

    def _set(self, client: drpc.Client | None) -> None:
        self._client = client
        self._changed.set()
        self._changed = anyio.Event()


async def _cancel_after(event: anyio.Event, scope: anyio.CancelScope) -> None:
    await event.wait()
    scope.cancel()


class _Run:
    """One job from beginning to end, with its heartbeat and its log."""

    def __init__(
        self,
        job: pbd.AcquiredJob,
        config: DaemonConfig,
        program: binary.Binary,
        connection: _Connection,
        cancellation: Cancellation,
        clock: Clock,
    ) -> None:
        self._job = job
        self._config = config
        self._binary = program
        self._connection = connection
        self._cancellation = cancellation
        self._clock = clock
        self._lines: list[pbd.Log] = []
        self._wake = anyio.Event()
        self._full = anyio.Event()
        self._lost = ""  # why the server does not take reports on this job any more

    async def run(self) -> jobs.Outcome:
        """Run the job and report its outcome; the folder goes when the server has what was in it."""
        cache = self._config.provisioner.cache
        outcome: jobs.Outcome = jobs.failed(self._job, HARD_CLOSE, b"", ())
        try:
            note = JobNote(self._config.name, self._job.WhichOneof("type") or "")
            folder = await to_thread.run_sync(cache.begin, self._job.job_id, note)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._report)
                outcome = await jobs.run(
                    self._job, folder, self._config.provisioner, self._binary, self._cancellation, self._clock, self
                )
                tasks.cancel_scope.cancel()
            await self._flush()
            accepted = await self._deliver(outcome)
        except anyio.get_cancelled_exc_class():
            await self._last_words()
            raise
        if accepted:
            await to_thread.run_sync(cache.forget, self._job.job_id)
        return outcome

    # What a running job asks of the server (`jobs.Server`) ----------------------------------------------------------

    def log(self, stage: str, line: LogLine) -> None:
        """Queue a line of Terraform's."""
        self._queue(pbd.PROVISIONER, convert.LEVELS[line.level], stage, line.output)

    def mark(self, stage: str) -> None:
        """Queue the beginning of a stage."""
        self._queue(pbd.PROVISIONER_DAEMON, convert.LEVELS[Level.INFO], stage, "")

    async def resolve_variables(self, parsed: Parsed) -> tuple[VariableValue, ...]:
        """Report what a template declares; get the values of its variables."""
        request = pbd.UpdateJobRequest(
            job_id=self._job.job_id,
            template_variables=[convert.variable(item) for item in parsed.variables],
            user_variable_values=self._job.template_import.user_variable_values,
            readme=parsed.readme,
            workspace_tags=dict(parsed.tags),
        )
        response = await self._connection.call(ProvisionerDaemonAPI.UpdateJob, request)
        return convert.variables_from(response.variable_values)

    async def commit_quota(self, daily_cost: int) -> jobs.Quota:
        """Ask whether the owner may spend this much a day."""
        request = pbd.CommitQuotaRequest(job_id=self._job.job_id, daily_cost=daily_cost)
        return await self._connection.call(ProvisionerDaemonAPI.CommitQuota, request)

    async def module_files(self, file_id: str) -> bytes:
        """Fetch the modules that were kept with a template version."""
        client = await self._connection.client()
        assert client is not None
        request = pbd.FileRequest(file_id=file_id, upload_type=pb.UPLOAD_TYPE_MODULE_FILES)
        async with client.stream(ProvisionerDaemonAPI.DownloadFile) as call:
            await call.send(request)
            await call.close_send()
            return await uploads.receive(call.receive)

    # Reporting --------------------------------------------------------------------------------------------------------

    def _queue(self, source: pbd.LogSource, level: pb.LogLevel, stage: str, output: str) -> None:
        self._lines.append(
            pbd.Log(
                source=source,
                level=level,
                created_at=int(self._clock.now().timestamp() * 1000),
                stage=stage,
                output=output[:_MAX_LINE],
            )
        )
        self._wake.set()
        if len(self._lines) >= _BATCH_LINES:
            self._full.set()

    async def _report(self) -> None:
        """Send the log in batches, and a sign of life when there is nothing to send; learn of a cancellation."""
        while not self._lost:
            with anyio.move_on_after(self._config.heartbeat_seconds):
                await self._wake.wait()
                with anyio.move_on_after(_BATCH_SECONDS):
                    await self._full.wait()
            await self._flush(always=True)

    async def _flush(self, *, always: bool = False) -> None:
        while self._lines or always:
            always = False
            batch = self._take_batch()
            await self._update(pbd.UpdateJobRequest(job_id=self._job.job_id, logs=batch))

    def _take_batch(self) -> list[pbd.Log]:
        batch: list[pbd.Log] = []
        size = 0
        while self._lines and size < _BATCH_BYTES:
            line = self._lines.pop(0)
            size += line.ByteSize()
            batch.append(line)
        if not self._lines:
            self._wake, self._full = anyio.Event(), anyio.Event()
        return batch

    async def _update(self, request: pbd.UpdateJobRequest) -> None:
        try:
            response = await self._connection.call(ProvisionerDaemonAPI.UpdateJob, request)
        except RemoteError as error:
            # Somebody else has the job now, or it is over: end Terraform, keep its state where it can be recovered.
            log.warning("job.lost", job_id=self._job.job_id, error=error.message)
            self._lost = error.message
            self._cancellation.request()
            return
        if response.canceled:
            self._cancellation.request()

    async def _deliver(self, outcome: jobs.Outcome) -> bool:
        """Hand over the outcome; tell whether the server took it."""
        if isinstance(outcome, pbd.FailedJob):
            return await self._connection.fail(outcome)
        try:
            await self._upload_modules(outcome)
            await self._connection.call(ProvisionerDaemonAPI.CompleteJob, outcome)
        except RemoteError as error:
            reason = f"internal provisionerserver error: {error.message}"
            state = outcome.workspace_build.state if outcome.HasField("workspace_build") else b""
            return await self._connection.fail(jobs.failed(self._job, reason, state, ()))
        return True

    async def _upload_modules(self, outcome: pbd.CompletedJob) -> None:
        """Send modules on their own when the message would be too large with them."""
        result = outcome.template_import
        if not result.module_files or outcome.ByteSize() <= _MAX_MESSAGE_BYTES - _BATCH_BYTES:
            return
        client = await self._connection.client()
        assert client is not None
        async with client.stream(ProvisionerDaemonAPI.UploadFile) as call:
            for message in uploads.messages(result.module_files):
                await call.send(message)
            await call.close_send()
            await call.receive()
        result.module_files = b""

    async def _last_words(self) -> None:
        """Say that the job ends because we do, with the state as Terraform saved it."""
        with anyio.move_on_after(_LAST_WORDS_SECONDS, shield=True):
            cache = self._config.provisioner.cache
            state = await recover(cache, self._job.job_id)
            if await self._connection.fail(jobs.failed(self._job, HARD_CLOSE, state or b"", ())):
                cache.forget(self._job.job_id)


async def _find_terraform(config: ProvisionerConfig, search_path: str) -> binary.Binary:
    """Find Terraform; fetch it where that is allowed and none is installed."""
    installed = config.terraform_path is not None or binary.on_path(search_path) is not None
    if installed or config.release is None:
        return await binary.find(config.terraform_path, search_path)
    from warren.provisioner import install  # brings an HTTP client with it, which is hardly ever needed

    try:
        return await install.install(config.release, config.cache.folder)
    except Unavailable as error:
        raise Unavailable(f"{binary.NOT_FOUND}, and {error.message}", hint=error.hint) from error


def _error(outcome: jobs.Outcome) -> str:
    return outcome.error if isinstance(outcome, pbd.FailedJob) else ""
