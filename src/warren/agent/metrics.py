"""What Prometheus can read of an agent."""

from __future__ import annotations

from collections.abc import Iterable

from warren.agent.connections import Connections, ConnectionType
from warren.agent.lifecycle import Lifecycle, LifecycleState
from warren.agent.stats import Traffic


def exposition(connections: Connections, lifecycle: Lifecycle, traffic: Traffic | None) -> str:
    """Write all metrics in Prometheus' text form."""
    lines = [
        *_metric(
            "warren_agent_sessions",
            "gauge",
            "Sessions that are open.",
            [(f'type="{kind.value}"', connections.count(kind)) for kind in ConnectionType],
        ),
        *_metric(
            "warren_agent_lifecycle_state",
            "gauge",
            "1 for the state that the agent is in.",
            [(f'state="{state.name.lower()}"', int(lifecycle.state is state)) for state in LifecycleState],
        ),
    ]
    if traffic is not None:
        received = [('direction="received"', traffic.rx_bytes), ('direction="sent"', traffic.tx_bytes)]
        packets = [('direction="received"', traffic.rx_packets), ('direction="sent"', traffic.tx_packets)]
        flows = [(f'protocol="{name}"', count) for name, count in sorted(traffic.flows_by_protocol.items())]
        lines += _metric("warren_agent_tunnel_bytes_total", "counter", "Bytes inside the tunnel.", received)
        lines += _metric("warren_agent_tunnel_packets_total", "counter", "Packets inside the tunnel.", packets)
        lines += _metric("warren_agent_tunnel_flows", "gauge", "Connections inside the tunnel.", flows)
    return "\n".join(lines) + "\n"


def _metric(name: str, kind: str, text: str, samples: Iterable[tuple[str, int]]) -> list[str]:
    head = [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
    return head + [f"{name}{{{labels}}} {value}" for labels, value in samples]
