"""What a relay counts, under the names that Prometheus reads."""

from __future__ import annotations

from tests.integration.relay.conftest import Connect
from warren._engine import Relay
from warren.metrics import Metrics
from warren.net import derp

DISCO = b"TS\xf0\x9f\x92\xac" + bytes(56)
NOBODY = bytes(32)


def test_packets_are_told_apart_by_kind(relay: Relay, connect: Connect) -> None:
    left, right = connect(), connect()
    left.send(derp.SendPacket(right.key, b"data"), derp.SendPacket(right.key, DISCO), derp.SendPacket(NOBODY, DISCO))
    left.sync()

    stats = relay.stats()
    assert stats.received_by_kind == {"disco": 2, "other": 1}
    assert stats.dropped_by_kind == {"disco": 1, "other": 0}


def test_homes_are_a_gauge(relay: Relay, connect: Connect) -> None:
    left, right = connect(), connect()
    for client in (left, right):
        client.send(derp.NotePreferred(home=True))
        client.sync()
    assert relay.stats().home_connections == 2

    right.send(derp.NotePreferred(home=False))
    right.sync()
    assert relay.stats().home_connections == 1
    left.sock.close()
    while relay.stats().connections > 1:
        right.sync()  # at most the time the relay takes to see a closed socket
    assert relay.stats().home_connections == 0


def test_what_waited_for_a_slow_reader_shows_in_the_average(relay: Relay, connect: Connect) -> None:
    sender, slow = connect(), connect()
    assert relay.stats().average_queue_seconds == 0
    sender.send(*[derp.SendPacket(slow.key, bytes(1200))] * 600)
    sender.sync()
    for _ in range(600):
        slow.expect(derp.RecvPacket)

    assert relay.stats().average_queue_seconds > 0


def test_every_metric_that_dashboards_know_is_there(relay: Relay) -> None:
    metrics = Metrics("test")
    metrics.watch_relay(relay.stats)
    text = metrics.text().decode()

    gauges = [
        "clients",
        "clients_local",
        "clients_remote",
        "connections",
        "home_connections",
        "watchers",
        "average_queue_duration_ms",
    ]
    counters = [
        "accepts",
        "bytes_received",
        "bytes_sent",
        "packets_received",
        "packets_sent",
        "packets_dropped",
        "packets_forwarded_in",
        "packets_forwarded_out",
        "home_moves_in",
        "home_moves_out",
        "got_ping",
        "sent_pong",
        "peer_gone_disconnected",
        "peer_gone_not_here",
        "unknown_frames",
    ]
    for name in gauges:
        assert f"\ncoder_derp_server_{name} 0" in text
    for name in counters:
        assert f"\ncoder_derp_server_{name}_total 0" in text
    for name in (
        'dropped_reason_total{reason="queue_head"}',
        'dropped_type_total{type="disco"}',
        'received_kind_total{kind="other"}',
    ):
        assert f"\ncoder_derp_server_packets_{name} 0" in text
