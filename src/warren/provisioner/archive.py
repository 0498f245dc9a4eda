"""Unpack template sources and pack files, with the checks of `warren.domain.archive`."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable
from pathlib import Path

from warren.domain.archive import entries

_UNPACKED_UID = 1000


def unpack(data: bytes, folder: Path) -> None:
    """Create the files of a tar archive below `folder`, which must be ours alone.

    Raises:
        Invalid: it is no tar archive, or tries to leave `folder`.
        TooLarge: it is over a limit.
    """
    for entry in entries(data):
        path = folder / entry.path
        if entry.content is None:
            path.mkdir(parents=True, exist_ok=True)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(entry.content)
        path.chmod(entry.mode | 0o600)


def pack(files: Iterable[tuple[str, bytes, int]]) -> bytes:
    """Pack files (path, content, mode) so that equal input gives equal bytes."""
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w") as archive:
        for name, content, mode in files:
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), mode
            member.uid = member.gid = _UNPACKED_UID
            archive.addfile(member, io.BytesIO(content))
    return output.getvalue()
