"""The server's side of provisioner daemons: it hands out jobs and takes in what became of them."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar
from uuid import UUID

import anyio
import structlog
from anyio.abc import ByteStream
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from warren.clock import Clock
from warren.domain import job as rules
from warren.domain.job import Job, JobType
from warren.errors import Conflict, Invalid, NotFound, RemoteError, Unavailable, WarrenError
from warren.rpc import convert_provisioner as convert
from warren.rpc import drpc
from warren.rpc._pb import provisioner_pb2 as pb
from warren.rpc._pb import provisionerd_pb2 as pbd
from warren.rpc.methods import ProvisionerDaemonAPI
from warren.rpc.multiplexer import Multiplexer
from warren.services import build_queue, job_payload, job_results
from warren.services.job_payload import PayloadSettings
from warren.services.jobs import LOGS, POLL_SECONDS, POSTED
from warren.storage import builds, files, job_logs, jobs, provisioner_daemons, template_versions
from warren.storage.notify import Notifier, publish
from warren.storage.provisioner_daemons import Daemon, NewDaemon

log = structlog.get_logger()

_T = TypeVar("_T")

TOUCH_SECONDS = 60.0
DATABASE_AWAY_SECONDS = 120.0  # for so long a daemon that has something to report is kept waiting
DATABASE_RETRY_SECONDS = 0.5
CHUNK_BYTES = 2 << 20  # half of what one message may carry
MODULE_FILES_LIMIT_BYTES = 100 << 20
FAIL_SECONDS = 10.0  # to note that a job could not be handed over, when everything else is being cancelled
SHUTDOWN_REASON = "connection to provisioner daemon broken"


@dataclass(frozen=True, slots=True)
class ProvisionerdSettings:
    """What the service needs to know of the deployment."""

    payload: PayloadSettings
    external_auth_ids: frozenset[str] = frozenset()


class ProvisionerDaemons:
    """Serve provisioner daemons, those of this process and those that connect."""

    def __init__(
        self, pool: AsyncConnectionPool, notifier: Notifier, clock: Clock, settings: ProvisionerdSettings
    ) -> None:
        self._pool = pool
        self._notifier = notifier
        self._clock = clock
        self._settings = settings

    async def register(self, daemon: NewDaemon) -> Daemon:
        """Note that a daemon connects."""
        async with self._pool.connection() as db:
            return await provisioner_daemons.upsert(db, daemon)

    async def serve(self, stream: ByteStream, daemon: Daemon) -> None:
        """Serve one daemon until its connection ends."""
        session = Session(self._pool, self._notifier, self._clock, self._settings, daemon)
        async with Multiplexer(stream, client=False) as mux, anyio.create_task_group() as tasks:
            tasks.start_soon(self._keep_seen, daemon)
            await drpc.serve(mux, session.handlers())
            tasks.cancel_scope.cancel()

    async def _keep_seen(self, daemon: Daemon) -> None:
        while True:
            await anyio.sleep(TOUCH_SECONDS)
            try:
                async with self._pool.connection() as db:
                    await provisioner_daemons.touch(db, daemon.id)
            except Exception as error:
                log.warning("provisioner_daemon.touch_failed", daemon=daemon.name, error=str(error))


class Session:
    """One connected daemon and the leases it holds."""

    def __init__(
        self,
        pool: AsyncConnectionPool,
        notifier: Notifier,
        clock: Clock,
        settings: ProvisionerdSettings,
        daemon: Daemon,
    ) -> None:
        self._pool = pool
        self._notifier = notifier
        self._clock = clock
        self._settings = settings
        self._daemon = daemon
        self._fences: dict[UUID, int] = {}

    def handlers(self) -> drpc.Handlers:
        """Name the handler of each call."""
        return {
            ProvisionerDaemonAPI.AcquireJob: self.acquire_job,
            ProvisionerDaemonAPI.AcquireJobWithCancel: self.acquire_job_with_cancel,
            ProvisionerDaemonAPI.CommitQuota: self.commit_quota,
            ProvisionerDaemonAPI.UpdateJob: self.update_job,
            ProvisionerDaemonAPI.FailJob: self.fail_job,
            ProvisionerDaemonAPI.CompleteJob: self.complete_job,
            ProvisionerDaemonAPI.UploadFile: self.upload_file,
            ProvisionerDaemonAPI.DownloadFile: self.download_file,
        }

    # Handing out ------------------------------------------------------------------------------------------------------

    async def acquire_job(self, _: pbd.Empty) -> pbd.AcquiredJob:
        """Hand out a job; an empty one when none came within 5 s. Old daemons ask like this."""
        job: Job | None = None
        with anyio.move_on_after(5):
            job = await self._wait_for_job()
        return await self._payload(job)

    async def acquire_job_with_cancel(self, call: drpc.Call[pbd.AcquiredJob, pbd.CancelAcquire]) -> None:
        """Hand out a job, or an empty one once the daemon has changed its mind."""
        job: Job | None = None

        async def give_up_on_cancel(scope: anyio.CancelScope) -> None:
            try:
                await call.receive()
            except anyio.EndOfStream:
                return  # it will not cancel; it still waits for the job
            except drpc.GONE:
                pass  # it waits for nothing any more
            scope.cancel()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(give_up_on_cancel, tasks.cancel_scope)
            job = await self._wait_for_job()
            tasks.cancel_scope.cancel()
        if job is None:
            await call.send(pbd.AcquiredJob())
            return
        payload = await self._payload(job)
        try:
            await call.send(payload)
        except BaseException:
            # The daemon will never hear of the job, so nobody else would end it before its lease does.
            with anyio.move_on_after(FAIL_SECONDS, shield=True):
                await self._fail(job, SHUTDOWN_REASON)
            raise

    async def _wait_for_job(self) -> Job | None:
        async with self._notifier.subscribe(POSTED, self._daemon.organization_id) as changes:
            while True:
                job: Job | None = None
                with anyio.CancelScope(shield=True):  # a job that was taken must not be lost to a cancellation
                    job = await self._acquire()
                if job is not None:
                    return job
                await changes.wait(POLL_SECONDS)

    async def _acquire(self) -> Job | None:
        async with self._pool.connection() as db:
            job = await jobs.acquire(
                db,
                worker_id=self._daemon.id,
                organization_id=self._daemon.organization_id,
                provisioners=self._daemon.provisioners,
                tags=self._daemon.tags,
                now=self._clock.now(),
            )
            if job is not None:
                await job_payload.announce_start(db, job)
        if job is not None:
            self._fences[job.id] = job.fence
            log.info("job.acquired", job_id=str(job.id), type=job.type, daemon=self._daemon.name)
        return job

    async def _payload(self, job: Job | None) -> pbd.AcquiredJob:
        if job is None:
            return pbd.AcquiredJob()
        try:
            return await self._patiently(partial(self._read_payload, job))
        except WarrenError as error:
            await self._patiently(partial(self._fail, job, error.message))
            raise RemoteError(f"request job was invalidated: {error.message}") from error

    async def _read_payload(self, job: Job) -> pbd.AcquiredJob:
        async with self._pool.connection() as db:
            return await job_payload.build(db, job, self._settings.payload, self._clock.now())

    async def _fail(self, job: Job, reason: str) -> None:
        async with self._pool.connection() as db:
            current = await jobs.lock(db, job.id)
            if current.completed_at is None and current.fence == job.fence:
                await jobs.complete(db, job.id, self._clock.now(), error=reason)
                await job_results.announce(db, current)

    async def _patiently(self, attempt: Callable[[], Awaitable[_T]]) -> _T:
        """Try again while the database is away: a build that runs shall not be lost to that."""
        with anyio.move_on_after(DATABASE_AWAY_SECONDS):
            while True:
                try:
                    return await attempt()
                except Unavailable as error:
                    log.warning("provisioner_daemon.waiting", daemon=self._daemon.name, error=error.message)
                    await anyio.sleep(DATABASE_RETRY_SECONDS)
        return await attempt()

    # Taking in --------------------------------------------------------------------------------------------------------

    async def _owned(self, db: AsyncConnection, job_id: str) -> Job:
        """Lock a job that this daemon reports on, and renew its lease."""
        job = await self._find(db, job_id)
        # A daemon that reconnected has its lease from an earlier session; its row says which one that is.
        rules.check_owner(job, self._daemon.id, self._fences.get(job.id, job.fence))
        await jobs.renew(db, job.id, job.fence)
        return job

    async def _find(self, db: AsyncConnection, job_id: str) -> Job:
        try:
            return await jobs.lock(db, UUID(job_id))
        except (ValueError, NotFound) as error:
            raise NotFound(f"no job {job_id!r}") from error

    async def update_job(self, request: pbd.UpdateJobRequest) -> pbd.UpdateJobResponse:
        """Take in log lines and what the daemon read in the template; tell it when it shall stop."""
        return await self._patiently(partial(self._update_job, request))

    async def _update_job(self, request: pbd.UpdateJobRequest) -> pbd.UpdateJobResponse:
        async with self._pool.connection() as db:
            job = await self._owned(db, request.job_id)
            if request.logs and await job_logs.append(db, job.id, convert.log_lines(request.logs)):
                await publish(db, LOGS, job.id)
            response = pbd.UpdateJobResponse(canceled=job.canceled_at is not None)
            parsed = job_results.Parsed()
            if job.type is JobType.IMPORT:
                parsed = await job_results.store_parsed(db, job, request)
        if parsed.missing:  # refused only now: what was read must stay stored
            raise Invalid(f"required template variables need values: {', '.join(parsed.missing)}")
        response.variable_values.extend(parsed.values)
        return response

    async def commit_quota(self, request: pbd.CommitQuotaRequest) -> pbd.CommitQuotaResponse:
        """Note what a build will cost a day; nothing limits it yet."""
        async with self._pool.connection() as db:
            job = await self._owned(db, request.job_id)
            if job.type is JobType.BUILD:
                build = await builds.get_of_job(db, job.id)
                await builds.set_daily_cost(db, build.id, request.daily_cost)
        return pbd.CommitQuotaResponse(ok=True, credits_consumed=request.daily_cost, budget=-1)

    async def fail_job(self, request: pbd.FailedJob) -> pbd.Empty:
        """End a job that failed; what Terraform wrote of the state until then is kept."""
        return await self._patiently(partial(self._fail_job, request))

    async def _fail_job(self, request: pbd.FailedJob) -> pbd.Empty:
        now = self._clock.now()
        async with self._pool.connection() as db:
            if await self._take_late_state(db, request):
                return pbd.Empty()
            job = await self._owned(db, request.job_id)
            if job.type is JobType.BUILD:
                await job_results.keep_state(db, job, request.workspace_build.state, now)
                await job_logs.insert_timings(db, job_results.timings(job.id, request.workspace_build.timings))
            # A job that was canceled and stopped because of it says so itself; any other error is a failure.
            await jobs.complete(
                db,
                job.id,
                now,
                error=request.error,
                error_code=request.error_code or rules.error_code(request.error),
            )
            await job_results.announce(db, job)
        log.info("job.failed", job_id=request.job_id, error=request.error)
        return pbd.Empty()

    async def _take_late_state(self, db: AsyncConnection, request: pbd.FailedJob) -> bool:
        """Keep the state of a job that was taken from this very worker: another server could not read its disk.

        Only while no later build has gone on from the state before.
        """
        job = await self._find(db, request.job_id)
        if job.error not in rules.REAPED or job.worker_id != self._daemon.id or job.type is not JobType.BUILD:
            return False
        build = await builds.get_of_job(db, job.id)
        latest = await builds.find_latest(db, build.workspace_id)
        if latest is None or latest.number != build.build_number or not request.workspace_build.state:
            return False
        await builds.set_state(db, build.id, request.workspace_build.state, self._clock.now())
        log.warning("job.state_recovered", job_id=request.job_id, daemon=self._daemon.name)
        return True

    async def complete_job(self, request: pbd.CompletedJob) -> pbd.Empty:
        """End a job that succeeded and store all it brought, in one transaction."""
        return await self._patiently(partial(self._complete_job, request))

    async def _complete_job(self, request: pbd.CompletedJob) -> pbd.Empty:
        now = self._clock.now()
        async with self._pool.connection() as db:
            job = await self._owned(db, request.job_id)
            error = await self._store(db, job, request)
            await jobs.complete(db, job.id, now, error=error)
            await build_queue.follow_up(db, job, now)
            await job_results.announce(db, job)
        log.info("job.completed", job_id=request.job_id, type=job.type)
        return pbd.Empty()

    async def _store(self, db: AsyncConnection, job: Job, request: pbd.CompletedJob) -> str:
        now = self._clock.now()
        match job.type, request.WhichOneof("type"):
            case JobType.IMPORT, "template_import":
                return await job_results.store_import(
                    db,
                    job,
                    request.template_import,
                    now,
                    api_version=self._daemon.api_version,
                    external_auth_ids=self._settings.external_auth_ids,
                )
            case JobType.BUILD, "workspace_build":
                await job_results.store_build(db, job, request.workspace_build, now)
            case JobType.DRY_RUN, "template_dry_run":
                await job_results.store_dry_run(db, job, request.template_dry_run, now)
            case _:
                raise Invalid("type payload must be provided")
        return ""

    # Module files -----------------------------------------------------------------------------------------------------

    async def upload_file(self, call: drpc.Call[pbd.Empty, pbd.UploadFileRequest]) -> pbd.Empty:
        """Take in the archive of a template version's modules."""
        content = await receive_file(call.receive)
        async with self._pool.connection() as db:
            await files.store(db, content, files.NOBODY, self._clock.now())
        return pbd.Empty()

    async def download_file(self, call: drpc.Call[pb.FileUpload, pbd.FileRequest]) -> None:
        """Send the archive of a template version's modules."""
        request = await call.receive()
        try:
            content = await self._module_files(request.file_id)
        except WarrenError as error:
            await call.send(pb.FileUpload(error=pb.FailedFile(error=error.message)))
            return
        digest = hashlib.sha256(content).digest()
        chunks = [content[start : start + CHUNK_BYTES] for start in range(0, len(content), CHUNK_BYTES)]
        header = pb.DataUpload(
            upload_type=request.upload_type, data_hash=digest, file_size=len(content), chunks=len(chunks)
        )
        await call.send(pb.FileUpload(data_upload=header))
        for index, chunk in enumerate(chunks):
            piece = pb.ChunkPiece(data=chunk, full_data_hash=digest, piece_index=index)
            await call.send(pb.FileUpload(chunk_piece=piece))

    async def _module_files(self, file_id: str) -> bytes:
        try:
            wanted = UUID(file_id)
        except ValueError as error:
            raise Invalid(f"invalid file id {file_id!r}") from error
        async with self._pool.connection() as db:
            if not await template_versions.is_module_file(db, wanted, self._daemon.organization_id):
                raise NotFound(f"file {file_id} is not a modules file")
            return (await files.get(db, wanted)).content


async def receive_file(receive: Callable[[], Awaitable[pbd.UploadFileRequest]]) -> bytes:
    """Put the pieces of an upload together.

    Raises:
        Invalid: the pieces are not those that were announced.
        Conflict: the announced file is too large.
    """
    first = await receive()
    if first.WhichOneof("type") != "data_upload":
        raise Invalid("first message must be data_upload")
    header = first.data_upload
    if header.file_size > MODULE_FILES_LIMIT_BYTES or header.chunks > -(-header.file_size // CHUNK_BYTES):
        raise Conflict(f"file of {header.file_size} bytes in {header.chunks} chunks is over the limit")
    content = bytearray()
    for index in range(header.chunks):
        piece = (await receive()).chunk_piece
        if piece.piece_index != index or piece.full_data_hash != header.data_hash:
            raise Invalid(f"piece {piece.piece_index} came where {index} was expected")
        content += piece.data
        if len(content) > header.file_size:
            raise Invalid("more data than announced")
    if len(content) != header.file_size or hashlib.sha256(content).digest() != header.data_hash:
        raise Invalid("the data is not what was announced")
    return bytes(content)
