"""The environment of Terraform, and the scripts that start agents."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from warren.domain import init_script
from warren.errors import Invalid
from warren.provisioner import environment
from warren.provisioner.model import BuildMetadata, Inputs, PrebuildStage, Role, Transition

CONFIG = Path("/cache/terraform.rc")


def test_secrets_of_the_server_do_not_reach_templates() -> None:
    host = {"PATH": "/bin", "CODER_PG_PASSWORD": "x", "WARREN_POSTGRES_URL": "y", "HOME": "/nowhere", "OTHER": "kept"}
    result = environment.of_host(host, CONFIG, "/venv/bin")
    assert result["PATH"] == "/venv/bin:/bin"
    assert result["OTHER"] == "kept"
    assert not [name for name in result if name.startswith(("CODER_", "WARREN_"))]
    assert result["TF_CLI_CONFIG_FILE"] == str(CONFIG)


def test_a_configuration_of_the_operator_is_used_where_it_exists(tmp_path: Path) -> None:
    assert environment.of_host({"TF_CLI_CONFIG_FILE": "/missing"}, CONFIG, "")["TF_CLI_CONFIG_FILE"] == str(CONFIG)
    theirs = tmp_path / ".terraformrc"
    theirs.write_text("")
    assert environment.of_host({"HOME": str(tmp_path)}, CONFIG, "")["TF_CLI_CONFIG_FILE"] == str(theirs)
    assert environment.of_host({"TF_CLI_CONFIG_FILE": str(theirs)}, CONFIG, "")["TF_CLI_CONFIG_FILE"] == str(theirs)


def test_what_passes_through_is_announced_without_secrets() -> None:
    host = {"TF_LOG": "debug", "TF_VAR_password": "hush", "PATH": "/bin"}
    assert list(environment.announcements(host)) == [
        "terraform environment variable: TF_LOG=debug",
        "terraform environment variable: TF_VAR_password=<value redacted>",
    ]


def test_variables_of_a_plan() -> None:
    metadata = BuildMetadata(
        access_url="https://x",
        transition=Transition.DESTROY,
        owner_groups=("Everyone",),
        owner_roles=(Role("owner"), Role("org", "1")),
        prebuild_stage=PrebuildStage.CLAIM,
        running_agent_tokens={"agent": "token"},
    )
    inputs = Inputs(metadata, {"p": ""}, {"p": "old"}, external_auth_tokens={"git": "t"})
    result = environment.of_plan(inputs)
    digest = hashlib.sha256(b"p").hexdigest()
    assert result["CODER_WORKSPACE_TRANSITION"] == "destroy"
    assert result[f"CODER_PARAMETER_{digest}"] == ""
    assert result[f"CODER_PARAMETER_PREVIOUS_{digest}"] == "old"
    assert json.loads(result["CODER_WORKSPACE_OWNER_RBAC_ROLES"]) == [{"name": "owner"}, {"name": "org", "org_id": "1"}]
    assert result["CODER_WORKSPACE_OWNER_GROUPS"] == '["Everyone"]'
    assert result["CODER_EXTERNAL_AUTH_ACCESS_TOKEN_git"] == result["CODER_GIT_AUTH_ACCESS_TOKEN_git"] == "t"
    assert result[f"CODER_RUNNING_WORKSPACE_AGENT_TOKEN_{hashlib.sha256(b'').hexdigest()}"] == "token"
    assert result["CODER_WORKSPACE_IS_PREBUILD_CLAIM"] == "true"
    assert "CODER_WORKSPACE_IS_PREBUILD" not in result
    assert f"CODER_PARAMETER_{digest}" not in environment.of_apply(metadata)


def test_there_is_a_script_for_each_platform() -> None:
    assert sorted(init_script.environment()) == [
        "CODER_AGENT_SCRIPT_darwin_amd64",
        "CODER_AGENT_SCRIPT_darwin_arm64",
        "CODER_AGENT_SCRIPT_linux_amd64",
        "CODER_AGENT_SCRIPT_linux_arm64",
        "CODER_AGENT_SCRIPT_linux_armv7",
        "CODER_AGENT_SCRIPT_windows_amd64",
        "CODER_AGENT_SCRIPT_windows_arm64",
    ]
    with pytest.raises(Invalid, match="plan9/amd64"):
        init_script.render("plan9", "amd64", "https://x")


def test_the_script_is_finished() -> None:
    script = init_script.render("linux", "arm64", "https://x.example:8443")
    assert 'CODER_AGENT_URL="https://x.example:8443/"' in script
    assert "https://x.example:8443/bin/coder-linux-arm64" in script
    assert 'CODER_AGENT_AUTH="token"' in script
    for platform in init_script.PLATFORMS:
        text = init_script.render(platform, "amd64", "https://x")
        assert "${ACCESS_URL}" not in text
        assert "@ARCH@" not in text
        assert "'" not in text  # templates quote it so


@pytest.fixture
def bin_folder(tmp_path: Path) -> Path:
    """Have only the tools that the script needs, in a folder of their own."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("sh", "env", "mktemp", "chmod", "head", "grep", "cat", "sleep"):
        found = shutil.which(name)
        assert found
        (folder / name).symlink_to(found)
    return folder


def program(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def run(folder: Path, tmp_path: Path, seconds: float = 5) -> str:
    script = init_script.render("linux", "amd64", "http://127.0.0.1:9")
    work = tmp_path / "work"
    work.mkdir(exist_ok=True)
    process = subprocess.Popen(
        [str(folder / "sh"), "-c", script],
        env={"PATH": str(folder), "BINARY_DIR": str(work), "CODER_AGENT_TOKEN": "t"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        return process.communicate(timeout=seconds)[0].decode()
    except subprocess.TimeoutExpired:  # it waits, as it should
        os.killpg(process.pid, signal.SIGKILL)
        return process.communicate()[0].decode()


def test_warren_on_the_path_is_used(bin_folder: Path, tmp_path: Path) -> None:
    program(bin_folder / "warren", 'echo "ran $* at $CODER_AGENT_URL as $CODER_AGENT_AUTH"')
    assert "ran agent at http://127.0.0.1:9/ as token" in run(bin_folder, tmp_path)


def test_the_agent_is_downloaded_and_checked(bin_folder: Path, tmp_path: Path) -> None:
    program(bin_folder / "agent", '[ "$1" = --version ] && echo Coder v1 && exit; echo "started $*"')
    program(bin_folder / "curl", f'cat "{bin_folder}/agent" >coder; printf 200')
    assert "started agent" in run(bin_folder, tmp_path)


def test_the_reason_of_the_server_is_shown(bin_folder: Path, tmp_path: Path) -> None:
    program(bin_folder / "curl", 'printf "no such build of the agent" >coder; printf 404')
    output = run(bin_folder, tmp_path, seconds=1)
    assert "the server answered 404 to http://127.0.0.1:9/bin/coder-linux-amd64" in output
    assert "no such build of the agent" in output
    assert "trying again in 30 seconds" in output


def test_what_is_no_agent_is_not_run(bin_folder: Path, tmp_path: Path) -> None:
    program(bin_folder / "curl", 'printf "#!/bin/sh\\necho hello\\n" >coder; printf 200')
    output = run(bin_folder, tmp_path, seconds=1)
    assert "is not an agent" in output
    assert "exit code 2" in output
