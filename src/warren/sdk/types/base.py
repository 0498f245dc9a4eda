"""What every wire type shares: how absent values look to clients written in Go."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

import msgspec

NIL_UUID = UUID(int=0)
"""An unset UUID as clients written in Go send and expect it."""

ZERO_TIME = datetime(1, 1, 1, tzinfo=UTC)
"""An unset time as clients written in Go send and expect it."""

Milliseconds = Annotated[int, msgspec.Meta(description="milliseconds")]
Nanoseconds = Annotated[int, msgspec.Meta(description="nanoseconds")]
Seconds = Annotated[int, msgspec.Meta(description="seconds")]


class Wire(msgspec.Struct, frozen=True, kw_only=True):
    """A JSON object whose keys are always present."""


class Sparse(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A JSON object whose keys are left out while they hold their default.

    A field that must always be sent has no default.
    """


def present(value: UUID | None) -> UUID | None:
    """Read a UUID of a request: the nil UUID means that it was not given."""
    return None if value is None or value == NIL_UUID else value


class Validation(Wire, frozen=True):
    """One field of a request that was refused, and why."""

    field: str
    detail: str


class Response(Sparse, frozen=True):
    """The body of an error, and of an answer that says nothing else."""

    message: str
    detail: str = ""
    validations: list[Validation] = []
