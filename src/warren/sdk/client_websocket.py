"""Follow a WebSocket on which only the server speaks (logs)."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import TYPE_CHECKING

import anyio
from anyio.abc import ByteStream
from websockets.exceptions import InvalidHandshake, InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.http11 import Response

from warren.errors import RemoteProtocolError, Unavailable
from warren.sdk import client_errors

if TYPE_CHECKING:
    from websockets.client import ClientProtocol

NORMAL_CLOSE = frozenset({1000, 1001, 1005})


async def messages(stream: ByteStream, protocol: ClientProtocol, headers: Mapping[str, str]) -> AsyncGenerator[bytes]:
    """Shake hands and yield each message's bytes until the server closes normally.

    Raises:
        Unavailable: the connection broke or was closed with an error.
        WarrenError: the server refused the handshake with an answer of its own.
    """
    request = protocol.connect()
    for name, value in headers.items():
        request.headers[name] = value
    protocol.send_request(request)
    partial = b""
    while True:
        await _flush(stream, protocol)
        await _receive(stream, protocol)
        for event in protocol.events_received():
            match event:
                case Response():
                    _check(protocol, event)
                case Frame(opcode=Opcode.TEXT | Opcode.BINARY | Opcode.CONT, data=data, fin=fin):
                    partial += data
                    if fin:
                        yield partial
                        partial = b""
                case _:
                    pass
        if protocol.handshake_exc is not None:
            raise RemoteProtocolError(f"the server refused the WebSocket: {protocol.handshake_exc}")
        if protocol.close_expected() or protocol.close_rcvd is not None:
            await _flush(stream, protocol)
            if protocol.close_rcvd is None or protocol.close_rcvd.code not in NORMAL_CLOSE:
                reason = protocol.close_rcvd.reason if protocol.close_rcvd else ""
                raise Unavailable(f"the server closed the stream: {reason or 'no reason given'}")
            return


def _check(protocol: ClientProtocol, response: Response) -> None:
    error = protocol.handshake_exc
    if isinstance(error, InvalidStatus):
        body = bytes(response.body or b"")
        raise client_errors.from_answer(response.status_code, dict(response.headers.raw_items()), body) from error
    if isinstance(error, InvalidHandshake):
        raise RemoteProtocolError(f"the server refused the WebSocket: {error}") from error


async def _flush(stream: ByteStream, protocol: ClientProtocol) -> None:
    try:
        for data in protocol.data_to_send():
            if data:
                await stream.send(data)
            else:
                await stream.send_eof()
    except (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError) as error:
        if protocol.close_rcvd is None:
            raise Unavailable("the connection to the server broke") from error


async def _receive(stream: ByteStream, protocol: ClientProtocol) -> None:
    try:
        protocol.receive_data(await stream.receive(65536))
    except anyio.EndOfStream:
        protocol.receive_eof()
        if protocol.handshake_exc is None and protocol.close_rcvd is None:
            raise Unavailable("the connection to the server broke") from None
    except (anyio.BrokenResourceError, OSError) as error:
        raise Unavailable("the connection to the server broke") from error
