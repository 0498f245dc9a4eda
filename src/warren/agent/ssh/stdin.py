"""The input of a session: what the client sent and nobody has read yet."""

from __future__ import annotations

import os
from collections import deque

import anyio
import asyncssh

MAX_QUEUED_BYTES = 1024 * 1024
"""How much input may wait for a slow child before the client is held back."""
_MAX_VECTOR = 64


class Stdin:
    """A queue of input that holds the client back when it grows; one task reads it."""

    def __init__(self, channel: asyncssh.SSHServerChannel[bytes]) -> None:
        self._channel = channel
        self._queue: deque[bytes] = deque()
        self._queued_bytes = 0
        self._held_back = False
        self._ended = False
        self._discarding = False
        self._changed = anyio.Event()

    def feed(self, data: bytes) -> None:
        """Queue input."""
        if self._discarding:
            return
        self._queue.append(data)
        self._queued_bytes += len(data)
        if self._queued_bytes > MAX_QUEUED_BYTES and not self._held_back:
            self._held_back = True
            self._channel.pause_reading()
        self._changed.set()

    def end(self) -> None:
        """Note that no more input comes."""
        self._ended = True
        self._changed.set()

    async def take(self) -> list[bytes]:
        """Wait for input and take all of it; an empty list is the end."""
        await self._wait()
        chunks = list(self._queue)
        self._consume(self._queued_bytes)
        return chunks

    async def write_to(self, descriptor: int) -> None:
        """Write to `descriptor` until the input ends or the child stops reading, as `head` does."""
        while True:
            await self._wait()
            if not self._queue:
                return
            try:
                self._consume(os.writev(descriptor, self._first_chunks()))
            except BlockingIOError:
                await anyio.wait_writable(descriptor)
            except OSError:
                self._discard()
                return

    async def _wait(self) -> None:
        while not self._queue and not self._ended:
            self._changed = anyio.Event()
            await self._changed.wait()

    def _first_chunks(self) -> list[bytes]:
        return [self._queue[index] for index in range(min(len(self._queue), _MAX_VECTOR))]

    def _consume(self, count: int) -> None:
        self._queued_bytes -= count
        while count:
            first = self._queue.popleft()
            if len(first) > count:
                self._queue.appendleft(first[count:])
                break
            count -= len(first)
        if self._held_back and self._queued_bytes <= MAX_QUEUED_BYTES // 2:
            self._held_back = False
            self._channel.resume_reading()

    def _discard(self) -> None:
        """Let the client go on sending to nobody, as a closed pipe would without its signal."""
        self._discarding = True
        self._consume(self._queued_bytes)
