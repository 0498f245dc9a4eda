"""Our section in OpenSSH's configuration: read it, write it, replace it. No files, no network."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from warren.errors import Invalid

START = "# ------------START-CODER-----------"
END = "# ------------END-CODER------------"
HEADER = (
    "# This section is managed by coder. DO NOT EDIT.",
    "#",
    "# What is changed in here by hand is lost: the whole section is written",
    "# anew whenever `warren config-ssh` runs.",
    "#",
)
OPTIONS_TITLE = "# Last config-ssh options:"
_BREAKS = re.compile(r"[\r\n\0]")
CIPHERS = "aes128-gcm@openssh.com,aes256-gcm@openssh.com,aes128-ctr,aes256-ctr"
"""The processor's own, fastest first: left to itself OpenSSH before 10.0 takes slower ones."""
DEFAULTS = (
    "ConnectTimeout=0",
    "StrictHostKeyChecking=no",
    "UserKnownHostsFile=/dev/null",
    "LogLevel ERROR",
    f"Ciphers={CIPHERS}",
)


@dataclass(frozen=True, slots=True)
class Options:
    """What the user chose; `None` for a prefix or suffix means the deployment's."""

    wait: str = "auto"
    prefix: str | None = None
    suffix: str | None = None
    disable_autostart: bool = False
    no_wildcard: bool = False
    ssh_options: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    header_command: str = ""

    def lines(self) -> Iterator[str]:
        """Write the options that differ from the defaults, as the section records them."""
        if self.wait != "auto":
            yield f"# :wait={self.wait}"
        if self.prefix is not None:
            yield f"# :ssh-host-prefix={self.prefix}"
        if self.suffix is not None:
            yield f"# :hostname-suffix={self.suffix}"
        if self.disable_autostart:
            yield "# :disable-autostart=true"
        if self.no_wildcard:
            yield "# :no-wildcard=true"
        yield from (f"# :ssh-option={option}" for option in self.ssh_options)
        yield from (f"# :header={header}" for header in self.headers)
        if self.header_command:
            yield f"# :header-command={self.header_command}"

    @classmethod
    def read(cls, section: str) -> Options:
        """Read the options that a section records; unknown names are ignored."""
        values: dict[str, list[str]] = {}
        for line in section.splitlines():
            if line.startswith("# :"):
                name, _, value = line[3:].partition("=")
                values.setdefault(name, []).append(value)

        def last(name: str) -> str | None:
            return values[name][-1] if name in values else None

        return cls(
            wait=last("wait") or "auto",
            prefix=last("ssh-host-prefix"),
            suffix=last("hostname-suffix"),
            disable_autostart=last("disable-autostart") == "true",
            no_wildcard=last("no-wildcard") == "true",
            ssh_options=tuple(values.get("ssh-option", ())),
            headers=tuple(values.get("header", ())),
            header_command=last("header-command") or "",
        )


@dataclass(frozen=True, slots=True)
class Deployment:
    """What the server says and where our program is."""

    binary: str
    config_dir: str
    tls_files: Mapping[str, str] = field(default_factory=dict[str, str])
    """Flags of the certificates that a connection to the server needs, and their files."""
    prefix: str = "coder."
    suffix: str = ""
    ssh_options: Mapping[str, str] = field(default_factory=dict[str, str])


def section(
    options: Options, deployment: Deployment, *, workspaces: Sequence[str] = (), proxy_command: bool = True
) -> str:
    """Write the whole section, markers included. `workspaces` are named one by one where patterns are not wanted.

    Raises:
        Invalid: a path cannot be written, or options do not go together.
    """
    if not proxy_command and options.wait != "auto":
        raise Invalid("--wait does not go with --skip-proxy-command")
    recorded = list(options.lines())
    title = [OPTIONS_TITLE, *recorded, "#"] if recorded else []
    lines = [START, *HEADER, *title, *_hosts(options, deployment, workspaces, proxy_command=proxy_command), END]
    for line in lines:
        if broken := _BREAKS.search(line):
            # Else who says a part of a line, a server for one, could add any line.
            raise Invalid(f"{line!r} has {broken[0]!r} in it, which OpenSSH's configuration cannot hold")
    return "\n".join(lines) + "\n"


def _hosts(
    options: Options, deployment: Deployment, workspaces: Sequence[str], *, proxy_command: bool
) -> Iterator[str]:
    prefix = deployment.prefix if options.prefix is None else options.prefix
    suffix = deployment.suffix if options.suffix is None else options.suffix
    settings = merge(options.ssh_options, [f"{k} {v}" for k, v in deployment.ssh_options.items()], DEFAULTS)
    command = proxy(options, deployment)
    if prefix:
        for name in [f"{prefix}{name}" for name in workspaces] if options.no_wildcard else [f"{prefix}*"]:
            yield f"Host {name}"
            yield from (f"\t{setting}" for setting in settings)
            if proxy_command:
                yield f"\tProxyCommand {command} --ssh-host-prefix {prefix} %h"
    if suffix:
        for name in [f"{name}.{suffix}" for name in workspaces] if options.no_wildcard else [f"*.{suffix}"]:
            yield ""
            yield f"Host {name}"
            yield from (f"\t{setting}" for setting in settings)
            if proxy_command:
                yield ""
                yield f'Match host {name} !exec "{escaped(deployment.binary)} connect exists %h"'
                yield f"\tProxyCommand {command} --hostname-suffix {suffix} %h"


def proxy(options: Options, deployment: Deployment) -> str:
    """Write the command that OpenSSH runs for a connection, but for its last arguments."""
    words = [quoted(deployment.binary), "--global-config", quoted(deployment.config_dir)]
    for flag, path in deployment.tls_files.items():
        words += [flag, quoted(path)]
    for header in options.headers:
        words += ["--header", quoted(header, always=True)]
    if options.header_command:
        words += ["--header-command", quoted(options.header_command, always=True)]
    words += ["ssh", "--stdio"]
    if options.wait != "auto":
        words.append(f"--wait={options.wait}")
    if options.disable_autostart:
        words.append("--disable-autostart=true")
    return " ".join(words)


def merge(*groups: Sequence[str]) -> list[str]:
    """Join options, the first group winning over later ones; an empty value takes a key out of those."""
    merged: list[str] = []
    seen: set[str] = set()
    for group in groups:
        keys: set[str] = set()
        for option in group:
            key, value = split_option(option)
            if key.lower() in seen:
                continue
            keys.add(key.lower())
            if value:
                merged.append(option)
        seen |= keys
    return merged


def split_option(option: str) -> tuple[str, str]:
    """Split `Key=value` or `Key value`.

    Raises:
        Invalid: it has neither.
    """
    for index, char in enumerate(option):
        if char in "= ":
            return option[:index], option[index + 1 :].strip()
    raise Invalid(f"`{option}` is not an SSH option", hint="write it like ForwardAgent=yes")


def quoted(text: str, *, always: bool = False) -> str:
    """Write a word for OpenSSH's configuration, in quotes where it needs them.

    Raises:
        Invalid: it cannot be written.
    """
    if "\n" in text or "\r" in text:
        raise Invalid(f"{text!r} has a line break, which OpenSSH cannot read")
    if always or any(char in text for char in ' \t"'):
        return '"' + text.replace('"', '\\"') + '"'
    return text


def escaped(path: str) -> str:
    """Write a path inside a quoted command."""
    return f'\\"{path}\\"' if any(char in path for char in " \t") else path


def find(text: str) -> tuple[str, str, str]:
    """Split a configuration into what is before our section, the section (empty if there is none), and what is after.

    Raises:
        Invalid: the markers do not make one section.
    """
    starts, ends = text.count(START), text.count(END)
    if starts == ends == 0:
        return text, "", ""
    begin, finish = text.find(START), text.find(END)
    if starts != 1 or ends != 1 or begin > finish:
        raise Invalid(
            f"the SSH configuration has {starts} start and {ends} end markers of our section, or they are out of order",
            hint="repair the file by hand: one start marker, then one end marker",
        )
    finish += len(END)
    return text[:begin], text[begin:finish], text[finish:]


def replace(text: str, new_section: str) -> str:
    """Put a section in the place of the old one, or at the end; everything else stays byte for byte."""
    before, old, after = find(text)
    if not old:
        gap = "" if not before else "\n" if before.endswith("\n") else "\n\n"
        return before + gap + new_section
    return before + new_section.rstrip("\n") + after
