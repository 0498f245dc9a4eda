"""The stream that attaches a client to a reconnecting terminal: pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated
from uuid import UUID

import msgspec

from warren.errors import NOT_JSON, RemoteProtocolError

MAX_MESSAGE_BYTES = 1024 * 1024
"""The longest message: a paste, which editors send in one piece."""

Length = Annotated[int, msgspec.Meta(ge=0, le=0xFFFF)]
"""Rows or columns, as many as the kernel's `struct winsize` holds."""

_STRUCTURE = re.compile(rb'\\.|["{}]', re.DOTALL)


class TerminalInit(msgspec.Struct, frozen=True):
    """Which terminal a client wants, and what runs in it when it is new."""

    terminal_id: UUID = msgspec.field(name="ID")
    height: Length = msgspec.field(name="Height", default=0)
    width: Length = msgspec.field(name="Width", default=0)
    command: str = msgspec.field(name="Command", default="")
    container: str = msgspec.field(name="Container", default="")
    container_user: str = msgspec.field(name="ContainerUser", default="")
    backend_type: str = msgspec.field(name="BackendType", default="")


class TerminalMessage(msgspec.Struct, frozen=True):
    """Input, a new size, or both."""

    data: str = ""
    height: Length = 0
    width: Length = 0


def read_init(body: bytes) -> TerminalInit:
    """Read the first frame's JSON; the case of its keys does not matter.

    Raises:
        RemoteProtocolError: it is not such a frame.
    """
    names = {"id": "ID", "containeruser": "ContainerUser", "backendtype": "BackendType"}
    try:
        fields = msgspec.json.decode(body, type=dict[str, object])
        known = {names.get(key.lower(), key.lower().capitalize()): value for key, value in fields.items()}
        return msgspec.convert(known, TerminalInit)
    except NOT_JSON as error:
        raise RemoteProtocolError(f"bad terminal request: {error}") from error


class MessageDecoder:
    """Cuts concatenated JSON objects apart, however they were cut into reads."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._scanned = 0
        self._depth = 0
        self._in_text = False

    def feed(self, data: bytes) -> Iterator[TerminalMessage]:
        """Yield the messages that `data` completes.

        Raises:
            RemoteProtocolError: it is not JSON objects, or one is too long.
        """
        self._buffer += data
        while (end := self._end_of_object()) is not None:
            message = bytes(self._buffer[:end])
            del self._buffer[:end]
            self._scanned = 0
            try:
                yield msgspec.json.decode(message, type=TerminalMessage)
            except NOT_JSON as error:
                raise RemoteProtocolError(f"bad terminal message: {error}") from error
        if len(self._buffer) > MAX_MESSAGE_BYTES:
            raise RemoteProtocolError("terminal message too long")

    def _end_of_object(self) -> int | None:
        for match in _STRUCTURE.finditer(self._buffer, self._scanned):
            self._scanned = match.end()
            token = match[0]
            if token == b'"':
                self._in_text = not self._in_text
            elif not self._in_text and token in b"{}":
                self._depth += 1 if token == b"{" else -1
                if self._depth == 0:
                    return match.end()
                if self._depth < 0:
                    raise RemoteProtocolError("terminal message is not a JSON object")
        # A backslash that no match took is half of an escape: look at it again with what follows.
        half = self._scanned < len(self._buffer) and self._buffer.endswith(b"\\")
        self._scanned = len(self._buffer) - half
        return None
