"""The life of a workspace agent: connect, learn what to do, do it, report, and connect again for ever.

What users hold on to (sessions, terminals, the node, scripts) lives beside the connection to the control plane, never
inside it: a server that goes away and comes back is not noticed by anybody.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING

import anyio
import structlog
from anyio.abc import TaskGroup, TaskStatus

from warren import __version__, retry
from warren.agent import reports, secrets
from warren.agent.api import Facts
from warren.agent.children import Children
from warren.agent.commands import CommandFactory
from warren.agent.config import AgentConfig
from warren.agent.control import ControlPlane
from warren.agent.lifecycle import LifecycleState
from warren.agent.manifest import Manifest
from warren.agent.metrics import exposition
from warren.agent.scripts import Folders, ScriptRunner, ScriptStatus, Stage
from warren.agent.services import Services
from warren.agent.state import AgentState
from warren.agent.system import Processes, System
from warren.clock import Clock
from warren.errors import Unavailable, WarrenError
from warren.rpc import websocket
from warren.rpc.drpc import Client
from warren.rpc.multiplexer import Multiplexer

if TYPE_CHECKING:
    from warren.agent.network import Network

log = structlog.get_logger()

API_VERSION = "2.10"
BACKOFF = retry.Backoff(initial_seconds=0.1, longest_seconds=10.0)
SESSIONS_CLOSE_SECONDS = 5.0
LAST_REPORTS_SECONDS = 5.0
_AFTER_START = {
    ScriptStatus.OK: LifecycleState.READY,
    ScriptStatus.TIMED_OUT: LifecycleState.START_TIMEOUT,
}
_AFTER_STOP = {
    ScriptStatus.OK: LifecycleState.OFF,
    ScriptStatus.TIMED_OUT: LifecycleState.SHUTDOWN_TIMEOUT,
}


class Agent:
    """One agent. `run` it once."""

    def __init__(
        self,
        config: AgentConfig,
        *,
        system: System,
        processes: Processes,
        commands: CommandFactory,
        folders: Folders,
        clock: Clock,
        tls: ssl.SSLContext | None,
    ) -> None:
        self._config, self._system, self._processes = config, system, processes
        self._commands, self._folders, self._clock, self._tls = commands, folders, clock, tls
        self.facts = Facts(system, config.log_folder)
        self._scripts: ScriptRunner | None = None
        self._network: Network | None = None
        self._network_failed = anyio.Event()
        self._connected = False

    async def run(self, stop: anyio.Event) -> None:
        """Serve until `stop` is set, then shut down in order: sessions, stop scripts, last reports."""
        async with Children.open(self._processes) as children, anyio.create_task_group() as lasting:
            self._state = AgentState(system=self._system, commands=self._commands, children=children, clock=self._clock)
            self._lasting = lasting
            self.facts.metrics = self._metrics
            self._services = Services(
                self._state, self._config, self.facts, private_folder=self._folders.private, tasks=lasting
            )
            async with anyio.create_task_group() as connecting:
                connecting.start_soon(self._stay_connected)
                await stop.wait()
                await self._shut_down()
                connecting.cancel_scope.cancel()
            lasting.cancel_scope.cancel()

    async def _stay_connected(self) -> None:
        await retry.forever(self.hold_connection, on=(WarrenError, OSError), backoff=BACKOFF)

    async def hold_connection(self) -> None:
        """Connect and serve until the connection ends, which raises."""
        url = f"{self._config.rpc_url}?version={API_VERSION}&role=agent"
        headers = {**self._config.headers, "Coder-Session-Token": self._config.token}
        try:
            async with (
                websocket.connect(url, headers=headers, tls=self._tls) as stream,
                Multiplexer(stream, client=True) as mux,
            ):
                log.info("control.connected", url=self._config.url)
                await self._serve(ControlPlane(Client(mux)), mux)
        except ExceptionGroup as group:
            raise _cause(group) from group
        except (WarrenError, OSError):
            raise
        except Exception as error:  # the top of a serving loop: a bug must not end the agent
            log.exception("control.failed")
            raise Unavailable(f"the connection to the control plane failed: {error!r}") from error
        finally:
            self._connected = False

    async def _serve(self, control: ControlPlane, mux: Multiplexer) -> None:
        state = self._state
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_raise_when_set, mux.closed, "the connection to the control plane ended")
            for routine in (
                reports.refresh_banners,
                reports.report_resources,
                reports.send_logs,
                reports.report_lifecycle,
                reports.report_connections,
                reports.report_scripts,
            ):
                tasks.start_soon(routine, state, control)
            manifest = await control.manifest()
            self._connected = True
            await self._use(manifest, control, tasks)

    async def _use(self, manifest: Manifest, control: ControlPlane, tasks: TaskGroup) -> None:
        state = self._state
        self.facts.manifest = manifest
        directory = self._commands.use(manifest)
        startup = partial(control.report_startup, f"v{__version__}", directory, self._config.subsystems)
        tasks.start_soon(startup)
        secrets.write_files(manifest.secrets, self._system.home())
        if self._scripts is None:
            self._begin(manifest)
        if manifest.metadata:
            tasks.start_soon(state.metadata.run, manifest.metadata)
            tasks.start_soon(reports.report_metadata, state, control)
        if any(app.checked for app in manifest.apps):
            tasks.start_soon(state.apps.run, manifest.apps)
            tasks.start_soon(reports.report_healths, state, control)
        network = await self._join_network(manifest)
        tasks.start_soon(_raise_when_set, self._network_failed, "the network failed")
        tasks.start_soon(network.coordinate, control.client)
        tasks.start_soon(reports.report_stats, control, network.measure)

    def _begin(self, manifest: Manifest) -> None:
        """Do what is done once, with the first manifest. A bad script ends this connection; the next one goes on."""
        state = self._state
        state.lifecycle.enter(LifecycleState.STARTING)
        self._scripts = ScriptRunner(
            manifest.scripts,
            commands=self._commands,
            children=state.children,
            folders=self._folders,
            home=self._system.home(),
            write_lines=state.write_lines,
            report=state.report_run,
            clock=self._clock,
        )
        self._scripts.prepare()
        self._lasting.start_soon(self._run_scripts, self._scripts)

    async def _run_scripts(self, scripts: ScriptRunner) -> None:
        status = await scripts.run_stage(Stage.START)
        self._state.lifecycle.enter(_AFTER_START.get(status, LifecycleState.START_ERROR))
        self._state.logs.flush()
        await scripts.run_by_the_clock()

    async def _join_network(self, manifest: Manifest) -> Network:
        if self._network is not None:
            self._network.use(manifest)
            return self._network
        network: Network = await self._lasting.start(self._run_network, manifest)
        return network

    async def _run_network(self, manifest: Manifest, *, task_status: TaskStatus[Network]) -> None:
        """Be in the network; when it fails the connection ends too, and the next one joins anew."""
        try:
            await self._stay_in_network(manifest, task_status)
        except Exception:
            if self._network is None:  # whoever waits for the start is told
                raise
            log.exception("network.failed")
            self._network = None
            self._network_failed.set()

    async def _stay_in_network(self, manifest: Manifest, task_status: TaskStatus[Network]) -> None:
        from warren.agent.network import Network

        self._network_failed = anyio.Event()
        async with Network.open(
            manifest,
            self._config,
            self._services.by_port(),
            connections=self._state.connections,
            clock=self._clock,
        ) as network:
            self._network = network
            self.facts.network_text = network.describe
            self.facts.netcheck = network.netcheck
            self.facts.network_report = network.report
            self._services.prepare(manifest)
            task_status.started(network)
            await anyio.sleep_forever()

    def _metrics(self) -> str:
        traffic = None if self._network is None else self._network.node.engine.stats()
        return exposition(self._state.connections, self._state.lifecycle, traffic)

    async def _shut_down(self) -> None:
        state = self._state
        log.info("agent.stopping")
        state.lifecycle.enter(LifecycleState.SHUTTING_DOWN)
        with anyio.move_on_after(SESSIONS_CLOSE_SECONDS):
            await self._services.close_sessions()
        status = await self._scripts.run_stage(Stage.STOP) if self._scripts is not None else ScriptStatus.OK
        state.lifecycle.enter(_AFTER_STOP.get(status, LifecycleState.SHUTDOWN_ERROR))
        state.logs.flush()
        with anyio.move_on_after(LAST_REPORTS_SECONDS if self._connected else 0):
            await state.lifecycle.wait_reported()
            while not state.logs.empty or state.connections.reports or state.script_runs:  # noqa: ASYNC110 - pure queues, a few seconds
                await anyio.sleep(reports.LOG_TICK_SECONDS / 5)
        log.info("agent.stopped")


async def _raise_when_set(event: anyio.Event, reason: str) -> None:
    await event.wait()
    raise Unavailable(reason)


def _cause(group: ExceptionGroup[Exception]) -> WarrenError:
    """Return the error that ended a connection; a bug among them is logged, and survived like a lost connection."""
    leaves = list(_leaves(group))
    known = [leaf for leaf in leaves if isinstance(leaf, WarrenError)]
    expected = (WarrenError, OSError, EOFError, anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream)
    bugs = [leaf for leaf in leaves if not isinstance(leaf, expected)]
    for bug in bugs:
        log.error("control.failed", error=repr(bug), exc_info=bug)
    if known and not bugs:
        return known[0]
    return Unavailable(f"the connection to the control plane failed: {leaves[0]!r}")


def _leaves(group: ExceptionGroup[Exception]) -> Iterable[Exception]:
    for error in group.exceptions:
        if isinstance(error, ExceptionGroup):
            # isinstance forgets what the group is of
            yield from _leaves(error)  # pyright: ignore[reportUnknownArgumentType]
        else:
            yield error
