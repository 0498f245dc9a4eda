"""Turn Terraform's values into Python's and back (msgpack, as the plugin protocol carries them)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeAlias, cast

import msgpack


class UnknownValue:
    """A value that Terraform will know only after apply."""

    def __repr__(self) -> str:
        """Name it as Terraform's messages do."""
        return "(known after apply)"


UNKNOWN: Final = UnknownValue()

Value: TypeAlias = "str | bool | int | float | UnknownValue | Sequence[Value] | Mapping[str, Value] | None"
Object: TypeAlias = dict[str, Value]

# msgpack has no annotations of its own.
_unpack = cast("Callable[..., Value]", msgpack.unpackb)  # pyright: ignore[reportUnknownMemberType]
_pack = cast("Callable[..., bytes]", msgpack.packb)  # pyright: ignore[reportUnknownMemberType]

_UNKNOWN_CODES = (0, 12)  # 12 carries refinements ("not null", a prefix), which we do not need


def _from_ext(code: int, data: bytes) -> Value:
    if code in _UNKNOWN_CODES:
        return UNKNOWN
    raise ValueError(f"unexpected msgpack extension {code} with {len(data)} bytes")


def _to_ext(value: object) -> object:
    if isinstance(value, UnknownValue):
        return msgpack.ExtType(0, b"\x00")
    raise TypeError(f"{type(value).__name__} is not a Terraform value")


def decode(data: bytes) -> Value:
    """Read a value; numbers too large for msgpack arrive as text and stay text."""
    return _unpack(data, ext_hook=_from_ext, strict_map_key=False)


def decode_object(data: bytes) -> Object | None:
    """Read an object, or `None` where Terraform sends null (a resource that does not exist)."""
    value = decode(data)
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise TypeError(f"expected an object, got {type(value).__name__}")
    return dict(value)


def encode(value: Value) -> bytes:
    """Write a value."""
    return _pack(value, default=_to_ext)


def text(value: Value) -> str:
    """Give a string attribute's text; null and unknown read as empty."""
    return value if isinstance(value, str) else ""


def number(value: Value) -> int:
    """Give a number attribute as an integer; null and unknown read as zero."""
    if isinstance(value, str):
        return int(float(value))
    return int(value) if isinstance(value, int | float) else 0


def truth(value: Value) -> bool:
    """Give a bool attribute; null and unknown read as false."""
    return value is True


def blocks(value: Value) -> list[Object]:
    """Give the blocks (or list elements) that are objects; null and unknown read as none."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        return []
    return [dict(item) for item in value if isinstance(item, Mapping)]


def strings(value: Value) -> dict[str, str]:
    """Give a map of strings without the entries that are null or unknown."""
    if not isinstance(value, Mapping):
        return {}
    return {key: item for key, item in value.items() if isinstance(item, str)}


def wholly_known(value: Value) -> bool:
    """Tell whether nothing inside `value` is unknown."""
    if isinstance(value, UnknownValue):
        return False
    if isinstance(value, Mapping):
        return all(wholly_known(item) for item in value.values())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return all(wholly_known(item) for item in value)
    return True
