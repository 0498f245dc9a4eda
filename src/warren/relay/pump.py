"""Pump bytes between a TLS connection and a socket, both ways, each no faster than the other side takes them."""

from __future__ import annotations

import asyncio
import socket

_READ_LENGTH = 256 << 10


class Pump(asyncio.Protocol):
    """The protocol of a TLS transport whose bytes belong to `sock`; takes and closes both."""

    def __init__(self, loop: asyncio.AbstractEventLoop, transport: asyncio.Transport, sock: socket.socket) -> None:
        self._loop = loop
        self._transport = transport
        self._socket = sock
        self._unsent = bytearray()
        self._closed = False
        sock.setblocking(False)

    def start(self) -> None:
        """Begin; the transport's protocol must be this object already."""
        self._loop.add_reader(self._socket, self._read_socket)

    def data_received(self, data: bytes) -> None:
        """Pass on what came over TLS."""
        if self._closed:
            return
        if not self._unsent:
            data = data[self._send(data) :]
        if data:
            self._unsent += data
            self._transport.pause_reading()
            self._loop.add_writer(self._socket, self._write_socket)

    def eof_received(self) -> None:
        """End: DERP has no use for half a connection."""
        self._close()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._close()

    def pause_writing(self) -> None:
        """Stop reading the socket: TLS takes no more."""
        if not self._closed:
            self._loop.remove_reader(self._socket)

    def resume_writing(self) -> None:
        """Read the socket again."""
        if not self._closed:
            self._loop.add_reader(self._socket, self._read_socket)

    def _read_socket(self) -> None:
        try:
            data = self._socket.recv(_READ_LENGTH)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if data:
            self._transport.write(data)
        else:
            self._close()

    def _write_socket(self) -> None:
        del self._unsent[: self._send(self._unsent)]
        if not self._unsent and not self._closed:
            self._loop.remove_writer(self._socket)
            self._transport.resume_reading()

    def _send(self, data: bytes | bytearray) -> int:
        try:
            return self._socket.send(data)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError:
            self._close()
            return len(data)

    def _close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        self._socket.close()
        self._transport.close()
