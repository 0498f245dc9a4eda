"""A small HTTP proxy on loopback that opens tunnels (CONNECT), asks for a password if told to, and counts."""

import base64
import socket
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self


class ProxyServer:
    """Every connection has a thread; names are resolved by the table it is given, as a far DNS would."""

    def __init__(self, *, password: str = "", names: dict[str, str] | None = None, answer: bytes = b"") -> None:
        self._wanted = base64.b64encode(password.encode()).decode() if password else ""
        self._names = names or {}
        self._answer = answer
        """Said to everybody instead of opening a tunnel."""
        self.requests: list[str] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._connection, args=(connection,), daemon=True).start()

    def _connection(self, connection: socket.socket) -> None:
        with connection:
            try:
                self._tunnel(connection)
            except OSError:
                return  # either side left

    def _tunnel(self, connection: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            more = connection.recv(4096)
            if not more:
                return
            head += more
        text = head.decode()
        self.requests.append(text)
        if self._answer:
            connection.sendall(self._answer)
            return
        if self._wanted and f"Proxy-Authorization: Basic {self._wanted}\r\n" not in text:
            connection.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n\r\n")
            return
        host, _, port = text.split(" ")[1].rpartition(":")
        with socket.create_connection((self._names.get(host, host), int(port)), timeout=10) as far:
            far.settimeout(None)
            connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            back = threading.Thread(target=_copy, args=(far, connection), daemon=True)
            back.start()
            _copy(connection, far)
            back.join()


def _copy(source: socket.socket, target: socket.socket) -> None:
    """Copy until either side ends or breaks, and let the other one know: it may wait for a request for ever."""
    with suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)
