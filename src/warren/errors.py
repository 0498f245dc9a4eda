"""Every error Warren raises on purpose.

WarrenError
├── NotFound              it does not exist, or the caller may not know that it does
├── Unauthenticated       no credential, or one that is not valid any more
├── Forbidden             the caller may see it but not do this to it
├── Conflict              the request is valid but not in the present state
├── Invalid               the request is malformed; carries one `Violation` per field
├── Gone                  it existed and was deleted
├── TooLarge              it is over a limit that protects the server
├── ProtocolError
│   ├── LocalProtocolError    we broke the protocol: a bug, caught only at the top
│   └── RemoteProtocolError   they did: close that one connection, keep serving
├── RemoteError           the other side of an RPC answered with an error of its own
│   └── Unimplemented         it does not know this call (DRPC code 12)
└── Unavailable           something we depend on did not answer in time
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

NOT_JSON: Final = (ValueError, RecursionError)
"""What decoders raise of text that a stranger sent: their own errors, bytes that are no text, nesting without end."""


@dataclass(frozen=True, slots=True)
class Violation:
    """One field of a request that was refused, and why."""

    field: str
    detail: str


class WarrenError(Exception):
    """Base of all errors raised on purpose; `message` is for people, `detail` is the technical cause."""

    def __init__(self, message: str, *, detail: str = "", hint: str = "", violations: Sequence[Violation] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.detail = detail
        self.hint = hint
        self.violations = tuple(violations)


class NotFound(WarrenError):
    """It does not exist, or the caller may not know that it does."""

    def __init__(
        self,
        message: str = "Resource not found or you do not have access to this resource",
        *,
        detail: str = "",
        hint: str = "",
        violations: Sequence[Violation] = (),
    ) -> None:
        super().__init__(message, detail=detail, hint=hint, violations=violations)


class Unauthenticated(WarrenError):
    """No credential, or one that is not valid any more."""


class Forbidden(WarrenError):
    """The caller may see it but not do this to it."""


class Conflict(WarrenError):
    """The request is valid but not in the present state."""


class Invalid(WarrenError):
    """The request is malformed."""


class Gone(WarrenError):
    """It existed and was deleted."""


class TooLarge(WarrenError):
    """It is over a limit that protects the server."""


class ProtocolError(WarrenError):
    """A peer and we disagree about a protocol."""


class LocalProtocolError(ProtocolError):
    """We broke the protocol: a bug."""


class RemoteProtocolError(ProtocolError):
    """They broke the protocol: close that one connection."""


class RemoteError(WarrenError):
    """The other side of an RPC answered with an error of its own."""

    def __init__(self, message: str, *, code: int = 0) -> None:
        super().__init__(message)
        self.code = code


class Unimplemented(RemoteError):
    """The other side does not know this call (DRPC code 12)."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code=12)


class Unavailable(WarrenError):
    """Something we depend on did not answer in time."""
