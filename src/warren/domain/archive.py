"""Decide what may come out of a template's archive: the limits, and the names that could escape."""

from __future__ import annotations

import io
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from warren.errors import Invalid, TooLarge

MAX_ARCHIVE_BYTES = 100 << 20  # an upload, and what a zip expands to
MAX_FILE_BYTES = 10 << 20  # one file of a template; longer ones are data that belongs elsewhere
MAX_ENTRIES = 20_000  # far more than any template has; a bomb of empty files has millions
MAX_DEPTH = 64
_NAME_BYTES = 255  # of one part of a path, which is all that file systems take
_STORED_AS = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
_BLOCK = 512


@dataclass(frozen=True, slots=True)
class Entry:
    """A file or folder (`content` is `None`) that an archive may create, below where it is unpacked."""

    path: PurePosixPath
    mode: int
    content: bytes | None

    @property
    def folder(self) -> bool:
        """Tell whether this is a folder."""
        return self.content is None


def entries(data: bytes) -> Iterator[Entry]:
    """Yield what a tar archive may create; links, devices and the like are left out.

    Raises:
        Invalid: it is no tar archive, or a name would leave the folder it is unpacked into.
        TooLarge: it holds more than the limits allow.
    """
    total = count = 0
    kinds: dict[PurePosixPath, bool] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
            for member in archive:
                count += 1
                if count > MAX_ENTRIES:
                    raise TooLarge(f"the archive has more than {MAX_ENTRIES} entries")
                path = checked_path(member.name)
                if not (member.isdir() or member.isreg()) or path == PurePosixPath():
                    continue
                _check_kind(kinds, path, folder=member.isdir())
                if member.isdir():
                    yield Entry(path, member.mode & 0o777, None)
                    continue
                total += member.size
                _check_size(member.name, member.size, total)
                source = archive.extractfile(member)
                yield Entry(path, member.mode & 0o777 or 0o600, source.read() if source else b"")
    # Headers that announce headers are read one inside the other.
    except (tarfile.TarError, EOFError, OverflowError, ValueError, RecursionError) as error:
        raise Invalid("the file is not a valid tar archive", detail=str(error)) from error


def _check_kind(kinds: dict[PurePosixPath, bool], path: PurePosixPath, *, folder: bool) -> None:
    """Note what is at a path and above it, and refuse what is a file and a folder at once."""
    if kinds.setdefault(path, folder) != folder or not all(kinds.setdefault(each, True) for each in path.parents):
        raise Invalid(f'"{path}" or what it is in is both a file and a folder')


def checked_path(name: str) -> PurePosixPath:
    """Give a member's path below the folder it is unpacked into.

    Raises:
        Invalid: the name is absolute, climbs out, or cannot be a file name.
    """
    path = PurePosixPath(name)
    try:
        too_long = any(len(part.encode()) > _NAME_BYTES for part in path.parts)
    except UnicodeEncodeError as error:
        raise Invalid(f"{name!r} is not a name in UTF-8") from error
    if too_long:
        raise Invalid(f'"{name[:_NAME_BYTES]}…" has a part of more than {_NAME_BYTES} bytes')
    refused = name.startswith(("/", "\\")) or ".." in path.parts or "\0" in name or "\\" in name
    windows_drive = len(name) > 1 and name[1] == ":"
    if refused or windows_drive or len(path.parts) > MAX_DEPTH:
        raise Invalid(f'refusing to extract to non-local path "{name}"')
    return path


def zip_to_tar(data: bytes) -> bytes:
    """Turn a zip archive into the tar we store.

    Raises:
        Invalid: it is no zip archive, or a name would leave the folder it is unpacked into.
        TooLarge: it expands to more than the limits allow.
    """
    output = io.BytesIO()
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as source, tarfile.open(fileobj=output, mode="w") as target:
            _copy(source, target)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise Invalid("the file is not a valid zip archive", detail=str(error)) from error
    return output.getvalue()


def tar_to_zip(data: bytes) -> bytes:
    """Turn the tar we store into a zip archive.

    Raises:
        Invalid: the tar is not valid.
    """
    output = io.BytesIO()
    with zipfile.ZipFile(output, "w", zipfile.ZIP_DEFLATED) as target:
        # Of what is there twice the last counts, as when it is unpacked.
        for entry in {entry.path: entry for entry in entries(data)}.values():
            described = zipfile.ZipInfo(f"{entry.path}/" if entry.folder else str(entry.path))
            kind = stat.S_IFDIR if entry.folder else stat.S_IFREG
            described.external_attr = (kind | entry.mode) << 16
            described.compress_type = zipfile.ZIP_DEFLATED
            target.writestr(described, entry.content or b"")
    return output.getvalue()


def check(data: bytes) -> None:
    """Check a whole tar archive as an upload.

    Raises:
        Invalid: it is not a tar archive, or a name would leave the folder it is unpacked into.
        TooLarge: it is over a limit.
    """
    if len(data) > MAX_ARCHIVE_BYTES:
        raise TooLarge(f"the archive has {len(data)} bytes; at most {MAX_ARCHIVE_BYTES} are allowed")
    for _entry in entries(data):
        pass


def _copy(source: zipfile.ZipFile, target: tarfile.TarFile) -> None:
    total = 0
    infos = source.infolist()
    if len(infos) > MAX_ENTRIES:
        raise TooLarge(f"the archive has more than {MAX_ENTRIES} entries")
    for info in infos:
        path = checked_path(info.filename)
        mode = info.external_attr >> 16
        if path == PurePosixPath() or (mode and stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR)):
            continue
        if info.compress_type not in _STORED_AS:
            raise Invalid(f'"{info.filename}" is compressed in a way that few can read; only deflate is accepted')
        member = tarfile.TarInfo(str(path) + ("/" if info.is_dir() else ""))
        member.mode = stat.S_IMODE(mode) or (0o755 if info.is_dir() else 0o644)
        if info.is_dir():
            member.type = tarfile.DIRTYPE
            target.addfile(member)
            continue
        # The header may lie about the size: never read more than we would accept.
        with source.open(info) as stream:
            content = stream.read(MAX_FILE_BYTES + 1)
        total += len(content) + _BLOCK
        _check_size(info.filename, len(content), total)
        member.size = len(content)
        target.addfile(member, io.BytesIO(content))


def _check_size(name: str, size: int, total: int) -> None:
    if size > MAX_FILE_BYTES:
        raise TooLarge(f'"{name}" has more than the {MAX_FILE_BYTES} bytes that one file of a template may have')
    if total > MAX_ARCHIVE_BYTES:
        raise TooLarge(f"the archive expands to more than {MAX_ARCHIVE_BYTES} bytes")
