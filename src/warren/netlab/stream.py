"""A stream that runs while the network fails: what a fault costs, and that not a byte is lost.

A stream of pseudo-random bytes goes from the second node to the first one at a steady pace. Its reader notes the
longest time without a byte, and at the end both sides must have hashed the same.
"""

from __future__ import annotations

import hashlib
import random
import socket
import threading
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio
import anyio.to_thread

from warren.errors import Unavailable
from warren.netlab.pair import DIAL_SECONDS, Member, Pair, Two

STREAM_PORT = 20
BLOCK_BYTES = 16 << 10
BLOCK_SECONDS = 0.005
"""26 Mbit/s: enough for every fault to hit something in flight, and little enough for a busy machine."""
SILENCE_SECONDS = 60.0
"""A stream that is silent for this long is broken, unless it was told to be more patient."""


@dataclass(slots=True)
class Stream:
    """A stream under way, as its reader sees it."""

    block_seconds: float = BLOCK_SECONDS
    """The pace; 0 for as fast as it goes."""
    patience_seconds: float = SILENCE_SECONDS
    received_bytes: int = 0
    longest_gap_seconds: float = 0.0
    _last_at: float = 0.0
    _received_digest: str = ""
    _sent_digest: str = ""
    _stop: threading.Event = field(default_factory=threading.Event)
    _received: threading.Event = field(default_factory=threading.Event)
    _arrived: threading.Condition = field(default_factory=threading.Condition)
    error: str = ""

    def send(self, connection: socket.socket, seed: int) -> None:
        """Send until told to stop, and wait for the reader's end of the connection; run in a thread."""
        source, digest = random.Random(seed), hashlib.sha256()  # noqa: S311  reproducible, not secret
        try:
            with connection:
                connection.settimeout(self.patience_seconds)
                due = time.monotonic()
                while not self._stop.is_set():
                    block = source.randbytes(BLOCK_BYTES)
                    connection.sendall(block)
                    digest.update(block)
                    due = max(due + self.block_seconds, time.monotonic())
                    time.sleep(max(0.0, due - time.monotonic()))
                connection.shutdown(socket.SHUT_WR)
                self._sent_digest = digest.hexdigest()
                self._received.wait(self.patience_seconds)
        except OSError as error:
            self.error = f"the sender's connection broke: {error}"

    def receive(self, connection: socket.socket) -> None:
        """Read until the end; run in a thread."""
        try:
            with connection:
                connection.settimeout(self.patience_seconds)
                digest = hashlib.sha256()
                self._last_at = time.monotonic()
                while data := connection.recv(1 << 18):
                    digest.update(data)
                    self._take(len(data))
                self._received_digest = digest.hexdigest()
        except OSError as error:
            self.error = f"the reader's connection broke: {error}"
        finally:
            self._received.set()

    def _take(self, length: int) -> None:
        now = time.monotonic()
        self.longest_gap_seconds = max(self.longest_gap_seconds, now - self._last_at)
        self._last_at = now
        with self._arrived:
            self.received_bytes += length
            self._arrived.notify_all()

    async def wait_bytes(self, more: int) -> None:
        """Wait until this many more bytes have come.

        Raises:
            Unavailable: the stream broke or stays silent.
        """
        wanted = self.received_bytes + more

        def done() -> bool:
            return bool(self.error) or self.received_bytes >= wanted

        def wait() -> bool:
            with self._arrived:
                return self._arrived.wait_for(done, self.patience_seconds)

        if not await anyio.to_thread.run_sync(wait) or self.error:
            raise Unavailable(self.error or f"the stream is silent for {self.patience_seconds:.0f} s")

    @property
    def intact(self) -> bool:
        """Whether all that was sent has come, unchanged."""
        return bool(self._sent_digest) and self._sent_digest == self._received_digest

    def stop(self) -> None:
        """Let the sender end."""
        self._stop.set()


@asynccontextmanager
async def streaming(pair: Pair, *, seed: int = 1) -> AsyncGenerator[Stream]:
    """Run a stream from the second node to the first; leaving waits for its end."""
    with pair.other.listen(STREAM_PORT) as listener:
        reading = await pair.connect(STREAM_PORT)
        with anyio.fail_after(DIAL_SECONDS):
            sending, _ = await listener.accept()
        async with _running(Stream(), sending, reading, seed) as stream:
            yield stream


@asynccontextmanager
async def echoing(pair: Two[Member], *, patience_seconds: float, seed: int = 1) -> AsyncGenerator[Stream]:
    """Run a stream to the second node's echo port and back, as fast as it goes: full in both directions."""
    connection = await pair.connect()
    stream = Stream(block_seconds=0.0, patience_seconds=patience_seconds)
    async with _running(stream, connection.dup(), connection, seed):
        yield stream


@asynccontextmanager
async def _running(stream: Stream, sending: socket.socket, reading: socket.socket, seed: int) -> AsyncGenerator[Stream]:
    threads = [
        threading.Thread(target=stream.send, args=(sending, seed), daemon=True),
        threading.Thread(target=stream.receive, args=(reading,), daemon=True),
    ]
    for thread in threads:
        thread.start()
    try:
        await stream.wait_bytes(BLOCK_BYTES)
        yield stream
    finally:
        stream.stop()
        with anyio.CancelScope(shield=True):
            for thread in threads:
                await anyio.to_thread.run_sync(thread.join, stream.patience_seconds)
