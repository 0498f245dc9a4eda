"""Metrics for Prometheus, under upstream's names where they mean the same."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

if TYPE_CHECKING:
    from warren._engine import RelayStats
    from warren.domain.relay_health import RelayHealth

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_LATENCIES = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1, 5, 10, 30)
_RELAY_GAUGES = ("clients", "connections", "home_connections")
_RELAY_COUNTERS = (
    "accepts",
    "bytes_received",
    "bytes_sent",
    "packets_received",
    "packets_sent",
    "packets_dropped",
    "got_ping",
    "sent_pong",
    "home_moves_in",
    "home_moves_out",
    "peer_gone_disconnected",
    "peer_gone_not_here",
    "unknown_frames",
)


class Metrics:
    """Every metric of one server."""

    def __init__(self, version: str) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._requests = Counter(
            "coderd_api_requests_processed", "Finished requests.", ["code", "method", "path"], registry=self.registry
        )
        self._latencies = Histogram(
            "coderd_api_request_latencies_seconds",
            "How long requests took.",
            ["method", "path"],
            buckets=_LATENCIES,
            registry=self.registry,
        )
        self._websockets = Histogram(
            "coderd_api_websocket_durations_seconds",
            "How long sockets were open.",
            ["path"],
            buckets=(0.001, 1, 60, 3600, 900 * 60, 24 * 3600),
            registry=self.registry,
        )
        Gauge("coderd_build_info", "The release.", ["version"], registry=self.registry).labels(version).set(1)

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count an answered request; `route` is the pattern, so that there are only so many."""
        if method == "WS":
            self._websockets.labels(route).observe(seconds)
            return
        self._requests.labels(str(status), method, route).inc()
        self._latencies.labels(method, route).observe(seconds)

    def watch_relay(self, stats: Callable[[], RelayStats]) -> None:
        """Export what the relay counts."""
        self.registry.register(_RelayCollector(stats))

    def watch_relay_health(self, watched: WatchedRelay) -> None:
        """Export what probes of the relay find."""
        self.registry.register(_RelayHealthCollector(watched))

    def text(self) -> bytes:
        """Write all metrics."""
        return generate_latest(self.registry)


class WatchedRelay(Protocol):
    """A relay that is probed."""

    health: RelayHealth
    seconds: Mapping[str, float]


class _RelayHealthCollector:
    """Tells what the last probe of the relay found."""

    def __init__(self, watched: WatchedRelay) -> None:
        self._watched = watched

    def collect(self) -> Iterator[Metric]:
        """Give the gauges."""
        health = self._watched.health
        healthy = "Whether the server's last probe through its access URL came back."
        yield GaugeMetricFamily("warren_relay_healthy", healthy, value=not health.error)
        yield GaugeMetricFamily("warren_relay_in_map", "Whether clients are told of the relay.", value=health.listed)
        seconds = GaugeMetricFamily(
            "warren_relay_probe_seconds", "How long the last probe took from connecting.", labels=["transport"]
        )
        for transport in ("native", "websocket"):
            seconds.add_metric([transport], self._watched.seconds.get(transport, math.nan))
        yield seconds


class _RelayCollector:
    """Asks the relay for its counters when Prometheus comes."""

    def __init__(self, stats: Callable[[], RelayStats]) -> None:
        self._stats = stats

    def collect(self) -> Iterator[Metric]:
        """Give the counters."""
        found = self._stats()
        for name in _RELAY_GAUGES:
            yield GaugeMetricFamily(f"coder_derp_server_{name}", "Of the relay.", value=getattr(found, name))
        for name in _RELAY_COUNTERS:
            yield CounterMetricFamily(f"coder_derp_server_{name}", "Of the relay.", value=getattr(found, name))
        # Replicas do not relay for each other: all clients are local, none watches, nothing is forwarded.
        yield GaugeMetricFamily("coder_derp_server_clients_local", "Of the relay.", value=found.clients)
        for name in ("clients_remote", "watchers"):
            yield GaugeMetricFamily(f"coder_derp_server_{name}", "Of the relay.", value=0)
        for name in ("packets_forwarded_in", "packets_forwarded_out"):
            yield CounterMetricFamily(f"coder_derp_server_{name}", "Of the relay.", value=0)
        yield GaugeMetricFamily(
            "coder_derp_server_average_queue_duration_ms",
            "How long packets that had to wait for their receiver waited.",
            value=found.average_queue_seconds * 1000,
        )
        yield _labelled("packets_dropped_reason", "Dropped packets by reason.", "reason", found.dropped_by_reason)
        yield _labelled("packets_dropped_type", "Dropped packets by kind.", "type", found.dropped_by_kind)
        yield _labelled("packets_received_kind", "Received packets by kind.", "kind", found.received_by_kind)


def _labelled(name: str, text: str, label: str, counts: Mapping[str, int]) -> CounterMetricFamily:
    family = CounterMetricFamily(f"coder_derp_server_{name}", text, labels=[label])
    for value, count in counts.items():
        family.add_metric([value], count)
    return family
