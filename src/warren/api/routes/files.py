"""Files: `/files`."""

from __future__ import annotations

from typing import Any

from litestar import Request, Response, get, post

from warren.api.json import encode
from warren.api.params import path_uuid
from warren.authz.policy import Actor
from warren.domain.archive import MAX_ARCHIVE_BYTES
from warren.sdk.types.deployment import FileUploaded
from warren.services.files import Files


@post("/api/v2/files", status_code=201, request_max_body_size=MAX_ARCHIVE_BYTES + 1)
async def upload(request: Request[Any, Any, Any], actor: Actor, files: Files) -> Response[bytes]:
    """Upload an archive."""
    content_type = request.headers.get("content-type", "").partition(";")[0].strip()
    uploaded = await files.upload(actor, content_type, await request.body())
    return Response(
        encode(FileUploaded(hash=uploaded.id)),
        status_code=201 if uploaded.fresh else 200,
        media_type="application/json; charset=utf-8",
    )


@get("/api/v2/files/{file:str}")
async def download(request: Request[Any, Any, Any], file: str, actor: Actor, files: Files) -> Response[bytes]:
    """Download an archive; `format=zip` converts it."""
    found = await files.download(actor, path_uuid(file), request.query_params.get("format", ""))
    return Response(found.content, media_type=found.mimetype)


routes = [upload, download]
