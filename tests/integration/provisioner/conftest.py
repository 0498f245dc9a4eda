"""A server that hands out the jobs a test gives it, and real Terraform."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeAlias
from uuid import uuid4

import anyio
import pytest
from anyio.abc import ByteStream

from warren.clock import SystemClock
from warren.errors import WarrenError
from warren.provisioner import uploads
from warren.provisioner.daemon import DaemonConfig, ProvisionerDaemon
from warren.provisioner.session import ProvisionerConfig
from warren.provisioner.workdir import Cache
from warren.rpc import drpc
from warren.rpc._pb import provisioner_pb2 as pb
from warren.rpc._pb import provisionerd_pb2 as pbd
from warren.rpc.memory import stream_pair
from warren.rpc.methods import ProvisionerDaemonAPI
from warren.rpc.multiplexer import Multiplexer

Outcome: TypeAlias = pbd.CompletedJob | pbd.FailedJob

WORKSPACE_ID = "11111111-1111-1111-1111-111111111111"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def eventually(condition: Callable[[], bool], seconds: float = 10) -> None:
    """Wait for something that other processes do."""
    with anyio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110
            await anyio.sleep(0.02)


class ScriptedServer:
    """Speaks the server's side of the protocol, for the jobs that a test runs."""

    def __init__(self) -> None:
        self.updates: list[pbd.UpdateJobRequest] = []
        self.canceled: set[str] = set()
        self.variables: dict[str, str] = {}
        self.refusal: WarrenError | None = None
        self.budget = -1
        self.files: dict[str, bytes] = {}
        self._send, self._jobs = anyio.create_memory_object_stream[pbd.AcquiredJob](10)
        self._outcomes: dict[str, Outcome] = {}
        self._changed = anyio.Event()
        self._scopes: list[anyio.CancelScope] = []

    def drop_connections(self) -> None:
        """Break what daemons are connected by, without a word."""
        for scope in self._scopes:
            scope.cancel()

    async def connect(self) -> ByteStream:
        """Give a daemon its end of a connection."""
        ours, theirs = await stream_pair()
        self._tasks.start_soon(self._serve, ours)
        return theirs

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[ScriptedServer]:
        async with self._send, self._jobs, anyio.create_task_group() as self._tasks:
            yield self
            self._tasks.cancel_scope.cancel()

    async def run(self, job: pbd.AcquiredJob) -> Outcome:
        """Hand out a job, and wait for what comes of it."""
        job.job_id = job.job_id or str(uuid4())
        job.provisioner = "terraform"
        await self._send.send(job)
        return await self.outcome(job.job_id)

    async def submit(self, job: pbd.AcquiredJob) -> str:
        """Hand out a job."""
        job.job_id = str(uuid4())
        await self._send.send(job)
        return job.job_id

    async def outcome(self, job_id: str) -> Outcome:
        """Wait for what comes of a job."""
        while job_id not in self._outcomes:
            await self._changed.wait()
        return self._outcomes[job_id]

    async def logged(self, words: str) -> None:
        """Wait until a line with these words is in the log."""
        while words not in self.text():
            await self._changed.wait()

    def lines(self) -> list[pbd.Log]:
        return [line for update in self.updates for line in update.logs]

    def text(self) -> str:
        return "\n".join(f"[{line.stage}] {line.output}" for line in self.lines())

    async def _serve(self, stream: ByteStream) -> None:
        with anyio.CancelScope() as scope:
            self._scopes.append(scope)
            await self._answer(stream)

    async def _answer(self, stream: ByteStream) -> None:
        async with Multiplexer(stream, client=False) as mux:
            await drpc.serve(
                mux,
                {
                    ProvisionerDaemonAPI.AcquireJobWithCancel: self._acquire,
                    ProvisionerDaemonAPI.UpdateJob: self._update,
                    ProvisionerDaemonAPI.CommitQuota: self._quota,
                    ProvisionerDaemonAPI.CompleteJob: self._finish,
                    ProvisionerDaemonAPI.FailJob: self._finish,
                    ProvisionerDaemonAPI.UploadFile: self._upload,
                    ProvisionerDaemonAPI.DownloadFile: self._download,
                },
            )

    async def _acquire(self, call: drpc.Call[pbd.AcquiredJob, pbd.CancelAcquire]) -> None:
        async with anyio.create_task_group() as tasks:

            async def give_up() -> None:
                try:
                    await call.receive()
                except anyio.EndOfStream:
                    return
                tasks.cancel_scope.cancel()

            tasks.start_soon(give_up)
            job = await self._jobs.receive()
            await call.send(job)
            tasks.cancel_scope.cancel()
            return
        await call.send(pbd.AcquiredJob())

    async def _update(self, request: pbd.UpdateJobRequest) -> pbd.UpdateJobResponse:
        if self.refusal is not None:
            raise self.refusal
        self.updates.append(request)
        self._notify()
        values = [
            pb.VariableValue(name=item.name, value=self.variables.get(item.name, item.default_value))
            for item in request.template_variables
        ]
        return pbd.UpdateJobResponse(canceled=request.job_id in self.canceled, variable_values=values)

    async def _quota(self, request: pbd.CommitQuotaRequest) -> pbd.CommitQuotaResponse:
        ok = self.budget < 0 or request.daily_cost <= self.budget
        return pbd.CommitQuotaResponse(ok=ok, credits_consumed=request.daily_cost, budget=self.budget)

    async def _upload(self, call: drpc.Call[pbd.Empty, pbd.UploadFileRequest]) -> pbd.Empty:
        assembly = uploads.Assembly((await call.receive()).data_upload)
        while not assembly.complete:
            assembly.add((await call.receive()).chunk_piece)
        data = assembly.data()
        self.files[hashlib.sha256(data).hexdigest()] = data
        return pbd.Empty()

    async def _download(self, call: drpc.Call[pb.FileUpload, pbd.FileRequest]) -> None:
        wanted = (await call.receive()).file_id
        if wanted not in self.files:
            await call.send(pb.FileUpload(error=pb.FailedFile(error=f"file {wanted} is not a modules file")))
            return
        for message in uploads.messages(self.files[wanted]):
            await call.send(pb.FileUpload.FromString(message.SerializeToString()))

    async def _finish(self, outcome: Outcome) -> pbd.Empty:
        self._outcomes[outcome.job_id] = outcome
        self._notify()
        return pbd.Empty()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()


def config(folder: Path, **more: str) -> ProvisionerConfig:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("TF_", "CODER_"))}
    return ProvisionerConfig(Cache(folder), {**environment, **more}, exit_seconds=5)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncGenerator[ScriptedServer]:
    """Have a server with one daemon."""
    async with ScriptedServer().running() as running, anyio.create_task_group() as tasks:
        settings = DaemonConfig("test", config(tmp_path / "cache"), heartbeat_seconds=0.2)
        daemon = ProvisionerDaemon(settings, running.connect, SystemClock())
        tasks.start_soon(daemon.run)
        yield running
        daemon.stop(cancel_job=True)


def build(
    source: bytes, state: bytes = b"", transition: pb.WorkspaceTransition = pb.START, **parameters: str
) -> pbd.AcquiredJob:
    """Make a build job."""
    return pbd.AcquiredJob(
        template_source_archive=source,
        user_name="ann",
        workspace_build=pbd.AcquiredJob.WorkspaceBuild(
            workspace_build_id=str(uuid4()),
            workspace_name="dev",
            state=state,
            rich_parameter_values=[pb.RichParameterValue(name=name, value=value) for name, value in parameters.items()],
            metadata=pb.Metadata(
                coder_url="http://127.0.0.1:3999",
                workspace_transition=transition,
                workspace_id=WORKSPACE_ID,
                workspace_name="dev",
                workspace_owner="ann",
                workspace_owner_id="22222222-2222-2222-2222-222222222222",
                workspace_owner_email="ann@example.com",
                workspace_owner_session_token="hush",
                template_id="33333333-3333-3333-3333-333333333333",
                template_name="t",
                template_version="v1",
            ),
        ),
    )


def template_import(source: bytes) -> pbd.AcquiredJob:
    """Make an import job."""
    return pbd.AcquiredJob(
        template_source_archive=source,
        template_import=pbd.AcquiredJob.TemplateImport(metadata=pb.Metadata(coder_url="http://127.0.0.1:3999")),
    )
