"""The scripts that start an agent in a workspace, one for each system and processor."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from warren.errors import Invalid

PLATFORMS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "linux": ("amd64", "arm64", "armv7"),
        "darwin": ("amd64", "arm64"),
        "windows": ("amd64", "arm64"),
    }
)

# Templates write `sh -c '${coder_agent.main.init_script}'`, so there must be no single quote in a script.
# `${ACCESS_URL}` (with a slash at its end) and `${AUTH_TYPE}` are replaced by the Terraform provider, in the text as
# a whole; so those two words must not appear with any other meaning. `@OS@` and `@ARCH@` are replaced here.
_UNIX = r"""#!/usr/bin/env sh
set -eux

# Stay a day after a failure, so that somebody can come in and look.
linger() {
	status=$?
	[ "$status" -ne 0 ] || return 0
	echo "The agent could not be started (exit code $status). Sleeping 24h so that this can be looked into."
	sleep 86400
}
trap linger EXIT

export CODER_AGENT_AUTH="${AUTH_TYPE}"
export CODER_AGENT_URL="${ACCESS_URL}"

# Where Warren is installed nothing needs to be fetched.
if command -v warren >/dev/null 2>&1; then
	exec warren agent
fi

BINARY_DIR="${BINARY_DIR:-$(mktemp -d -t coder.XXXXXX)}"
BINARY_URL="${ACCESS_URL}bin/coder-@OS@-@ARCH@"
cd "$BINARY_DIR"

# Fetch $BINARY_URL into ./coder; where the server refuses, say what it answered.
fetch() {
	if command -v curl >/dev/null 2>&1; then
		code=$(curl -sSL --compressed -o coder -w "%{http_code}" "$BINARY_URL") || return 1
		case "$code" in
		2??) return 0 ;;
		esac
		echo "error: the server answered $code to $BINARY_URL:"
		head -c 2000 coder
		echo
		return 1
	elif command -v wget >/dev/null 2>&1; then
		wget -q "$BINARY_URL" -O coder
	elif command -v busybox >/dev/null 2>&1; then
		busybox wget -q "$BINARY_URL" -O coder
	else
		echo "error: no download tool found, please install curl, wget or busybox wget"
		exit 127
	fi
}

while ! fetch; do
	echo "error: could not download the agent; trying again in 30 seconds"
	sleep 30
done
chmod +x coder

if [ -n "${USE_CAP_NET_ADMIN:-}" ]; then
	# With this capability the agent may enlarge its socket buffers.
	sudo -n setcap CAP_NET_ADMIN=+ep ./coder || echo "could not give the agent CAP_NET_ADMIN; going on without"
fi

if ! ./coder --version | head -n1 | grep -q Coder; then
	echo "error: what was downloaded from $BINARY_URL is not an agent"
	exit 2
fi
exec ./coder agent
"""

_WINDOWS = r"""$ErrorActionPreference = "Stop"
trap {
	Write-Error "The agent could not be started: $($_.Exception.Message)" -ErrorAction Continue
	Start-Sleep -Seconds 86400
}
# VS Code looks for a parent process of this name.
$binary = "$env:TEMP\sshd.exe"
while ($true) {
	try {
		[Net.ServicePointManager]::SecurityProtocol = [Net.SecurityProtocolType]::Tls12
		Invoke-WebRequest -UseBasicParsing -Uri "${ACCESS_URL}/bin/coder-windows-@ARCH@.exe" -OutFile $binary
		break
	} catch {
		Write-Output "error: could not download the agent; trying again in 30 seconds"
		Write-Output $_.Exception.Message
		Start-Sleep -Seconds 30
	}
}
if (Get-Command "Set-MpPreference" -ErrorAction SilentlyContinue) {
	Set-MpPreference -DisableRealtimeMonitoring $true -ErrorAction SilentlyContinue
	Add-MpPreference -ExclusionPath $binary -ErrorAction SilentlyContinue
}
$env:CODER_AGENT_AUTH = "${AUTH_TYPE}"
$env:CODER_AGENT_URL = "${ACCESS_URL}"
if (-not ((& $binary --version) -match "Coder")) {
	throw "what was downloaded is not an agent"
}
if (Get-Service -Name "cexecsvc" -ErrorAction SilentlyContinue) {
	& $binary agent
} else {
	Start-Process -FilePath $binary -ArgumentList "agent" -NoNewWindow
}
"""


def template(system: str, processor: str) -> str:
    """Give the script of a platform, with `${ACCESS_URL}` and `${AUTH_TYPE}` still to be replaced.

    Raises:
        Invalid: there is no agent for that platform.
    """
    if processor not in PLATFORMS.get(system, ()):
        raise Invalid(f"unknown os/arch: {system}/{processor}")
    script = _WINDOWS if system == "windows" else _UNIX
    return script.replace("@OS@", system).replace("@ARCH@", processor)


def render(system: str, processor: str, access_url: str, auth: str = "token") -> str:
    """Give the finished script that starts an agent of `access_url`.

    Raises:
        Invalid: there is no agent for that platform.
    """
    root = access_url.rstrip("/") + "/"
    return template(system, processor).replace("${ACCESS_URL}", root).replace("${AUTH_TYPE}", auth)


def environment() -> dict[str, str]:
    """Give all scripts as the variables in which the Terraform provider looks for them."""
    return {
        f"CODER_AGENT_SCRIPT_{system}_{processor}": template(system, processor)
        for system, processors in PLATFORMS.items()
        for processor in processors
    }
