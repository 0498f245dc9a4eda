"""`provisioner start`: a provisioner daemon of its own, which takes jobs from a server."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from typing_extensions import Unpack

from warren.cli import params
from warren.cli.command import command
from warren.cli.context import Context, org_option
from warren.errors import Invalid, Unauthenticated

if TYPE_CHECKING:
    from warren.provisioner.external import Place


class Options(TypedDict):
    """The flags of the command, as click hands them over."""

    cache_dir: str
    tag: tuple[str, ...]
    psk: str
    key: str
    name: str
    log_human: str
    log_json: str
    log_filter: tuple[str, ...]
    terraform_path: str
    terraform_download_url: str
    terraform_download_sha256: str
    coder_provider: str
    org: str


@command()
@params.option("--cache-dir", "-c", env="CACHE_DIRECTORY", default="", help="Folder for what may be lost.")
@params.strings("--tag", "-t", env="PROVISIONERD_TAGS", metavar="KEY=VALUE", help="Take only jobs with these tags.")
@params.option("--psk", env="PROVISIONER_DAEMON_PSK", default="", help="Key that the server was started with.")
@params.option("--key", env="PROVISIONER_DAEMON_KEY", default="", help="Key made by `provisioner keys create`.")
@params.option("--name", env="PROVISIONER_DAEMON_NAME", default="", help="Name of this daemon; else the host's.")
@params.option(
    "--log-human", env="PROVISIONER_DAEMON_LOGGING_HUMAN", default="/dev/stderr", help="Log for people to here."
)
@params.option("--log-json", env="PROVISIONER_DAEMON_LOGGING_JSON", default="", help="Log as JSON to here.")
@params.strings("--log-filter", "-l", env="PROVISIONER_DAEMON_LOG_FILTER", help="Log debug events whose names match.")
@params.option("--log-stackdriver", default="", expose_value=False, hidden=True)
@params.option("--poll-interval", env="PROVISIONERD_POLL_INTERVAL", default="", expose_value=False, hidden=True)
@params.option("--poll-jitter", env="PROVISIONERD_POLL_JITTER", default="", expose_value=False, hidden=True)
@params.option("--experiments", env="EXPERIMENTS", default="", expose_value=False, hidden=True)
@params.option("--terraform-path", env="TERRAFORM_PATH", default="", help="Terraform or OpenTofu to run.")
@params.option(
    "--terraform-download-url",
    env="TERRAFORM_DOWNLOAD_URL",
    default="https://releases.hashicorp.com/terraform",
    help="Where to fetch Terraform from, only if none is found; empty for nowhere.",
)
@params.option(
    "--terraform-download-sha256",
    env="TERRAFORM_DOWNLOAD_SHA256",
    default="",
    help="SHA-256 that the fetched archive must have.",
)
@params.option(
    "--coder-provider", env="CODER_PROVIDER", default="builtin", help="Provider coder/coder: builtin or registry."
)
@org_option
async def start(context: Context, **options: Unpack[Options]) -> None:
    """Run a provisioner daemon: take builds from a server and run Terraform for them here.

    It signs in with a key, a pre-shared key, or as the user who is logged in. SIGTERM lets the build in hand finish,
    Ctrl-C cancels it, and a second signal of either kind interrupts Terraform at once.
    """
    place = await _place(context, options)
    from warren import log
    from warren.provisioner import environment, external
    from warren.provisioner.binary import Release
    from warren.provisioner.model import CoderProvider
    from warren.provisioner.session import ProvisionerConfig

    try:
        provider = CoderProvider(options["coder_provider"])
    except ValueError:
        raise Invalid(f"`{options['coder_provider']}` is neither builtin nor registry") from None
    log.configure(
        log.LogSettings(
            human=options["log_human"],
            json=options["log_json"],
            verbose=context.options.verbose,
            filters=options["log_filter"],
        )
    )
    url = options["terraform_download_url"]
    config = ProvisionerConfig(
        cache=external.cache_of(_cache_folder(options["cache_dir"]), place.name),
        host_environment=dict(os.environ),
        terraform_path=Path(options["terraform_path"]) if options["terraform_path"] else None,
        release=Release(url, sha256=options["terraform_download_sha256"]) if url else None,
        coder_provider=provider,
        extra_path=environment.program_folder(),
    )
    await external.run(place, config)


async def _place(context: Context, options: Options) -> Place:
    """Find out where to connect, and as whom.

    Raises:
        Invalid: two credentials were given, or tags beside a key, which has its own.
        Unauthenticated: there are no credentials.
    """
    from warren import __version__
    from warren.domain.api_version import PROVISIONER_API
    from warren.provisioner.external import Place
    from warren.sdk.client_provisioners import KEY_HEADER, PSK_HEADER

    key, psk = options["key"], options["psk"]
    tags = params.key_values(options["tag"], "--tag")
    if key and psk:
        raise Invalid("--key and --psk cannot be used together")
    if key and tags:
        raise Invalid("--tag cannot be used with --key", hint="a key brings the tags that it was created with")
    if not context.url:
        raise Unauthenticated("no server is known", hint="name it with --url or CODER_URL, or log in")
    if key:
        client = context.client_for(context.url, headers={KEY_HEADER: key})
        organization = str((await client.provisioners.own_key()).organization)
    elif psk:
        client = context.client_for(context.url, headers={PSK_HEADER: psk})
        organization = options["org"] or "default"
    else:
        client = context.client
        organization = str((await context.organization(options["org"])).id)
    query = {
        "version": str(PROVISIONER_API),
        "name": _name(options["name"]),
        "provisioner": "terraform",
        "tag": [f"{name}={value}" for name, value in tags.items()],
    }
    return Place(
        url=client.websocket_url(f"/organizations/{organization}/provisionerdaemons/serve", query),
        headers={**client.headers, "X-Coder-Build-Version": f"v{__version__}"},
        tls=client.trust,
        name=_name(options["name"]),
    )


def _name(given: str) -> str:
    """Check the name, which also names a folder."""
    name = given or socket.gethostname()
    if len(name) > 64 or not name.replace("-", "").replace("_", "").replace(".", "").isalnum():
        raise Invalid(f"`{name}` is not a name for a daemon", hint="letters, digits, `-`, `_` and `.`, 64 at most")
    return name


def _cache_folder(given: str) -> Path:
    if given:
        return Path(given).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "coder"
