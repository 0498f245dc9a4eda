"""The escape sequences of an interactive session: `~.` at the start of a line ends it, as in OpenSSH."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

HELP = b"\r\n".join(
    [
        b"",
        b"Supported escape sequences:",
        b" ~.  terminate the session",
        b" ~~  send the escape character",
        b" ~?  this message",
        b"",
    ]
)


class _State(Enum):
    LINE_START = auto()
    ESCAPED = auto()
    WITHIN = auto()


@dataclass(frozen=True, slots=True)
class Typed:
    """What to do with what was typed: send `data`, show `shown`, and `leave`."""

    data: bytes
    shown: bytes = b""
    leave: bool = False


class EscapeFilter:
    """Take escape sequences out of what the user types, however it was cut into reads."""

    def __init__(self) -> None:
        self._state = _State.LINE_START

    def feed(self, typed: bytes) -> Typed:
        """Filter what was read from the terminal."""
        data, shown = bytearray(), bytearray()
        for value in typed:
            match self._state, value:
                case _State.ESCAPED, 0x2E:  # .
                    return Typed(bytes(data), bytes(shown), leave=True)
                case _State.ESCAPED, 0x7E:  # ~
                    data.append(value)
                    self._state = _State.WITHIN
                case _State.ESCAPED, 0x3F:  # ?
                    shown += HELP
                    self._state = _State.LINE_START
                case _State.ESCAPED, _:
                    data += bytes((0x7E, value))
                    self._state = _line_state(value)
                case _State.LINE_START, 0x7E:
                    self._state = _State.ESCAPED
                case _:
                    data.append(value)
                    self._state = _line_state(value)
        return Typed(bytes(data), bytes(shown))


def _line_state(value: int) -> _State:
    return _State.LINE_START if value in b"\r\n" else _State.WITHIN
