import io
import os
import tarfile
from pathlib import Path

import pytest

from warren.cli import archive
from warren.errors import Invalid, TooLarge


def names(packed: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        return [member.name + ("/" if member.isdir() else "") for member in tar]


def template(folder: Path, **files: str) -> Path:
    (folder / "main.tf").write_text("# template")
    for name, content in files.items():
        (folder / name).write_text(content)
    return folder


def test_leaves_out_hidden_files_state_and_secrets(tmp_path: Path) -> None:
    template(tmp_path)
    for name in (
        ".env",
        ".terraform.lock.hcl",
        "terraform.tfstate",
        "terraform.tfstate.backup",
        "terraform.tfvars",
        "prod.auto.tfvars",
        "prod.tfvars",
        "README.md",
    ):
        (tmp_path / name).write_text("x")
    for folder in (".terraform", "modules", "modules/a", ".git"):
        (tmp_path / folder).mkdir()
    (tmp_path / ".terraform/plugin").write_text("x")
    (tmp_path / "modules/a/main.tf").write_text("x")
    (tmp_path / "modules/a/.hidden").write_text("x")
    (tmp_path / "modules/a/.terraform.lock.hcl").write_text("x")
    assert sorted(names(archive.pack(tmp_path))) == [
        ".terraform.lock.hcl",
        "README.md",
        "main.tf",
        "modules/",
        "modules/a/",
        "modules/a/.terraform.lock.hcl",
        "modules/a/main.tf",
        "prod.tfvars",
    ]


def test_links_are_stored_not_followed(tmp_path: Path) -> None:
    template(tmp_path)
    (tmp_path / "link").symlink_to("/etc/passwd")
    (tmp_path / "up").symlink_to("..", target_is_directory=True)
    with tarfile.open(fileobj=io.BytesIO(archive.pack(tmp_path))) as tar:
        assert tar.getmember("link").issym()
        assert tar.getmember("up").issym()
        assert len(tar.getmembers()) == 3


def test_needs_a_terraform_file(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("x")
    with pytest.raises(Invalid, match=r"no \*\.tf file"):
        archive.pack(tmp_path)
    (tmp_path / "main.tf.json").write_text("{}")
    assert "main.tf.json" in names(archive.pack(tmp_path))


def test_limit(tmp_path: Path) -> None:
    template(tmp_path)
    (tmp_path / "large.txt").write_bytes(os.urandom(archive.LIMIT_BYTES))
    with pytest.raises(TooLarge, match="Archive too big"):
        archive.pack(tmp_path)
    (tmp_path / "large.txt").write_bytes(os.urandom(archive.LIMIT_BYTES - 20_000))
    assert len(archive.pack(tmp_path)) <= archive.LIMIT_BYTES


def test_same_files_make_the_same_archive(tmp_path: Path) -> None:
    template(tmp_path, b="2", a="1")
    assert archive.pack(tmp_path) == archive.pack(tmp_path)


def test_unpacks_what_it_packed_and_nothing_outside(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    archive.unpack(archive.pack(template(source, a="1")), target)
    assert (target / "a").read_text() == "1"
    evil = io.BytesIO()
    with tarfile.open(fileobj=evil, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("../outside"))
    with pytest.raises(tarfile.FilterError):
        archive.unpack(evil.getvalue(), target)
    assert not (tmp_path / "outside").exists()
