"""Metrics of users, workspaces, agents and builds, read from the database when Prometheus comes.

Every server of a deployment tells the same figures, since they come from one database: take `max`, not `sum`, of them.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import anyio
import structlog
from prometheus_client import Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric

from warren.clock import Clock
from warren.domain.agent import INACTIVE_AFTER
from warren.metrics import Metrics
from warren.storage import fleet
from warren.storage.db import Database

log = structlog.get_logger()

FRESH_SECONDS = 10.0
"""How long figures are told again before they are read again, however often Prometheus comes."""
OVERLAP = timedelta(minutes=1)
"""How much longer than its job's end a transaction may take to be seen."""
STATS_WINDOW = timedelta(minutes=10)
"""Agents report every half minute, those without connections more seldom."""
_BUILD_LABELS = (
    *("status", "template_name", "template_version", "workspace_name", "workspace_owner"),
    "workspace_transition",
)
_LATEST_LABELS = ("status", "template_name", "template_version", "workspace_owner", "workspace_transition")
_UP_LABELS = ("username", "workspace_name", "template_name", "template_version")
_CONNECTION_LABELS = ("agent_name", "username", "workspace_name", "status", "lifecycle_state", "tailnet_node")
_APP_LABELS = ("agent_name", "username", "workspace_name", "app_name", "health")
_JOB_SECONDS = (1, 10, 30, 60, 300, 600, 1800, 3600)


@dataclass(frozen=True, slots=True)
class _Snapshot:
    counts: fleet.Counts
    builds: Sequence[fleet.LatestBuilds]
    running: Sequence[tuple[str, int]]
    agents: Sequence[fleet.AgentLine]
    stats: Sequence[fleet.AgentStats]


class FleetMetrics:
    """All metrics of a server, with those of the database as new as `FRESH_SECONDS`."""

    def __init__(
        self, metrics: Metrics, database: Database, clock: Clock, *, agent_labels: Sequence[str] | None
    ) -> None:
        self._metrics = metrics
        self._database = database
        self._clock = clock
        self._agent_labels = agent_labels
        self._lock = anyio.Lock()
        self._read_at: float | None = None
        self._snapshot: _Snapshot | None = None
        self._finished_since = clock.now()
        self._started = self._finished_since
        self._seen: dict[UUID, datetime] = {}
        self._builds = Counter("coderd_workspace_builds", "Finished builds.", _BUILD_LABELS, registry=metrics.registry)
        self._timings = Histogram(
            "coderd_provisionerd_job_timings_seconds",
            "How long jobs took.",
            ("provisioner", "status"),
            buckets=_JOB_SECONDS,
            registry=metrics.registry,
        )
        metrics.registry.register(self)

    async def text(self) -> bytes:
        """Write all metrics; those of the database are left out while it is away."""
        async with self._lock:
            now = self._clock.monotonic()
            if self._read_at is None or now - self._read_at >= FRESH_SECONDS:
                try:
                    self._snapshot = await self._read()
                except Exception as error:
                    self._snapshot = None
                    log.warning("metrics.failed", error=str(error) or repr(error))
                self._read_at = now
        return self._metrics.text()

    async def _read(self) -> _Snapshot:
        now = self._clock.now()
        async with self._database.connection() as db:
            finished = await fleet.finished_jobs(db, max(self._started, self._finished_since - OVERLAP))
            snapshot = _Snapshot(
                await fleet.count(db, now),
                await fleet.latest_builds(db),
                await fleet.running_jobs(db),
                await fleet.agent_lines(db, now - INACTIVE_AFTER, now),
                [] if self._agent_labels is None else await fleet.agent_stats(db, now - STATS_WINDOW),
            )
        self._count_finished(finished, now)
        return snapshot

    def _count_finished(self, finished: Iterable[fleet.FinishedJob], now: datetime) -> None:
        for job in finished:
            if job.id in self._seen:
                continue
            self._seen[job.id] = job.completed_at
            self._timings.labels(job.provisioner, _outcome(job.status)).observe(job.seconds)
            if job.workspace_name:
                values = {name: getattr(job, name) for name in _BUILD_LABELS}
                self._builds.labels(**{**values, "status": _outcome(job.status)}).inc()
        self._finished_since = now
        self._seen = {job: at for job, at in self._seen.items() if at >= now - 2 * OVERLAP}

    def describe(self) -> Sequence[Metric]:
        """Promise no names: registering must not read anything."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Give the figures that were read last."""
        if (found := self._snapshot) is None:
            return
        yield from _of_counts(found.counts)
        yield from _of_builds(found.builds)
        running = GaugeMetricFamily("coderd_provisionerd_jobs_current", "Running jobs.", labels=["provisioner"])
        for provisioner, count in found.running:
            running.add_metric([provisioner], count)
        yield running
        yield from _of_agents(found.agents)
        if self._agent_labels is not None:
            yield from _of_stats(found.stats, self._agent_labels)


def _outcome(status: str) -> str:
    return "success" if status == "succeeded" else status


def _of_counts(counts: fleet.Counts) -> Iterator[Metric]:
    users = GaugeMetricFamily("coderd_api_total_user_count", "Users by status.", labels=["status"])
    users.add_metric(["active"], counts.active_users)
    users.add_metric(["dormant"], counts.dormant_users)
    users.add_metric(["suspended"], counts.suspended_users)
    yield users
    recent = counts.recent_users
    yield GaugeMetricFamily("coderd_api_active_users_duration_hour", "Users seen in the last hour.", value=recent)
    yield GaugeMetricFamily("coderd_provisionerd_num_daemons", "Provisioner daemons.", value=counts.daemons)


def _of_builds(builds: Sequence[fleet.LatestBuilds]) -> Iterator[Metric]:
    by_status = GaugeMetricFamily(
        "coderd_api_workspace_latest_build", "Workspaces by the status of their latest build.", labels=["status"]
    )
    tally: Tally[str] = Tally()
    for line in builds:
        tally[line.status] += line.count
    for status, count in sorted(tally.items()):
        by_status.add_metric([status], count)
    yield by_status
    current = GaugeMetricFamily(
        "coderd_workspace_latest_build_status", "Workspaces by what their latest build is.", labels=_LATEST_LABELS
    )
    for line in builds:
        current.add_metric([getattr(line, name) for name in _LATEST_LABELS], line.count)
    yield current


def _of_agents(agents: Sequence[fleet.AgentLine]) -> Iterator[Metric]:
    up = GaugeMetricFamily("coderd_agents_up", "Agents of workspaces.", labels=_UP_LABELS)
    connections = GaugeMetricFamily("coderd_agents_connections", "How agents are.", labels=_CONNECTION_LABELS)
    apps = GaugeMetricFamily("coderd_agents_apps", "Apps of agents, by health.", labels=_APP_LABELS)
    tally = Tally(tuple[str, ...](getattr(agent, name) for name in _UP_LABELS) for agent in agents)
    for values, count in tally.items():
        up.add_metric(values, count)
    # Two agents of one name cannot be told apart by these labels, nor two apps of one name: they are counted.
    of_agents = Tally((a.agent_name, a.username, a.workspace_name, a.status, a.lifecycle, "") for a in agents)
    for values, count in of_agents.items():
        connections.add_metric(values, count)
    of_apps = Tally(
        (a.agent_name, a.username, a.workspace_name, slug, health) for a in agents for slug, health in a.apps
    )
    for values, count in of_apps.items():
        apps.add_metric(values, count)
    yield from (up, connections, apps)


def _of_stats(stats: Sequence[fleet.AgentStats], labels: Sequence[str]) -> Iterator[Metric]:
    """Sum the reports up by the labels that the operator wants; of latencies the worst is told."""
    groups: dict[tuple[str, ...], list[fleet.AgentStats]] = {}
    for line in stats:
        groups.setdefault(tuple(str(getattr(line, name)) for name in labels), []).append(line)
    sums = (
        ("connection_count", "Open connections.", "connection_count"),
        ("rx_bytes", "Bytes received in the last minutes.", "rx_bytes"),
        ("tx_bytes", "Bytes sent in the last minutes.", "tx_bytes"),
        ("session_count_ssh", "SSH sessions.", "ssh"),
        ("session_count_vscode", "Sessions of VS Code.", "vscode"),
        ("session_count_jetbrains", "Sessions of JetBrains.", "jetbrains"),
        ("session_count_reconnecting_pty", "Web terminals.", "reconnecting_pty"),
    )
    for name, text, attribute in sums:
        family = GaugeMetricFamily(f"coderd_agentstats_{name}", text, labels=labels)
        for values, lines in groups.items():
            family.add_metric(values, sum(getattr(line, attribute) for line in lines))
        yield family
    latency = GaugeMetricFamily(
        "coderd_agentstats_connection_median_latency_seconds", "Median latency of connections.", labels=labels
    )
    for values, lines in groups.items():
        known = [line.median_latency_seconds for line in lines if line.median_latency_seconds is not None]
        if known:
            latency.add_metric(values, max(known))
    yield latency
