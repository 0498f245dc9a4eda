"""Files that users upload: the sources of template versions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast
from uuid import UUID

import anyio.to_thread
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from warren.authz.policy import Action, Actor, Object
from warren.clock import Clock
from warren.domain import archive
from warren.errors import Invalid, NotFound, TooLarge
from warren.storage import files
from warren.storage.files import TAR, Stored

ZIPS = frozenset({"application/zip", "application/x-zip-compressed"})
ZIP_FORMAT = "zip"


@dataclass(frozen=True, slots=True)
class Download:
    """A file's bytes, and what they are."""

    mimetype: str
    content: bytes


class Files:
    """The use cases of uploaded files."""

    def __init__(self, pool: AsyncConnectionPool, clock: Clock) -> None:
        self._pool, self._clock = pool, clock

    async def upload(self, actor: Actor, content_type: str, data: bytes) -> Stored:
        """Store an archive; a zip is stored as a tar.

        Raises:
            Invalid: it is of another type, damaged, or has names that leave the folder it is unpacked into.
            TooLarge: it is, or expands to, more than the limits allow.
        """
        actor.allow(Action.CREATE, Object("file", owner_id=actor.user_id))
        if content_type != TAR and content_type not in ZIPS:
            raise Invalid(f'Unsupported content type header "{content_type}".')
        if len(data) > archive.MAX_ARCHIVE_BYTES:
            raise TooLarge("Request body too large.", detail=f"at most {archive.MAX_ARCHIVE_BYTES} bytes are allowed")
        # A large archive takes a moment to read through; other requests go on meanwhile.
        content = await anyio.to_thread.run_sync(_as_tar, content_type, data)
        async with self._pool.connection() as db:
            return await files.store(db, content, actor.user_id, self._clock.now())

    async def download(self, actor: Actor, file_id: UUID, wanted_format: str) -> Download:
        """Read a file, as a zip archive when that is wanted.

        Raises:
            NotFound: there is none, or neither it nor a template that uses it is the caller's to read.
            Invalid: it cannot be converted.
        """
        async with self._pool.connection() as db:
            file = await files.get(db, file_id)
            if not actor.may(Action.READ, Object("file", id=file.id, owner_id=file.created_by)):
                await self._require_template(db, actor, file_id)
        if wanted_format == "":
            return Download(file.mimetype, file.content)
        if wanted_format != ZIP_FORMAT or file.mimetype != TAR:
            raise Invalid(f"Unsupported conversion from {file.mimetype} to {wanted_format}.")
        return Download("application/zip", await anyio.to_thread.run_sync(archive.tar_to_zip, file.content))

    async def _require_template(self, db: AsyncConnection, actor: Actor, file_id: UUID) -> None:
        for template_id, organization_id, users, groups in await files.template_acls(db, file_id):
            template = Object("template", template_id, organization_id, None, _acl(users), _acl(groups))
            if actor.may(Action.UPDATE, template):
                return
        raise NotFound


def _as_tar(content_type: str, data: bytes) -> bytes:
    if content_type in ZIPS:
        return archive.zip_to_tar(data)
    archive.check(data)
    return data


def _acl(stored: object) -> Mapping[str, Sequence[str]]:
    # The column holds a JSON object of lists, which only `authz` writes.
    return cast("Mapping[str, Sequence[str]]", stored)
