"""The environment in which Terraform runs: the host's, cleaned, and the variables of the build."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from warren.domain import init_script
from warren.provisioner.coder_provider.parameter import environment_name, previous_environment_name
from warren.provisioner.model import BuildMetadata, Inputs, PrebuildStage

# Variables of ours must not reach templates: among them are secrets of the server.
_OURS = ("CODER_", "WARREN_")
_SHOWN = frozenset(
    {
        "TF_LOG",
        "TF_LOG_PATH",
        "TF_INPUT",
        "TF_DATA_DIR",
        "TF_WORKSPACE",
        "TF_IN_AUTOMATION",
        "TF_REGISTRY_DISCOVERY_RETRY",
        "TF_REGISTRY_CLIENT_TIMEOUT",
        "TF_CLI_CONFIG_FILE",
        "TF_IGNORE",
    }
)
_NO_TOKEN = hashlib.sha256(b"").hexdigest()


def of_host(host: Mapping[str, str], config_file: Path, extra_path: str) -> dict[str, str]:
    """Give what every Terraform command gets: the host's variables but ours, and our configuration file.

    A configuration of the operator (`TF_CLI_CONFIG_FILE`, or `~/.terraformrc`) is respected where it exists: it may
    name the only registry that can be reached.
    """
    result = {name: value for name, value in host.items() if not name.startswith(_OURS)}
    wanted = result.get("TF_CLI_CONFIG_FILE", "")
    if not (wanted and Path(wanted).is_file()):
        own = Path(result.get("HOME", "/nonexistent"), ".terraformrc")
        result["TF_CLI_CONFIG_FILE"] = str(own if own.is_file() else config_file)
    result["CHECKPOINT_DISABLE"] = "1"
    result["TF_IN_AUTOMATION"] = "1"
    if extra_path:
        result["PATH"] = f"{extra_path}:{result.get('PATH', '/usr/local/bin:/usr/bin:/bin')}"
    return result


def announcements(host: Mapping[str, str]) -> Iterator[str]:
    """Yield a line for each `TF_` variable that passes through, since it may surprise; secrets are not shown."""
    for name in sorted(host):
        if name.startswith("TF_"):
            value = host[name] if name in _SHOWN else "<value redacted>"
            yield f"terraform environment variable: {name}={value}"


def of_apply(metadata: BuildMetadata) -> dict[str, str]:
    """Give the variables of a build: what the provider reads, and what provisioners in templates may read."""
    owner = "CODER_WORKSPACE_OWNER"
    return {
        "CODER_AGENT_URL": metadata.access_url,
        "CODER_WORKSPACE_TRANSITION": metadata.transition.value,
        "CODER_WORKSPACE_NAME": metadata.workspace_name,
        "CODER_WORKSPACE_ID": metadata.workspace_id,
        "CODER_WORKSPACE_BUILD_ID": metadata.workspace_build_id,
        "CODER_WORKSPACE_TEMPLATE_ID": metadata.template_id,
        "CODER_WORKSPACE_TEMPLATE_NAME": metadata.template_name,
        "CODER_WORKSPACE_TEMPLATE_VERSION": metadata.template_version,
        owner: metadata.owner,
        f"{owner}_ID": metadata.owner_id,
        f"{owner}_NAME": metadata.owner_name,
        f"{owner}_EMAIL": metadata.owner_email,
        f"{owner}_GROUPS": json.dumps(list(metadata.owner_groups) or None),
        f"{owner}_RBAC_ROLES": json.dumps(
            [{"name": role.name, **({"org_id": role.org_id} if role.org_id else {})} for role in metadata.owner_roles]
            or None
        ),
        f"{owner}_SSH_PUBLIC_KEY": metadata.owner_ssh_public_key,
        f"{owner}_SSH_PRIVATE_KEY": metadata.owner_ssh_private_key,
        f"{owner}_SESSION_TOKEN": metadata.owner_session_token,
        f"{owner}_OIDC_ACCESS_TOKEN": metadata.owner_oidc_access_token,
        f"{owner}_LOGIN_TYPE": metadata.owner_login_type,
        "CODER_TASK_ID": metadata.task_id,
        "CODER_TASK_PROMPT": metadata.task_prompt,
        **_prebuild(metadata),
        **init_script.environment(),
    }


def of_plan(inputs: Inputs) -> dict[str, str]:
    """Give the variables of a plan: those of apply, the parameters, and the tokens of external services."""
    result = of_apply(inputs.metadata)
    for name, value in inputs.parameters.items():
        result[environment_name(name)] = value
    for name, value in inputs.previous_parameters.items():
        result[previous_environment_name(name)] = value
    for provider, token in inputs.external_auth_tokens.items():
        result[f"CODER_EXTERNAL_AUTH_ACCESS_TOKEN_{provider}"] = token
        result[f"CODER_GIT_AUTH_ACCESS_TOKEN_{provider}"] = token
    return result


def _prebuild(metadata: BuildMetadata) -> dict[str, str]:
    result: dict[str, str] = {}
    if metadata.prebuild_stage is PrebuildStage.CREATE:
        result["CODER_WORKSPACE_IS_PREBUILD"] = "true"
    if metadata.prebuild_stage is PrebuildStage.CLAIM:
        result["CODER_WORKSPACE_IS_PREBUILD_CLAIM"] = "true"
    tokens = metadata.running_agent_tokens
    for agent_id, token in tokens.items():
        # The published provider looks for the digest of no bytes, whatever the agent; so that is what one agent gets.
        digest = _NO_TOKEN if len(tokens) == 1 else hashlib.sha256(agent_id.encode()).hexdigest()
        result[f"CODER_RUNNING_WORKSPACE_AGENT_TOKEN_{digest}"] = token
    return result


def program_folder() -> str:
    """Say where `warren` is: templates may call it."""
    program = Path(sys.argv[0])
    return str(program.resolve().parent if program.name == "warren" else Path(sys.executable).parent)
