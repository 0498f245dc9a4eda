"""A DERP client on a plain blocking socket, with PyNaCl for its boxes: an implementation that is not ours."""

from __future__ import annotations

import json
import socket
from collections import deque
from types import TracebackType
from typing import Self, TypeVar

from nacl.public import Box, PrivateKey, PublicKey

from warren.net import derp

TIMEOUT_SECONDS = 5.0
_F = TypeVar("_F", bound=derp.Frame)


class DERPClient:
    """One connection to a relay, past the HTTP upgrade."""

    def __init__(self, sock: socket.socket, key: PrivateKey | None = None) -> None:
        self.sock = sock
        self.private_key = key or PrivateKey.generate()
        self.key = bytes(self.private_key.public_key)
        self.server_key = b""
        self.server_info: dict[str, object] = {}
        self._decoder = derp.Decoder()
        self._frames: deque[derp.Frame] = deque()
        sock.settimeout(TIMEOUT_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.sock.close()

    def login(self) -> Self:
        """Read the greeting, log in, read the answer."""
        self.server_key = self.expect(derp.ServerKey).key
        self.send(self.client_info(self.server_key))
        self.read_server_info()
        return self

    def client_info(self, server_key: bytes) -> derp.ClientInfo:
        """Make the login for a relay with this key."""
        box = Box(self.private_key, PublicKey(server_key))
        document = json.dumps({"version": 2, "CanAckPings": True}).encode()
        return derp.ClientInfo(self.key, bytes(box.encrypt(document)))

    def read_server_info(self) -> None:
        """Read the answer to a login; it must be sealed by the key that the relay greeted with."""
        sealed = self.expect(derp.ServerInfo).sealed
        self.server_info = json.loads(Box(self.private_key, PublicKey(self.server_key)).decrypt(sealed))

    def send(self, *frames: derp.Frame) -> None:
        """Write frames, all at once."""
        self.write(b"".join(derp.encode(frame) for frame in frames))

    def write(self, data: bytes) -> None:
        """Write bytes of the DERP stream."""
        self.sock.sendall(data)

    def read(self) -> bytes:
        """Read bytes of the DERP stream; empty at its end."""
        return self.sock.recv(1 << 16)

    def receive(self) -> derp.Frame | None:
        """Read the next frame; None when the relay closed."""
        while not self._frames:
            try:
                data = self.read()
            except ConnectionResetError:
                return None
            if not data:
                return None
            self._frames.extend(self._decoder.feed(data))
        return self._frames.popleft()

    def expect(self, kind: type[_F]) -> _F:
        """Read the next frame, which must be of this kind."""
        frame = self.receive()
        assert isinstance(frame, kind), f"expected {kind.__name__}, got {frame}"
        return frame

    def sync(self) -> list[derp.Frame]:
        """Ping the relay and give what came before the answer: whatever was sent to us before is among it."""
        self.send(derp.Ping(b"syncsync"))
        frames: list[derp.Frame] = []
        while (frame := self.receive()) != derp.Pong(b"syncsync"):
            assert frame is not None, "the relay closed the connection"
            frames.append(frame)
        return frames
