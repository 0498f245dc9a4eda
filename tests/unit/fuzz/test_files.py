"""Files that users upload, and the one of theirs that we write."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path

from tests.unit.fuzz.corpus import fuzz
from warren.cli import ssh_config
from warren.domain import archive
from warren.errors import Invalid, TooLarge
from warren.provisioner.archive import unpack
from warren.provisioner.parse import parse_folder


def unpacked(data: bytes) -> None:
    """Unpack an archive that passed the check, and see that nothing is outside of the folder or a link."""
    with tempfile.TemporaryDirectory(prefix="warren-fuzz-") as outer:
        folder = Path(outer, "inner")
        folder.mkdir()
        unpack(data, folder)
        assert [path.name for path in Path(outer).iterdir()] == ["inner"]
        assert not any(path.is_symlink() for path in folder.rglob("*"))


@fuzz("tar")
def test_a_tar_archive(data: bytes) -> None:
    try:
        archive.check(data)
    except (Invalid, TooLarge):
        return
    archive.check(archive.zip_to_tar(archive.tar_to_zip(data)))
    unpacked(data)


@fuzz("zip")
def test_a_zip_archive(data: bytes) -> None:
    try:
        tar = archive.zip_to_tar(data)
        archive.check(tar)
    except (Invalid, TooLarge):
        return
    unpacked(tar)


@fuzz("ssh_config")
def test_a_configuration_of_openssh(data: bytes) -> None:
    before = data.decode(errors="replace")
    section = ssh_config.section(ssh_config.Options(), ssh_config.Deployment("/bin/warren", "/home/me/.config"))
    try:
        after = ssh_config.replace(before, section)
    except Invalid:
        return
    outside = ssh_config.find(after)
    assert outside[1] in section
    assert ssh_config.replace(after, section) == after
    kept = ssh_config.find(before)
    assert after.startswith(kept[0])
    assert not kept[1] or after.endswith(kept[2])
    ssh_config.Options.read(kept[1])


@fuzz("ssh_option")
def test_nothing_that_a_server_says_becomes_another_line(data: bytes) -> None:
    key, _, rest = data.decode(errors="replace").partition("=")
    value, _, name = rest.partition("=")
    said = ssh_config.Deployment("/bin/warren", "/c", prefix=name, suffix=value, ssh_options={key: value})
    try:
        section = ssh_config.section(ssh_config.Options(ssh_options=(f"{key}={value}",)), said)
    except Invalid:
        return
    quiet = ssh_config.Deployment("/bin/warren", "/c", prefix="p." if name else "", suffix="s" if value else "")
    for line in section.split("\n"):
        assert first_word(line) in known(quiet) | {first_word(key)} or line.startswith("#"), line


def known(said: ssh_config.Deployment) -> set[str]:
    """Give the first words of the lines that we write by ourselves."""
    return {first_word(line) for line in ssh_config.section(ssh_config.Options(), said).split("\n")}


def first_word(line: str) -> str:
    """Give the word that says what a line sets."""
    return line.strip().partition(" ")[0].partition("=")[0].lower()


@fuzz("hcl")
def test_a_template(data: bytes) -> None:
    parsed_or_refused("main.tf", data)


@fuzz("terraform_json")
def test_a_template_in_json(data: bytes) -> None:
    parsed_or_refused("main.tf.json", data)


def parsed_or_refused(name: str, data: bytes) -> None:
    """Read a template of one file."""
    with tempfile.TemporaryDirectory(prefix="warren-fuzz-") as folder:
        Path(folder, name).write_bytes(data)
        with contextlib.suppress(Invalid):
            parse_folder(Path(folder))
