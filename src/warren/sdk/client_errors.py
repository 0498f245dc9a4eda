"""Turn an error answer of the API into an error of ours."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from warren.errors import (
    NOT_JSON,
    Conflict,
    Forbidden,
    Gone,
    Invalid,
    NotFound,
    RemoteError,
    TooLarge,
    Unauthenticated,
    Unavailable,
    Violation,
    WarrenError,
)
from warren.sdk.types.base import Response

_BY_STATUS: Mapping[int, type[WarrenError]] = {
    400: Invalid,
    401: Unauthenticated,
    403: Forbidden,
    404: NotFound,
    410: Gone,
    413: TooLarge,
    429: Unavailable,
    502: Unavailable,
    503: Unavailable,
    504: Unavailable,
}
CONFLICTS = frozenset({405, 406, 409, 412, 417, 425, 428})


def from_answer(status: int, headers: Mapping[str, str], body: bytes) -> WarrenError:
    """Make the error for an answer whose status is not a success; message and fields come from its JSON body."""
    lowered = {name.lower(): value for name, value in headers.items()}
    response = _decode(status, lowered.get("content-type", ""), body)
    violations = [Violation(item.field, item.detail) for item in response.validations]
    kind = Conflict if status in CONFLICTS else _BY_STATUS.get(status)
    if kind is None:
        error: WarrenError = RemoteError(response.message, code=status)
        error.detail = response.detail
        return error
    hint = "warren login" if kind is Unauthenticated else ""
    return kind(response.message, detail=response.detail, violations=violations, hint=hint)


def _decode(status: int, content_type: str, body: bytes) -> Response:
    if "json" in content_type:
        try:
            return msgspec.json.decode(body, type=Response)
        except NOT_JSON:
            pass  # told below, as any answer that is not ours
    text = body[:400].decode("utf-8", "replace").strip()
    return Response(message=f"unexpected non-JSON response with status {status}", detail=text)
