"""Archives of templates: what is let through, what is not, and what is cut into pieces."""

from __future__ import annotations

import hashlib
import io
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest

from warren.domain import archive
from warren.errors import Invalid, RemoteProtocolError, TooLarge
from warren.provisioner import uploads
from warren.provisioner.archive import pack, unpack
from warren.rpc._pb import provisioner_pb2 as pb


def tar(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w") as target:
        for member, content in members:
            member.size = len(content)
            target.addfile(member, io.BytesIO(content))
    return output.getvalue()


def file(
    name: str, content: bytes = b"x", mode: int = 0o644, kind: bytes = tarfile.REGTYPE, link: str = ""
) -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.mode, member.type, member.linkname = mode, kind, link
    return member, content if kind == tarfile.REGTYPE else b""


def test_files_and_folders_come_out(tmp_path: Path) -> None:
    unpack(
        tar(
            file("./", kind=tarfile.DIRTYPE),
            file("a/", kind=tarfile.DIRTYPE, mode=0o755),
            file("a/run.sh", b"#!", 0o755),
            file("b/c/deep.tf", b"deep", 0),
        ),
        tmp_path,
    )
    assert (tmp_path / "a" / "run.sh").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "b" / "c" / "deep.tf").read_bytes() == b"deep"
    assert (tmp_path / "b" / "c" / "deep.tf").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x", "..", "a\\..\\x", "C:/x", "a/" * 70 + "x"])
def test_names_that_leave_are_refused(tmp_path: Path, name: str) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    with pytest.raises(Invalid, match="refusing to extract to non-local path"):
        unpack(tar(file(name)), inside)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["inside"]


def test_links_and_devices_are_left_out_and_never_followed(tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    unpack(
        tar(
            file("link", kind=tarfile.SYMTYPE, link=str(tmp_path)),
            file("hard", kind=tarfile.LNKTYPE, link="../secret"),
            file("pipe", kind=tarfile.FIFOTYPE),
            file("link/escaped"),
        ),
        inside,
    )
    assert not (tmp_path / "escaped").exists()
    assert (inside / "link" / "escaped").read_bytes() == b"x"
    assert sorted(path.name for path in inside.iterdir()) == ["link"]


def test_limits() -> None:
    with pytest.raises(TooLarge, match="one file of a template"):
        archive.check(tar(file("big", b"\0" * (archive.MAX_FILE_BYTES + 1))))
    with pytest.raises(TooLarge, match="entries"):
        archive.check(tar(*(file(f"{number}", b"") for number in range(archive.MAX_ENTRIES + 1))))
    archive.check(tar(file("just", b"\0" * archive.MAX_FILE_BYTES)))


@pytest.mark.parametrize("data", [b"no archive at all, but long enough" * 40, b"\x1f\x8b" + b"\0" * 600])
def test_what_is_no_tar_is_refused(data: bytes) -> None:
    with pytest.raises(Invalid):
        archive.check(data)


def test_a_cut_off_archive_is_refused() -> None:
    with pytest.raises(Invalid):
        archive.check(tar(file("a", b"x" * 5000))[:2000])


def zipped(members: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    output = io.BytesIO()
    with zipfile.ZipFile(output, "w", compression) as target:
        for name, content in members.items():
            target.writestr(name, content)
    return output.getvalue()


def test_zip_becomes_tar_and_back() -> None:
    converted = archive.zip_to_tar(zipped({"a/": b"", "a/main.tf": b"x"}))
    assert [(entry.path, entry.content) for entry in archive.entries(converted)] == [
        (PurePosixPath("a"), None),
        (PurePosixPath("a/main.tf"), b"x"),
    ]
    again = archive.zip_to_tar(archive.tar_to_zip(converted))
    assert list(archive.entries(again)) == list(archive.entries(converted))


def test_zip_bombs_and_bad_names_are_refused() -> None:
    with pytest.raises(TooLarge):
        archive.zip_to_tar(zipped({"bomb": b"\0" * (archive.MAX_FILE_BYTES + 1)}))
    with pytest.raises(TooLarge):
        archive.zip_to_tar(zipped({f"{number}": b"\0" * archive.MAX_FILE_BYTES for number in range(11)}))
    with pytest.raises(Invalid, match="non-local"):
        archive.zip_to_tar(zipped({"../x": b""}))
    with pytest.raises(Invalid, match="valid zip"):
        archive.zip_to_tar(b"PK no")


def test_packing_is_reproducible() -> None:
    assert pack([("a", b"1", 0o600)]) == pack([("a", b"1", 0o600)])


def pieces(data: bytes) -> Iterator[pb.ChunkPiece]:
    for message in uploads.messages(data):
        if message.HasField("chunk_piece"):
            yield message.chunk_piece


def announced(data: bytes) -> pb.DataUpload:
    return next(uploads.messages(data)).data_upload


@pytest.mark.parametrize("size", [0, 1, uploads.CHUNK_BYTES, uploads.CHUNK_BYTES + 1])
def test_a_file_in_pieces(size: int) -> None:
    data = bytes(range(256)) * (size // 256 + 1)
    data = data[:size]
    assembly = uploads.Assembly(announced(data))
    for piece in pieces(data):
        assert not assembly.complete
        assembly.add(piece)
    assert assembly.complete
    assert assembly.data() == data


def test_pieces_that_do_not_belong() -> None:
    data = b"x" * (uploads.CHUNK_BYTES + 1)
    first, second = pieces(data)
    assembly = uploads.Assembly(announced(data))
    with pytest.raises(RemoteProtocolError):
        assembly.add(second)
    with pytest.raises(RemoteProtocolError):
        assembly.add(next(pieces(b"other")))
    assembly.add(first)
    with pytest.raises(RemoteProtocolError):
        assembly.add(first)
    with pytest.raises(RemoteProtocolError):
        assembly.add(pb.ChunkPiece(data=b"xx", full_data_hash=second.full_data_hash, piece_index=1))


@pytest.mark.parametrize(
    "announcement",
    [
        pb.DataUpload(file_size=uploads.MAX_FILE_BYTES + 1, chunks=1, data_hash=b"h" * 32),
        pb.DataUpload(file_size=-1, chunks=0, data_hash=b"h" * 32),
        pb.DataUpload(file_size=1, chunks=-1, data_hash=b"h" * 32),
        pb.DataUpload(file_size=1, chunks=2, data_hash=b"h" * 32),
        pb.DataUpload(file_size=1, chunks=1, data_hash=b"short"),
    ],
)
def test_impossible_announcements(announcement: pb.DataUpload) -> None:
    with pytest.raises(RemoteProtocolError):
        uploads.Assembly(announcement)


def test_a_wrong_digest_is_noticed() -> None:
    digest = hashlib.sha256(b"y").digest()
    assembly = uploads.Assembly(pb.DataUpload(file_size=1, chunks=1, data_hash=digest))
    assembly.add(pb.ChunkPiece(data=b"x", full_data_hash=digest))
    with pytest.raises(RemoteProtocolError):
        assembly.data()
