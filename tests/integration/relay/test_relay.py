from __future__ import annotations

import socket
import struct
import threading

import pytest
from nacl.public import PrivateKey

from tests.integration.relay.client import DERPClient
from tests.integration.relay.conftest import Connect
from warren._engine import EngineClosed, InvalidConfig, Relay
from warren.net import derp

DISCO = b"TS\xf0\x9f\x92\xac" + bytes(56)
NOBODY = bytes(32)


def test_greets_with_its_key_and_answers_a_login(relay: Relay, connect: Connect) -> None:
    client = connect()

    assert client.server_key == relay.public_key
    assert client.server_info == {"version": 2}
    stats = relay.stats()
    assert (stats.accepts, stats.connections, stats.clients) == (1, 1, 1)


def test_moves_packets_both_ways_unchanged(relay: Relay, connect: Connect) -> None:
    left, right = connect(), connect()

    left.send(derp.SendPacket(right.key, b""), derp.SendPacket(right.key, b"x" * derp.MAX_PACKET_LENGTH))
    right.send(derp.SendPacket(left.key, b"back"))

    assert right.receive() == derp.RecvPacket(left.key, b"")
    assert right.receive() == derp.RecvPacket(left.key, b"x" * derp.MAX_PACKET_LENGTH)
    assert left.receive() == derp.RecvPacket(right.key, b"back")
    stats = relay.stats()
    assert (stats.packets_received, stats.packets_sent, stats.packets_dropped) == (3, 3, 0)


def test_takes_frames_cut_anywhere(connect: Connect) -> None:
    left, right = connect(), connect()
    stream = derp.encode(derp.SendPacket(right.key, b"hello")) + derp.encode(derp.Ping(b"12345678"))
    stream += bytes([0x77]) + struct.pack(">I", 9) + b"ignore me" + derp.encode(derp.SendPacket(right.key, b"again"))

    for byte in stream:
        left.write(bytes([byte]))

    assert left.receive() == derp.Pong(b"12345678")
    assert right.receive() == derp.RecvPacket(left.key, b"hello")
    assert right.receive() == derp.RecvPacket(left.key, b"again")


def test_takes_bytes_that_came_with_the_request(relay: Relay) -> None:
    near, far = socket.socketpair()
    with DERPClient(near) as client:
        first = derp.encode(client.client_info(relay.public_key)) + derp.encode(derp.NotePreferred(home=True))
        relay.add(far.detach(), initial=first + derp.encode(derp.Ping(b"fast0000")))

        client.server_key = client.expect(derp.ServerKey).key
        client.read_server_info()
        assert client.receive() == derp.Pong(b"fast0000")
    assert relay.stats().home_moves_in == 1


def test_a_login_needs_the_private_key(relay: Relay, connect: Connect) -> None:
    victim = connect()
    impostor = connect(login=False)
    impostor.server_key = impostor.expect(derp.ServerKey).key
    info = impostor.client_info(impostor.server_key)

    impostor.send(derp.ClientInfo(victim.key, info.sealed))

    assert impostor.receive() is None
    assert relay.stats().clients == 1


@pytest.mark.parametrize(
    "frames",
    [
        pytest.param(derp.encode(derp.Ping(b"12345678")), id="a frame before the login"),
        pytest.param(derp.encode(derp.SendPacket(NOBODY, b"x")), id="a packet before the login"),
        pytest.param(bytes([2, 0, 1, 0, 1]), id="a login that announces 64 KiB"),
        pytest.param(bytes([2, 0, 0, 0, 55]), id="a login that is too short"),
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", id="HTTP"),
    ],
)
def test_closes_who_does_not_log_in(connect: Connect, frames: bytes) -> None:
    client, bystander = connect(login=False), connect()
    client.expect(derp.ServerKey)

    client.write(frames)

    assert client.receive() is None
    assert bystander.sync() == []


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(bytes([4, 0, 0, 0, 31]) + bytes(31), id="a packet without a key"),
        pytest.param(bytes([4, 0, 1, 0, 33]), id="a packet over 64 KiB"),
        pytest.param(bytes([7, 0, 0, 0, 2, 1, 1]), id="two preferences"),
        pytest.param(bytes([0x12, 0, 0, 0, 7]) + bytes(7), id="a short ping"),
        pytest.param(bytes([0x12, 0, 0, 3, 0xE9]), id="a long ping"),
        pytest.param(derp.encode(derp.WatchConns()), id="watching"),
        pytest.param(derp.encode(derp.ClosePeer(NOBODY)), id="closing others"),
        pytest.param(derp.encode(derp.ForwardPacket(NOBODY, NOBODY, b"x")), id="forwarding"),
    ],
)
def test_a_malformed_or_forbidden_frame_closes_that_connection_only(connect: Connect, frame: bytes) -> None:
    bad, good = connect(), connect()

    bad.write(frame)

    assert bad.receive() is None
    assert good.sync() == []


def test_says_once_in_a_while_that_a_peer_is_not_here(relay: Relay, connect: Connect) -> None:
    client = connect()

    client.send(derp.SendPacket(NOBODY, b"data"))
    assert client.sync() == [], "data for nobody is dropped without a word"
    client.send(*[derp.SendPacket(NOBODY, DISCO)] * 10)

    assert client.sync() == [derp.PeerGone(NOBODY, derp.GoneReason.NOT_HERE)] * 3
    stats = relay.stats()
    assert stats.dropped_by_reason["unknown_dest"] == 11
    assert stats.peer_gone_not_here == 3


def test_tells_those_it_sent_to_that_a_peer_left(relay: Relay, connect: Connect) -> None:
    leaver, friend, stranger = connect(), connect(), connect()
    leaver.send(derp.SendPacket(friend.key, b"hi"))
    assert friend.receive() == derp.RecvPacket(leaver.key, b"hi")

    leaver.sock.close()

    assert friend.receive() == derp.PeerGone(leaver.key, derp.GoneReason.DISCONNECTED)
    assert stranger.sync() == []
    assert relay.stats().clients == 2


def test_of_two_connections_with_one_key_the_last_to_send_gets_the_packets(connect: Connect) -> None:
    key = PrivateKey.generate()
    sender, old, new = connect(), connect(key), connect(key)

    sender.send(derp.SendPacket(old.key, b"to the newest"))
    assert new.receive() == derp.RecvPacket(sender.key, b"to the newest")

    old.sync()
    sender.send(derp.SendPacket(old.key, b"to the sender"))
    assert old.receive() == derp.RecvPacket(sender.key, b"to the sender")

    new.sync()
    new.sock.close()
    assert old.sync() == [], "a key with a connection left is not gone"
    sender.send(derp.SendPacket(old.key, b"to the one left"))
    assert old.receive() == derp.RecvPacket(sender.key, b"to the one left")


def test_drops_for_duplicates_that_never_sent(relay: Relay, connect: Connect) -> None:
    key = PrivateKey.generate()
    sender, first, second, active = connect(), connect(key), connect(key), connect(key)
    # A login is not a frame that counts as sent.
    active.sock.close()
    while relay.stats().connections > 3:
        sender.sync()  # at most the time the relay takes to see a closed socket

    sender.send(derp.SendPacket(first.key, DISCO))

    assert sender.sync() == [], "it is not gone"
    assert relay.stats().dropped_by_reason["dup_client"] == 1
    second.sync()
    sender.send(derp.SendPacket(first.key, DISCO))
    assert second.receive() == derp.RecvPacket(sender.key, DISCO)


def test_a_reader_that_stalls_holds_up_nobody_and_is_cut_off(relay: Relay, connect: Connect) -> None:
    sender, stalled, healthy = connect(), connect(), connect()
    stalled.send(derp.SendPacket(healthy.key, b"hello"))
    assert healthy.receive() == derp.RecvPacket(stalled.key, b"hello")
    flood = [derp.SendPacket(stalled.key, bytes(1200))] * 100
    for _ in range(80):
        sender.send(*flood)
    sender.send(derp.SendPacket(healthy.key, b"through"))

    assert healthy.receive() == derp.RecvPacket(sender.key, b"through")
    dropped = relay.stats().dropped_by_reason
    assert dropped["queue_head"] > 0, "the oldest are dropped first"
    assert dropped["queue_tail"] == 0
    assert healthy.receive() == derp.PeerGone(stalled.key, derp.GoneReason.DISCONNECTED)
    assert relay.stats().connections == 2


def test_a_flood_between_some_leaves_others_their_turns(relay: Relay, connect: Connect) -> None:
    flooder, sink, left, right = connect(), connect(), connect(), connect()
    flood = b"".join(derp.encode(derp.SendPacket(sink.key, bytes(1200))) for _ in range(100))
    stop = threading.Event()

    def pour() -> None:
        while not stop.is_set():
            flooder.write(flood)

    def swallow() -> None:
        while sink.sock.recv(1 << 16):
            pass

    threads = [threading.Thread(target=pour), threading.Thread(target=swallow)]
    for thread in threads:
        thread.start()
    try:
        for number in range(300):
            packet = number.to_bytes(4)
            left.send(derp.SendPacket(right.key, packet))
            assert right.receive() == derp.RecvPacket(left.key, packet)
            right.send(derp.SendPacket(left.key, packet))
            assert left.receive() == derp.RecvPacket(right.key, packet)
    finally:
        stop.set()
        threads[0].join()
        relay.close(drain_seconds=1)
        threads[1].join()
    assert relay.stats().packets_received > 600, "the flood went on meanwhile"


def test_disco_has_a_queue_of_its_own(relay: Relay, connect: Connect) -> None:
    sender, slow = connect(), connect()
    sender.send(*[derp.SendPacket(slow.key, DISCO)] * 5)
    for _ in range(40):
        sender.send(*[derp.SendPacket(slow.key, bytes(1200))] * 100)
    sender.send(*[derp.SendPacket(slow.key, DISCO + b"late")] * 3)
    sender.sync()

    packets: list[bytes] = []
    while packets.count(DISCO + b"late") < 3:
        packets.append(slow.expect(derp.RecvPacket).packet)

    assert packets.count(DISCO) == 5
    dropped = relay.stats().dropped_by_reason["queue_head"]
    assert dropped > 0
    for _ in range(4008 - dropped - len(packets)):
        slow.expect(derp.RecvPacket)
    assert slow.sync() == [], "what was neither dropped nor delivered"


def test_an_answer_to_a_ping_waits_for_no_second_one(connect: Connect) -> None:
    client = connect()
    client.send(*[derp.Ping(struct.pack(">Q", number)) for number in range(20_000)])

    first = client.receive()

    assert first == derp.Pong(bytes(8))


def test_counts_home_moves(relay: Relay, connect: Connect) -> None:
    client = connect()
    client.send(*(derp.NotePreferred(home=home) for home in (True, True, False, True)))
    client.sync()

    stats = relay.stats()
    assert (stats.home_moves_in, stats.home_moves_out, stats.unknown_frames) == (2, 1, 0)


def test_says_when_it_will_be_back(relay: Relay, connect: Connect) -> None:
    client, guest = connect(), connect(login=False)
    guest.expect(derp.ServerKey)

    relay.close(restarting_in_seconds=1.5)

    assert client.receive() == derp.Restarting(reconnect_in_ms=1500, try_for_ms=10_000)
    assert client.receive() is None
    assert guest.receive() is None, "who has not logged in is only cut off"
    relay.close()
    left, right = socket.socketpair()
    with left, pytest.raises(EngineClosed):
        relay.add(right.detach())


def test_tunes_its_sockets(relay: Relay) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
    with DERPClient(near) as client, far:
        relay.add(far.dup().detach())
        client.login()

        assert far.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
        assert far.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT) == 256 << 10
        assert far.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 15_000
        relay.close()
        assert client.receive() is None, "though another descriptor of the socket is open"


def test_closes_without_a_word_unless_it_restarts(relay: Relay, connect: Connect) -> None:
    client = connect()

    relay.close()

    assert client.receive() is None
    assert relay.stats().connections == 0


def test_refuses_keys_that_are_none() -> None:
    with pytest.raises(InvalidConfig, match="32 bytes"):
        Relay(b"short")
