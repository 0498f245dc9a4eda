"""A provisioner daemon that speaks the real protocol and does what a test tells it instead of running Terraform."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from uuid import uuid4

import anyio

from warren.rpc import drpc
from warren.rpc._pb import provisioner_pb2 as pb
from warren.rpc._pb import provisionerd_pb2 as pbd
from warren.rpc.memory import stream_pair
from warren.rpc.methods import ProvisionerDaemonAPI
from warren.rpc.multiplexer import Multiplexer
from warren.services.provisionerd import ProvisionerDaemons
from warren.storage.provisioner_daemons import Daemon


def agent(*, name: str = "main", apps: Sequence[pb.App] = (), token: str = "") -> pb.Agent:
    """Describe an agent as a provisioner reports it."""
    return pb.Agent(
        id=str(uuid4()),
        name=name,
        operating_system="linux",
        architecture="amd64",
        directory="/home/dev",
        env={"A": "1"},
        token=token,
        connection_timeout_seconds=120,
        display_apps=pb.DisplayApps(vscode=True, web_terminal=True),
        apps=apps,
        scripts=[pb.Script(display_name="Hello", script="echo hi", run_on_start=True)],
        metadata=[pb.Agent.Metadata(key="load", display_name="Load", script="uptime", interval=10, timeout=1)],
    )


def resource(*agents: pb.Agent, name: str = "dev", kind: str = "terraform_data") -> pb.Resource:
    """Describe a resource as a provisioner reports it."""
    return pb.Resource(name=name, type=kind, agents=agents, metadata=[pb.Resource.Metadata(key="size", value="10 GiB")])


class ScriptedDaemon:
    """The client's side of the protocol, call by call."""

    def __init__(self, client: drpc.Client) -> None:
        self.client = client

    async def acquire(self) -> pbd.AcquiredJob:
        """Wait for a job."""
        with anyio.fail_after(20):
            async with self.client.stream(ProvisionerDaemonAPI.AcquireJobWithCancel) as call:
                return await call.receive()

    async def update(self, job_id: str, **fields: object) -> pbd.UpdateJobResponse:
        """Report on a job."""
        # The fields are those of the message, which checks them.
        request = pbd.UpdateJobRequest(job_id=job_id, **fields)  # pyright: ignore[reportArgumentType]
        return await self.client.unary(ProvisionerDaemonAPI.UpdateJob, request)

    async def log(self, job_id: str, *outputs: str, stage: str = "Planning Infrastructure") -> None:
        """Write lines to a job's log."""
        lines = [
            pbd.Log(source=pbd.LogSource.PROVISIONER, level=pb.LogLevel.INFO, stage=stage, output=output)
            for output in outputs
        ]
        await self.update(job_id, logs=lines)

    async def complete(self, request: pbd.CompletedJob) -> None:
        """Report success."""
        await self.client.unary(ProvisionerDaemonAPI.CompleteJob, request)

    async def fail(self, request: pbd.FailedJob) -> None:
        """Report failure."""
        await self.client.unary(ProvisionerDaemonAPI.FailJob, request)

    async def import_version(
        self,
        *,
        parameters: Sequence[pb.RichParameter] = (),
        variables: Sequence[pb.TemplateVariable] = (),
        presets: Sequence[pb.Preset] = (),
        resources: Sequence[pb.Resource] | None = None,
    ) -> pbd.AcquiredJob:
        """Take an import job and succeed with it."""
        job = await self.acquire()
        await self.update(job.job_id, template_variables=variables, readme=b"# Read me\n")
        found = [resource(agent())] if resources is None else resources
        result = pbd.CompletedJob.TemplateImport(
            start_resources=found, stop_resources=found, rich_parameters=parameters, presets=presets, plan=b"{}"
        )
        await self.complete(pbd.CompletedJob(job_id=job.job_id, template_import=result))
        return job

    async def build(
        self, *, state: bytes = b'{"version": 4}', resources: Sequence[pb.Resource] | None = None
    ) -> pbd.AcquiredJob:
        """Take a build job and succeed with it."""
        job = await self.acquire()
        found = [resource(agent())] if resources is None else resources
        result = pbd.CompletedJob.WorkspaceBuild(state=state, resources=found)
        await self.complete(pbd.CompletedJob(job_id=job.job_id, workspace_build=result))
        return job


@asynccontextmanager
async def connected(service: ProvisionerDaemons, daemon: Daemon) -> AsyncGenerator[ScriptedDaemon]:
    """Connect a daemon to the server in process."""
    ours, theirs = await stream_pair()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(service.serve, theirs, daemon)
        async with Multiplexer(ours, client=True) as mux:
            yield ScriptedDaemon(drpc.Client(mux))
        tasks.cancel_scope.cancel()
