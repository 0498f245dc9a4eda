"""Pack a template folder as upstream's client does: what is left out, what is a link, how large it may be."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from warren.errors import Invalid, TooLarge

LIMIT_BYTES = 1 << 20  # a template is text; more than this is a mistake, such as a provider binary
LOCK_FILE = ".terraform.lock.hcl"
SECRETS = ("terraform.tfvars", "terraform.tfvars.json")
SECRET_SUFFIXES = (".auto.tfvars", ".auto.tfvars.json")


def pack(folder: Path, *, limit_bytes: int = LIMIT_BYTES) -> bytes:
    """Make a tar of a template folder.

    Raises:
        Invalid: it is no folder, or holds no Terraform file.
        TooLarge: the archive would be over the limit.
    """
    if not folder.is_dir():
        raise Invalid(f"`{folder}` is not a folder")
    if not any(folder.glob("*.tf")) and not any(folder.glob("*.tf.json")):
        raise Invalid(f"`{folder}` has no *.tf file", hint="warren templates init makes a template to begin with")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path in _members(folder, folder):
            _add(tar, folder, path)
            if buffer.tell() > limit_bytes - 1:
                raise _too_large(limit_bytes)
    return _checked(buffer.getvalue(), limit_bytes)


def skipped(relative: PurePosixPath) -> bool:
    """Say whether a file stays out: hidden ones, state, and variable files that hold secrets."""
    name = relative.name
    if name == LOCK_FILE and not any(part.startswith(".") for part in relative.parent.parts):
        return False
    if str(relative).startswith(".") or name.startswith("."):
        return True
    return ".tfstate" in name or name in SECRETS or name.endswith(SECRET_SUFFIXES)


def _members(root: Path, folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if skipped(PurePosixPath(path.relative_to(root).as_posix())):
            continue
        yield path
        if path.is_dir() and not path.is_symlink():
            yield from _members(root, path)


def _add(tar: tarfile.TarFile, root: Path, path: Path) -> None:
    info = tar.gettarinfo(str(path), arcname=path.relative_to(root).as_posix())
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    if info.isreg():
        with path.open("rb") as file:
            tar.addfile(info, file)
    elif info.isdir() or info.issym():
        tar.addfile(info)


def _checked(archive: bytes, limit_bytes: int) -> bytes:
    # The end-of-archive padding of tarfile fills a 10 KiB record; only what carries data counts.
    if len(archive.rstrip(b"\0")) > limit_bytes - 1:
        raise _too_large(limit_bytes)
    return archive


def _too_large(limit_bytes: int) -> TooLarge:
    return TooLarge(
        f"Archive too big. Must be <= {limit_bytes} bytes", hint="a template holds text; fetch binaries in a build"
    )


def has_lock_file(folder: Path) -> bool:
    """Say whether provider versions are pinned."""
    return (folder / LOCK_FILE).is_file()


def unpack(archive: bytes, target: Path) -> None:
    """Unpack a template into a folder, writing nothing outside it."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extractall(target, filter="data")
