"""JSON as clients expect it: `<`, `>` and `&` escaped, a newline at the end, UTF-8 named in the type."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from litestar import Request, Response
from litestar.exceptions import SerializationException
from litestar.types import Serializer

from warren.errors import NOT_JSON

MEDIA_TYPE = "application/json; charset=utf-8"
_encoder = msgspec.json.Encoder(uuid_format="canonical", decimal_format="number")
_ESCAPES = (
    (b"<", b"\\u003c"),
    (b">", b"\\u003e"),
    (b"&", b"\\u0026"),
    ("\u2028".encode(), b"\\u2028"),
    ("\u2029".encode(), b"\\u2029"),
)


def encode(content: object) -> bytes:
    """Encode a document. These characters stand only inside of strings, so that replacing bytes is enough."""
    data = _encoder.encode(content)
    for plain, escaped in _ESCAPES:
        if plain in data:
            data = data.replace(plain, escaped)
    return data + b"\n"


class JSONRequest(Request[Any, Any, Any]):
    """A request whose JSON is refused also where it is no text or has no end: Litestar takes that for our fault."""

    async def json(self) -> Any:
        """Decode the body."""
        try:
            return await super().json()
        except NOT_JSON as error:
            raise SerializationException(str(error)) from error


# Litestar's own classes are generic in what they hold, which is anything that can be encoded.
class JSONResponse(Response[Any]):
    """An answer with a JSON body, or with text or bytes when the handler says so."""

    def __init__(
        self,
        content: Any,
        *,
        status_code: int | None = None,
        headers: Mapping[str, str] | None = None,
        media_type: str | None = None,
        **rest: Any,
    ) -> None:
        super().__init__(content, status_code=status_code, headers=headers, media_type=media_type, **rest)

    def render(self, content: Any, media_type: str, enc_hook: Serializer | None = None) -> bytes:
        """Encode the body."""
        del enc_hook
        if isinstance(content, bytes):
            return content
        if isinstance(content, str) and not media_type.startswith("application/json"):
            return content.encode()
        return b"" if content is None else encode(content)
