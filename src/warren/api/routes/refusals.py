"""Refusals that only these routes give, with statuses of their own."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

from litestar import Request

from warren.api import errors
from warren.api.json import JSONResponse
from warren.domain.template import StillImporting
from warren.errors import WarrenError
from warren.services.builds import PreconditionFailed
from warren.services.template_versions import TooEarly
from warren.services.workspaces import Deleted

STATUSES: Mapping[type[WarrenError], int] = {
    Deleted: 405,
    StillImporting: 406,
    PreconditionFailed: 412,
    TooEarly: 425,
}


def _refused(error: WarrenError) -> errors.Refused:
    return errors.Refused(STATUSES[type(error)], error.message, detail=error.detail, violations=error.violations)


# Litestar's request is generic in what nobody here uses.
def _respond(request: Request[Any, Any, Any], error: WarrenError) -> JSONResponse:
    return errors.respond(request, _refused(error))


# Litestar's map is invariant in both of its types.
HANDLERS: dict[int | type[Exception], Any] = dict.fromkeys(STATUSES, _respond)
"""The exception handlers of routers whose routes give these."""


@contextmanager
def refusing() -> Generator[None]:
    """Give the right status from a WebSocket, which exception handlers do not see."""
    try:
        yield
    except tuple(STATUSES) as error:
        raise _refused(error) from error
