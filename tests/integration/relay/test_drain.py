"""A relay that stops: what clients were sent reaches them, and they are told when to come back."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from tests.integration.relay.client import DERPClient
from tests.integration.relay.conftest import Connect
from warren._engine import EngineClosed, Relay
from warren.net import derp


def closing(relay: Relay, **how: float) -> Callable[[], None]:
    """Close in the background, as the server does beside its event loop; gives what waits for it."""
    thread = threading.Thread(target=lambda: relay.close(**how))
    thread.start()
    return thread.join


def rest(client: DERPClient) -> list[derp.Frame]:
    """Read to the end of a connection."""
    frames: list[derp.Frame] = []
    while (frame := client.receive()) is not None:
        frames.append(frame)
    return frames


def test_all_goes_on_after_a_restart_was_announced(relay: Relay, connect: Connect) -> None:
    left, right = connect(), connect()

    relay.announce_restart(1.5)

    for client in (left, right):
        assert client.receive() == derp.Restarting(reconnect_in_ms=1500, try_for_ms=10_000)
    left.send(derp.SendPacket(right.key, b"meanwhile"))
    assert right.receive() == derp.RecvPacket(left.key, b"meanwhile")
    relay.close()
    with pytest.raises(EngineClosed):
        relay.announce_restart(1.5)


def test_what_waits_for_a_slow_reader_is_sent_before_the_end(relay: Relay, connect: Connect) -> None:
    sender, slow = connect(), connect()
    packets = [bytes([number % 256]) * 1200 for number in range(400)]
    sender.send(*[derp.SendPacket(slow.key, packet) for packet in packets])
    sender.sync()

    done = closing(relay, restarting_in_seconds=1.5, drain_seconds=30)
    frames = rest(slow)
    sender.sock.close()
    done()

    got = [frame.packet for frame in frames if isinstance(frame, derp.RecvPacket)]
    assert got == packets
    assert derp.Restarting(reconnect_in_ms=1500, try_for_ms=10_000) in frames


def test_a_client_that_takes_nothing_delays_the_end_no_longer_than_allowed(relay: Relay, connect: Connect) -> None:
    sender, stalled = connect(), connect()
    sender.send(*[derp.SendPacket(stalled.key, bytes(1200))] * 400)
    sender.sync()

    closing(relay, drain_seconds=0.2)()

    assert relay.stats().connections == 0


def test_what_clients_say_to_a_relay_that_ends_does_not_destroy_what_is_for_them(
    relay: Relay, connect: Connect
) -> None:
    talker, friend = connect(), connect()
    friend.send(*[derp.SendPacket(talker.key, bytes(1000))] * 20)
    friend.sync()

    done = closing(relay, drain_seconds=30)
    try:
        for _ in range(200):
            talker.send(derp.SendPacket(friend.key, bytes(1000)))
    except OSError:
        pass  # it has ended by now
    frames = rest(talker)
    talker.sock.close()
    friend.sock.close()
    done()

    assert frames.count(derp.RecvPacket(friend.key, bytes(1000))) == 20
