"""Terminal modes as SSH clients send them (RFC 4254 §8), applied to a terminal's attributes: pure."""

from __future__ import annotations

import termios
from collections.abc import Mapping

_INPUT, _OUTPUT, _CONTROL, _LOCAL, _CHARACTERS = 0, 1, 2, 3, 6
_DISABLED = 255
"""The number that says "no character"."""

_CHARACTER_NAMES = {
    1: "VINTR",
    2: "VQUIT",
    3: "VERASE",
    4: "VKILL",
    5: "VEOF",
    6: "VEOL",
    7: "VEOL2",
    8: "VSTART",
    9: "VSTOP",
    10: "VSUSP",
    12: "VREPRINT",
    13: "VWERASE",
    14: "VLNEXT",
    18: "VDISCARD",
}
_FLAG_NAMES = {
    30: (_INPUT, "IGNPAR"),
    31: (_INPUT, "PARMRK"),
    32: (_INPUT, "INPCK"),
    33: (_INPUT, "ISTRIP"),
    34: (_INPUT, "INLCR"),
    35: (_INPUT, "IGNCR"),
    36: (_INPUT, "ICRNL"),
    38: (_INPUT, "IXON"),
    39: (_INPUT, "IXANY"),
    40: (_INPUT, "IXOFF"),
    41: (_INPUT, "IMAXBEL"),
    42: (_INPUT, "IUTF8"),
    50: (_LOCAL, "ISIG"),
    51: (_LOCAL, "ICANON"),
    53: (_LOCAL, "ECHO"),
    54: (_LOCAL, "ECHOE"),
    55: (_LOCAL, "ECHOK"),
    56: (_LOCAL, "ECHONL"),
    57: (_LOCAL, "NOFLSH"),
    58: (_LOCAL, "TOSTOP"),
    59: (_LOCAL, "IEXTEN"),
    60: (_LOCAL, "ECHOCTL"),
    61: (_LOCAL, "ECHOKE"),
    70: (_OUTPUT, "OPOST"),
    72: (_OUTPUT, "ONLCR"),
    73: (_OUTPUT, "OCRNL"),
    74: (_OUTPUT, "ONOCR"),
    75: (_OUTPUT, "ONLRET"),
    92: (_CONTROL, "PARENB"),
    93: (_CONTROL, "PARODD"),
}
_IUTF8 = 0x4000
"""Python's termios learnt its name only later."""

# What `termios.tcgetattr` gives: four numbers of flags, two speeds, and the control characters.
Attributes = list[int | list[bytes | int]]


def with_modes(attributes: Attributes, modes: Mapping[int, int]) -> Attributes:
    """Return a terminal's attributes with the modes that are known here; others are ignored, as RFC 4254 wants."""
    changed: Attributes = list(attributes)
    characters = changed[_CHARACTERS]
    assert isinstance(characters, list)
    characters = list(characters)
    for opcode, value in modes.items():
        if opcode in _CHARACTER_NAMES:
            index: int = getattr(termios, _CHARACTER_NAMES[opcode])
            characters[index] = b"\0" if value >= _DISABLED else bytes([value])
        elif opcode in _FLAG_NAMES:
            where, name = _FLAG_NAMES[opcode]
            flag: int = getattr(termios, name, _IUTF8 if name == "IUTF8" else 0)
            flags = changed[where]
            assert isinstance(flags, int)
            changed[where] = flags | flag if value else flags & ~flag
    changed[_CHARACTERS] = characters
    return changed
