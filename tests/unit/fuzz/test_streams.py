"""Streams of clients and agents, however they were cut."""

from __future__ import annotations

from collections.abc import Iterable

from tests.unit.fuzz.corpus import cut, fuzz
from warren.agent.speedtest import MAX_SECONDS, Plan, read_request
from warren.agent.ssh import sftp_wire
from warren.agent.terminal_wire import MessageDecoder, TerminalMessage, read_init
from warren.errors import RemoteProtocolError
from warren.relay.server import Accept, answer_upgrade
from warren.rpc import yamux
from warren.rpc.frames import Decoder, Packet, decode_error, encode


def events(reads: Iterable[bytes]) -> tuple[list[yamux.Event], bytes, bool]:
    """Give what happens to a session with two streams open, what it answers, and whether it broke."""
    session, seen = yamux.Session(client=True), list[yamux.Event]()
    for stream in (session.open(), session.open()):
        session.send(stream, b"question")
    session.data_to_send()
    try:
        for read in reads:
            for event in session.receive_data(read):
                seen.append(event)
                if isinstance(event, yamux.DataReceived):
                    assert len(event.data) <= yamux.WINDOW_BYTES
    except RemoteProtocolError:
        return [], session.data_to_send(), True
    return seen, session.data_to_send(), False


@fuzz("yamux")
def test_yamux(data: bytes) -> None:
    stream, reads = cut(data)
    seen, answer, broke = events([stream])
    assert (seen, answer, broke) == events(reads)
    # Nothing is answered with more than was sent, but for the goodbye to one who broke the protocol.
    assert len(answer) <= len(stream) + yamux.HEADER.size


def packets(reads: Iterable[bytes]) -> tuple[list[Packet], bool]:
    """Give the packets until the stream ends or breaks, and whether it broke."""
    decoder, seen = Decoder(), list[Packet]()
    try:
        for read in reads:
            for packet in decoder.feed(read):
                seen.append(packet)
    except RemoteProtocolError:
        return seen, True
    return seen, False


@fuzz("drpc")
def test_drpc(data: bytes) -> None:
    stream, reads = cut(data)
    found = packets([stream])
    assert found == packets(reads)
    for packet in found[0]:
        decode_error(packet.data)
        assert packets([encode(packet)]) == ([packet], False)


def messages(reads: Iterable[bytes]) -> tuple[list[TerminalMessage], bool]:
    """Give the messages until the stream ends or breaks, and whether it broke."""
    decoder, seen = MessageDecoder(), list[TerminalMessage]()
    try:
        for read in reads:
            for message in decoder.feed(read):
                seen.append(message)
    except RemoteProtocolError:
        return seen, True
    return seen, False


@fuzz("terminal")
def test_input_of_a_terminal(data: bytes) -> None:
    stream, reads = cut(data)
    found = messages([stream])
    assert found == messages(reads)
    for message in found[0]:
        # What the kernel's `struct winsize` holds.
        assert 0 <= message.height <= 0xFFFF
        assert 0 <= message.width <= 0xFFFF
        message.data.encode(errors="surrogatepass")


@fuzz("terminal_init")
def test_the_first_frame_of_a_terminal(data: bytes) -> None:
    try:
        init = read_init(data)
    except RemoteProtocolError:
        return
    assert 0 <= init.height <= 0xFFFF
    assert 0 <= init.width <= 0xFFFF


@fuzz("speedtest")
def test_the_request_of_a_speedtest(data: bytes) -> None:
    plan = read_request(data)
    assert not isinstance(plan, Plan) or 0 <= plan.seconds <= MAX_SECONDS


def sftp_packets(reads: Iterable[bytes]) -> tuple[list[bytes], bool]:
    """Give the packets until the stream ends or breaks, and whether it broke."""
    decoder, seen = sftp_wire.Decoder(), list[bytes]()
    try:
        for read in reads:
            decoder.feed([read])
            for packet in decoder.packets():
                seen.append(bytes(packet))
    except RemoteProtocolError:
        return seen, True
    return seen, False


@fuzz("sftp")
def test_sftp(data: bytes) -> None:
    stream, reads = cut(data)
    found = sftp_packets([stream])
    assert found == sftp_packets(reads)
    for packet in found[0]:
        fields = sftp_wire.Fields(memoryview(packet)[1:])
        try:
            fields.uint32()
            fields.view()
            fields.attributes()
        except RemoteProtocolError:
            continue


@fuzz("upgrade_request")
def test_the_request_for_an_upgrade(data: bytes) -> None:
    lines = [line.partition(b":") for line in data.split(b"\r\n")[1:]]
    headers = [(name.strip().lower(), value) for name, _, value in lines]
    decision = answer_upgrade(headers, bytes(32))
    head = decision.response.partition(b"\r\n\r\n")[0]
    # A header of the request must not become one of the answer.
    assert head.count(b"\r\n") <= 6
    if isinstance(decision, Accept) and decision.websocket:
        assert b"Sec-WebSocket-Accept: " in head
