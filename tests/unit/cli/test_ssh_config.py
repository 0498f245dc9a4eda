import pytest
from hypothesis import given
from hypothesis import strategies as st
from inline_snapshot import snapshot

from warren.cli import ssh_config
from warren.cli.ssh_config import Deployment, Options
from warren.errors import Invalid

DEPLOYMENT = Deployment(binary="/usr/bin/warren", config_dir="/home/a/.config/coderv2", prefix="coder.", suffix="coder")


def test_section() -> None:
    assert ssh_config.section(Options(), DEPLOYMENT) == snapshot("""\
# ------------START-CODER-----------
# This section is managed by coder. DO NOT EDIT.
#
# What is changed in here by hand is lost: the whole section is written
# anew whenever `warren config-ssh` runs.
#
Host coder.*
	ConnectTimeout=0
	StrictHostKeyChecking=no
	UserKnownHostsFile=/dev/null
	LogLevel ERROR
	Ciphers=aes128-gcm@openssh.com,aes256-gcm@openssh.com,aes128-ctr,aes256-ctr
	ProxyCommand /usr/bin/warren --global-config /home/a/.config/coderv2 ssh --stdio --ssh-host-prefix coder. %h

Host *.coder
	ConnectTimeout=0
	StrictHostKeyChecking=no
	UserKnownHostsFile=/dev/null
	LogLevel ERROR
	Ciphers=aes128-gcm@openssh.com,aes256-gcm@openssh.com,aes128-ctr,aes256-ctr

Match host *.coder !exec "/usr/bin/warren connect exists %h"
	ProxyCommand /usr/bin/warren --global-config /home/a/.config/coderv2 ssh --stdio --hostname-suffix coder %h
# ------------END-CODER------------
""")


def test_section_with_options() -> None:
    options = Options(wait="yes", prefix="dev.", suffix="", ssh_options=("ForwardAgent=yes",))
    deployment = Deployment("/my tools/w", "/c", ssh_options={"ForwardAgent": "no", "Compression": "yes"})
    assert ssh_config.section(options, deployment) == snapshot("""\
# ------------START-CODER-----------
# This section is managed by coder. DO NOT EDIT.
#
# What is changed in here by hand is lost: the whole section is written
# anew whenever `warren config-ssh` runs.
#
# Last config-ssh options:
# :wait=yes
# :ssh-host-prefix=dev.
# :hostname-suffix=
# :ssh-option=ForwardAgent=yes
#
Host dev.*
	ForwardAgent=yes
	Compression yes
	ConnectTimeout=0
	StrictHostKeyChecking=no
	UserKnownHostsFile=/dev/null
	LogLevel ERROR
	Ciphers=aes128-gcm@openssh.com,aes256-gcm@openssh.com,aes128-ctr,aes256-ctr
	ProxyCommand "/my tools/w" --global-config /c ssh --stdio --wait=yes --ssh-host-prefix dev. %h
# ------------END-CODER------------
""")


def test_section_without_wildcard_names_workspaces() -> None:
    section = ssh_config.section(Options(no_wildcard=True), DEPLOYMENT, workspaces=["a", "b"])
    assert [line for line in section.splitlines() if line.startswith(("Host", "Match"))] == snapshot(
        [
            "Host coder.a",
            "Host coder.b",
            "Host a.coder",
            'Match host a.coder !exec "/usr/bin/warren connect exists %h"',
            "Host b.coder",
            'Match host b.coder !exec "/usr/bin/warren connect exists %h"',
        ]
    )


@pytest.mark.parametrize(
    "options",
    [
        Options(),
        Options(wait="no"),
        Options(prefix="", suffix="x"),
        Options(ssh_options=("A=b", "C=d"), headers=("X=y",), header_command="echo a=b", disable_autostart=True),
        Options(no_wildcard=True),
    ],
)
def test_reads_back_the_options_it_recorded(options: Options) -> None:
    assert Options.read(ssh_config.section(options, DEPLOYMENT)) == options


def test_unknown_recorded_options_are_ignored() -> None:
    assert Options.read("# :wait=yes\n# :from-the-future=1\n") == Options(wait="yes")


def test_first_value_of_a_key_wins_and_an_empty_one_removes_it() -> None:
    merged = ssh_config.merge(["loglevel=", "A=1"], ["a 2", "B 3"], ["LogLevel ERROR", "ConnectTimeout=0"])
    assert merged == ["A=1", "B 3", "ConnectTimeout=0"]


def test_a_key_may_come_twice_in_one_group() -> None:
    assert ssh_config.merge(["SendEnv=A", "SendEnv=B"], ["SendEnv=C"]) == ["SendEnv=A", "SendEnv=B"]


@given(before=st.text(alphabet="ab# \n", max_size=20), after=st.text(alphabet="ab# \n", max_size=20))
def test_replacing_keeps_everything_else_byte_for_byte(before: str, after: str) -> None:
    old = ssh_config.section(Options(), DEPLOYMENT)
    new = ssh_config.section(Options(wait="no"), DEPLOYMENT)
    replaced = ssh_config.replace(before + old + after, new)
    assert replaced == before + new + after
    assert ssh_config.replace(replaced, new) == replaced


@pytest.mark.parametrize("before", ["", "Host x\n", "Host x"])
def test_a_first_section_goes_to_the_end(before: str) -> None:
    section = ssh_config.section(Options(), DEPLOYMENT)
    text = ssh_config.replace(before, section)
    assert text.startswith(before)
    assert text.endswith(section)
    assert ssh_config.replace(text, section) == text


@pytest.mark.parametrize(
    "text",
    [
        ssh_config.START,
        ssh_config.END,
        f"{ssh_config.END}\n{ssh_config.START}",
        f"{ssh_config.START}\n{ssh_config.END}\n{ssh_config.START}\n{ssh_config.END}",
    ],
)
def test_broken_markers_are_refused(text: str) -> None:
    with pytest.raises(Invalid, match="markers"):
        ssh_config.replace(text, "")


def test_paths_that_cannot_be_written_are_refused() -> None:
    with pytest.raises(Invalid, match="line break"):
        ssh_config.section(Options(), Deployment("/a\nb", "/c"))
    with pytest.raises(Invalid, match="--wait"):
        ssh_config.section(Options(wait="yes"), DEPLOYMENT, proxy_command=False)
