"""The modules that `init` fetched: list them, and pack them to be kept with a template version."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from warren.provisioner.archive import pack as pack_files
from warren.provisioner.model import Module

MAX_PACKED_BYTES = 20 << 20
_FOLDER = Path(".terraform", "modules")
_LIST = _FOLDER / "modules.json"
_BLOCK = 512
_END_BYTES = 2 * _BLOCK  # an archive ends with two empty blocks


class _Entry(msgspec.Struct, frozen=True):
    key: str = msgspec.field(name="Key", default="")
    source: str = msgspec.field(name="Source", default="")
    version: str = msgspec.field(name="Version", default="")
    folder: str = msgspec.field(name="Dir", default="")


class _Entries(msgspec.Struct, frozen=True):
    modules: list[_Entry] = msgspec.field(name="Modules", default_factory=list[_Entry])


@dataclass(frozen=True, slots=True)
class Packed:
    """An archive of modules (empty: there are none), and those that did not fit."""

    archive: bytes
    skipped: tuple[str, ...]


def listed(job: Path) -> tuple[Module, ...]:
    """List the modules that the template in `job` calls."""
    return tuple(Module(entry.source, entry.version, entry.key) for entry in _read(job) if entry.source)


def pack(job: Path) -> Packed:
    """Pack the fetched modules, the smallest first, as many as fit."""
    sized: list[tuple[int, _Entry, list[Path]]] = []
    for entry in _read(job):
        if Path(entry.folder).is_relative_to(_FOLDER):
            files = sorted(_files(job / entry.folder))
            sized.append((sum(map(_packed_size, files)), entry, files))
    room = MAX_PACKED_BYTES - _END_BYTES
    chosen: list[Path] = []
    skipped: list[str] = []
    for size, entry, files in sorted(sized, key=lambda item: item[0]):
        if size > room:
            skipped.append(f"{entry.key}:{entry.source}")
            continue
        room -= size
        chosen.extend(files)
    if not chosen:
        return Packed(b"", tuple(skipped))
    paths = [*dict.fromkeys(chosen), job / _LIST]
    contents = ((path.relative_to(job).as_posix(), path.read_bytes(), path.stat().st_mode & 0o777) for path in paths)
    return Packed(pack_files(contents), tuple(skipped))


def _read(job: Path) -> list[_Entry]:
    path = job / _LIST
    if not path.is_file():
        return []
    return msgspec.json.decode(path.read_bytes(), type=_Entries).modules


def _files(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink() and ".git" not in path.relative_to(folder).parts:
            yield path


def _packed_size(path: Path) -> int:
    size = path.stat().st_size
    return _BLOCK + size + -size % _BLOCK
