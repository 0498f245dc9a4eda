"""The HTTP application: routes, what handlers are given, errors.

A handler names what it needs: any field of `Parts`, `actor` (the user who asks), `session` (with the key), or
`agent_token`. `create_app` is the application of routes, `complete_app` what a server serves.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import fields
from typing import Any

from litestar import Litestar
from litestar.di import Provide
from litestar.exceptions import HTTPException
from litestar.exceptions.base_exceptions import LitestarDeprecationWarning
from litestar.types import ASGIApp

from warren.api import auth, errors, routes
from warren.api.gate import Gate, Observe
from warren.api.json import JSONRequest, JSONResponse
from warren.api.parts import Parts

BODY_BYTES = 4 << 20  # of ordinary requests; uploads say so themselves


def create_app(parts: Parts) -> Litestar:
    """Build the application of all routes."""
    given: dict[str, Provide] = {
        field.name: Provide(_constant(getattr(parts, field.name)), sync_to_thread=False) for field in fields(parts)
    }
    given["actor"] = Provide(auth.actor, sync_to_thread=False)
    given["session"] = Provide(auth.session, sync_to_thread=False)
    given["agent_token"] = Provide(auth.agent_token, sync_to_thread=False)
    with warnings.catch_warnings():
        # Litestar 3 will want dependencies marked one by one; the version is pinned below it.
        warnings.simplefilter("ignore", LitestarDeprecationWarning)
        return _litestar(given)


def _litestar(given: dict[str, Provide]) -> Litestar:
    return Litestar(
        route_handlers=[handler for module in routes.ROUTES for handler in module.routes],
        dependencies=given,
        request_class=JSONRequest,
        response_class=JSONResponse,
        exception_handlers={Exception: errors.respond, HTTPException: errors.respond},
        after_exception=[errors.remember],
        openapi_config=None,
        logging_config=None,
        request_max_body_size=BODY_BYTES,
    )


def complete_app(parts: Parts, observe: Observe) -> ASGIApp:
    """Build what a server serves: the routes behind the gate."""
    return Gate(create_app(parts), parts.sessions, parts.clock, parts.gate_settings, observe)


def _constant(value: Any) -> Callable[[], Any]:
    """Give the same object each time; services are of many types."""

    def give() -> Any:
        return value

    return give
