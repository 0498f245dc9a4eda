"""What is known of a request beside its route: who sent it, and what went wrong."""

from __future__ import annotations

from dataclasses import dataclass, field
from uuid import UUID, uuid4

from litestar.types import Scope

from warren.errors import WarrenError
from warren.services.sessions import Session

_KEY = "warren"


@dataclass(slots=True)
class Exchange:
    """One request and its answer."""

    ip_address: str | None = None
    token: str = ""
    session: Session | None = None
    refusal: WarrenError | None = None
    error: Exception | None = None
    request_id: UUID = field(default_factory=uuid4)


def exchange_of(scope: Scope) -> Exchange:
    """Find the exchange that a request belongs to."""
    found: object = scope.get(_KEY)  # pyright: ignore[reportUnknownMemberType]  our own extra key
    if not isinstance(found, Exchange):
        found = Exchange()
        attach(scope, found)
    return found


def attach(scope: Scope, exchange: Exchange) -> None:
    """Note to which exchange a request belongs."""
    scope[_KEY] = exchange  # pyright: ignore[reportGeneralTypeIssues]  ASGI allows extra keys
