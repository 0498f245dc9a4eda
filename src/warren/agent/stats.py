"""What an agent tells about the use of its workspace."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from warren.agent.connections import ConnectionType

NO_LATENCY_MS = -0.001
"""What "no samples" looks like to clients."""


class Traffic(Protocol):
    """Counters of the network since its start, as the engine keeps them."""

    @property
    def rx_bytes(self) -> int:
        """Bytes received."""
        ...

    @property
    def tx_bytes(self) -> int:
        """Bytes sent."""
        ...

    @property
    def rx_packets(self) -> int:
        """Packets received."""
        ...

    @property
    def tx_packets(self) -> int:
        """Packets sent."""
        ...

    @property
    def flows_by_protocol(self) -> Mapping[str, int]:
        """Open flows by protocol."""
        ...


@dataclass(frozen=True, slots=True)
class StatsReport:
    """One report: traffic since the last one, sessions of the moment."""

    connections_by_protocol: Mapping[str, int]
    connections: int
    median_latency_ms: float
    rx_packets: int
    rx_bytes: int
    tx_packets: int
    tx_bytes: int
    sessions: Mapping[ConnectionType, int]


class StatsCounter:
    """Makes reports out of counters that only grow."""

    def __init__(self) -> None:
        self._last = (0, 0, 0, 0)

    def report(
        self, traffic: Traffic, latencies_seconds: Sequence[float], sessions: Mapping[ConnectionType, int]
    ) -> StatsReport:
        """Make the next report."""
        totals = (traffic.rx_packets, traffic.rx_bytes, traffic.tx_packets, traffic.tx_bytes)
        deltas = [max(0, now - before) for now, before in zip(totals, self._last, strict=True)]
        self._last = totals
        flows = dict(traffic.flows_by_protocol)
        return StatsReport(
            connections_by_protocol=flows,
            connections=sum(flows.values()),
            median_latency_ms=statistics.median(latencies_seconds) * 1000 if latencies_seconds else NO_LATENCY_MS,
            rx_packets=deltas[0],
            rx_bytes=deltas[1],
            tx_packets=deltas[2],
            tx_bytes=deltas[3],
            sessions=sessions,
        )
