"""The one table from errors to answers: status, and the body that clients know."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import structlog
from litestar import Request
from litestar.exceptions import (
    ClientException,
    HTTPException,
    MethodNotAllowedException,
    NotFoundException,
    SerializationException,
    ValidationException,
)
from litestar.types import Scope

from warren import errors
from warren.api.exchange import exchange_of
from warren.api.json import MEDIA_TYPE, JSONResponse
from warren.domain.token import SIGNED_OUT
from warren.sdk.types.base import Response, Validation

log = structlog.get_logger()

STATUS: Mapping[type[errors.WarrenError], int] = {
    errors.NotFound: 404,
    errors.Unauthenticated: 401,
    errors.Forbidden: 403,
    errors.Conflict: 409,
    errors.Invalid: 400,
    errors.Gone: 410,
    errors.TooLarge: 413,
    errors.RemoteProtocolError: 502,
    errors.RemoteError: 502,
    errors.Unavailable: 503,
}
INTERNAL = "An internal server error occurred."


class Refused(errors.WarrenError):
    """An answer with a status that only one route gives: 406, 412, 417, 425 and the like."""

    def __init__(
        self, status: int, message: str, *, detail: str = "", violations: tuple[errors.Violation, ...] = ()
    ) -> None:
        super().__init__(message, detail=detail, violations=violations)
        self.status = status


def status_of(error: errors.WarrenError) -> int:
    """Find the status of an error: that of the nearest class in the table."""
    if isinstance(error, Refused):
        return error.status
    return next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), 500)


def body_of(error: errors.WarrenError) -> Response:
    """Build the body of an error."""
    return Response(
        message=error.message,
        detail=error.detail,
        validations=[Validation(field=v.field, detail=v.detail) for v in error.violations],
    )


def answer(error: Exception, scope: Scope) -> JSONResponse:
    """Turn any error into an answer."""
    if isinstance(error, errors.WarrenError):
        return _answer_ours(error, scope)
    if isinstance(error, MethodNotAllowedException):
        return JSONResponse(b"", status_code=405, headers=error.headers, media_type="text/plain")
    if isinstance(error, NotFoundException):
        return _no_route(scope)
    if isinstance(error, HTTPException) and error.status_code < 500:
        return _json(400 if isinstance(error, ValidationException) else error.status_code, _client_error(error))
    if isinstance(error, SerializationException):
        return _json(400, Response(message="Request body must be valid JSON.", detail=str(error)))
    exchange = exchange_of(scope)
    log.error("request.failed", path=scope["path"], request_id=str(exchange.request_id), exc_info=error)
    return _json(500, Response(message=INTERNAL, detail=f"request {exchange.request_id}"))


def respond(request: Request[Any, Any, Any], error: Exception) -> JSONResponse:
    """Answer an HTTP request that failed. (Litestar's request is generic in what nobody here uses.)"""
    return answer(error, request.scope)


async def remember(error: Exception, scope: Scope) -> None:
    """Keep the error, so that the refusal of a WebSocket can carry it."""
    exchange_of(scope).error = error


def _answer_ours(error: errors.WarrenError, scope: Scope) -> JSONResponse:
    status = status_of(error)
    if status >= 500:
        log.warning("request.refused", path=scope["path"], status=status, error=error.message, detail=error.detail)
    headers: dict[str, str] = {}
    if status == 401 and error.message == SIGNED_OUT:
        headers["WWW-Authenticate"] = (
            'Bearer realm="coder", error="invalid_token", error_description="The access token has expired", '
            f'resource_metadata="{_origin(scope)}/.well-known/oauth-protected-resource"'
        )
    if status == 503:
        headers["Retry-After"] = "1"
    return _json(status, body_of(error), headers)


def _origin(scope: Scope) -> str:
    host = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"host"), "localhost")
    scheme = {"ws": "http", "wss": "https"}.get(scope["scheme"], scope["scheme"])
    return f"{scheme}://{host}"


def _json(status: int, body: Response, headers: Mapping[str, str] | None = None) -> JSONResponse:
    return JSONResponse(body, status_code=status, headers=headers, media_type=MEDIA_TYPE)


def _no_route(scope: Scope) -> JSONResponse:
    if scope["path"].startswith(("/api/", "/scim/")):
        return _json(404, Response(message="Route not found."))
    return JSONResponse("404 page not found\n", status_code=404, media_type="text/plain; charset=utf-8")


def _client_error(error: HTTPException) -> Response:
    """Say what is wrong with a request that could not be decoded."""
    if isinstance(error, ValidationException) and isinstance(error.extra, list):
        found = [_violation(item) for item in error.extra if isinstance(item, dict)]  # pyright: ignore[reportUnknownArgumentType]
        if found:
            return Response(message="Validation failed.", validations=found)
    if isinstance(error, ClientException) and error.status_code == 413:
        return Response(message="Request body too large.")
    if error.__cause__ is not None or "decod" in error.detail.lower() or "json" in error.detail.lower():
        return Response(message="Request body must be valid JSON.", detail=error.detail)
    return Response(message=error.detail)


def _violation(item: Mapping[str, Any]) -> Validation:
    message = str(item.get("message", ""))
    missing = "missing required field `"
    if missing in message:
        name = message.split(missing, 1)[1].split("`", 1)[0]
        return Validation(field=name, detail='Validation failed for tag "required" with value: ""')
    return Validation(field=str(item.get("key", "")), detail=message)
