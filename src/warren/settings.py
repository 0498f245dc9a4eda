# ruff: noqa: E501, RUF009
# A setting is one line of a table, however long; `_opt` makes no object that settings share.
"""Every setting an operator has: one line each, from which flags, variables, YAML keys and documentation follow.

A value comes from the flag, else the variable (`WARREN_<NAME>`, or the name that Coder gave to it), else the YAML file,
else the default. All mistakes are reported together.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import Field, dataclass, field, fields
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from warren.errors import Invalid, Violation

_STATS_LABELS = ("agent_name", "template_name", "username", "workspace_name")
_WEAK_SUITE = re.compile(r"RC4|DES|NULL|EXP|MD5|A(EC)?DH\b|^(ALL|LOW|COMPLEMENTOF)|CBC")
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h|d|w)")
_TRUE = frozenset({"1", "t", "true", "yes", "on"})
NOT_BUILT = " Not built yet: no other value than the default is accepted."
_FALSE = frozenset({"", "0", "f", "false", "no", "off"})


class Secret(str):
    """A text that no log and no error may show."""

    __slots__ = ()

    def __repr__(self) -> str:
        """Hide it."""
        return "<secret>"


def parse_duration(text: str) -> timedelta:
    """Read a duration in Go's syntax, with days and weeks."""
    rest = text.strip()
    sign = -1 if rest.startswith("-") else 1
    rest = rest.lstrip("+-")
    if rest == "0":
        return timedelta()
    parts = _PART.findall(rest)
    if not parts or "".join(number + unit for number, unit in parts) != rest:
        raise ValueError(f'"{text}" is not a duration such as 1h30m or 7d')
    return sign * timedelta(seconds=sum(float(number) * _UNITS[unit] for number, unit in parts))


def parse_bool(text: str) -> bool:
    """Read a truth value."""
    if text.strip().lower() in _TRUE:
        return True
    if text.strip().lower() in _FALSE:
        return False
    raise ValueError(f'"{text}" is neither true nor false')


def parse_list(text: str) -> list[str]:
    """Read comma-separated values."""
    return [part.strip() for row in csv.reader([text]) for part in row if part.strip()] if text else []


def parse_url(text: str) -> str:
    """Read an http or https URL; empty is none."""
    if not text:
        return ""
    url = urlsplit(text)
    if url.scheme not in ("http", "https") or not url.hostname:
        raise ValueError(f'"{text}" is not a URL such as https://warren.example.com')
    return text.rstrip("/")


def parse_coder_provider(text: str) -> str:
    """Read which Terraform provider to use."""
    if text not in ("builtin", "registry"):
        raise ValueError(f'"{text}" is neither builtin nor registry')
    return text


def parse_address(text: str) -> str:
    """Read `host:port`; empty is none."""
    if not text:
        return ""
    host, separator, port = text.rpartition(":")
    if not separator or not port.isdigit() or int(port) > 65535 or ("]" in host) != ("[" in host):
        raise ValueError(f'"{text}" is not an address such as 127.0.0.1:3000')
    return text


def one_of(*choices: str) -> Callable[[str], str]:
    """Read one of a few words."""

    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError(f'"{text}" is none of {", ".join(choices)}')
        return text

    return parse


@dataclass(frozen=True, slots=True)
class Option:
    """How a setting is called and read."""

    name: str
    parse: Callable[[str], object]
    default: object
    group: str
    help: str
    env: str
    yaml: str
    config: str
    short: str
    hidden: bool
    secret: bool
    flag: str
    planned: bool
    """Refused unless it is the default, since nothing heeds it yet."""
    inert: bool
    """Accepted for compatibility, and without any effect, as its help says."""

    @property
    def variables(self) -> Sequence[str]:
        """The environment variables that set it, the first that is set wins."""
        return [self.env.replace("CODER_", "WARREN_", 1), self.env]


@dataclass(frozen=True, slots=True)
class _Meta:
    parse: Callable[[str], object]
    group: str
    help: str
    env: str
    yaml: str
    config: str
    short: str
    hidden: bool
    flag: str
    planned: bool
    inert: bool


def _opt(
    default: Any,
    parse: Callable[[str], object],
    group: str,
    help: str,  # noqa: A002  what click calls it too
    *,
    yaml: str = "",
    config: str = "",
    env: str = "",
    short: str = "",
    hidden: bool = False,
    flag: str = "",
    planned: bool = False,
    inert: bool = False,
) -> Any:  # the type stands at the field, as with dataclasses.field
    meta = {"option": _Meta(parse, group, help, env, yaml, config, short, hidden, flag, planned, inert)}
    if isinstance(default, list):
        return field(default_factory=partial(list[str], default), metadata=meta)  # pyright: ignore[reportUnknownArgumentType]
    return field(default=default, metadata=meta)


NET, TLS, DERP, INTRO, LOGGING = "Networking", "TLS", "DERP", "Introspection", "Logging"
SESSIONS, PROVISIONING, STORAGE, CLIENT, MISC = "Sessions", "Provisioning", "Storage", "Client", "Other"
_HTTP = "networking.http"
_DAY, _HOUR, _MINUTE, _SECOND = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1), timedelta(seconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Every setting, by its name."""

    # One line a setting reads as the table that it is.
    # fmt: off
    access_url: str = _opt("", parse_url, NET, "The URL that users reach this server by; empty means its HTTP address.", yaml="networking.accessURL", config="access_url")
    wildcard_access_url: str = _opt("", str, NET, "Hosts of workspace apps, such as *.example.com.", yaml="networking.wildcardAccessURL", config="wildcard_access_url")
    docs_url: str = _opt("https://coder.com/docs", parse_url, NET, "Where links to documentation lead.", yaml="networking.docsURL", config="docs_url")
    redirect_to_access_url: bool = _opt(False, parse_bool, NET, "Redirect requests for other hosts to the access URL.", yaml="networking.redirectToAccessURL", config="redirect_to_access_url")
    http_address: str = _opt("127.0.0.1:3000", parse_address, NET, "Address to serve HTTP on; empty for none.", yaml=f"{_HTTP}.httpAddress", config="http_address")
    address: str = _opt("", parse_address, NET, "Former name of the HTTP address.", short="a", hidden=True)
    proxy_trusted_headers: list[str] = _opt([], parse_list, NET, "Headers that tell the client's address, believed from trusted origins.", yaml="networking.proxyTrustedHeaders", config="proxy_trusted_headers")
    proxy_trusted_origins: list[str] = _opt([], parse_list, NET, "Networks of proxies whose headers are believed.", yaml="networking.proxyTrustedOrigins", config="proxy_trusted_origins")
    secure_auth_cookie: bool | None = _opt(None, parse_bool, NET, "Send cookies over HTTPS only; by default if the access URL is https.", yaml="networking.secureAuthCookie", config="http_cookies.secure_auth_cookie")
    samesite_auth_cookie: str = _opt("lax", one_of("lax", "none", "strict"), NET, "SameSite of the session cookie.", yaml="networking.sameSiteAuthCookie", config="http_cookies.same_site")
    host_prefix_cookie: bool = _opt(False, parse_bool, NET, "Prefix the session cookie with __Host-; needs HTTPS.", yaml="networking.hostPrefixCookie", config="http_cookies.host_prefix")
    browser_only: bool = _opt(False, parse_bool, NET, "Refuse tunnels to workspaces: SSH, port forwarding, desktop applications.", yaml="networking.browserOnly", config="browser_only")
    additional_csp_policy: list[str] = _opt([], parse_list, NET, "More directives for the Content-Security-Policy.", yaml=f"{_HTTP}.additionalCSPPolicy", config="additional_csp_policy", planned=True)
    proxy_health_interval: timedelta = _opt(_MINUTE, parse_duration, NET, "How often workspace proxies are checked.", yaml=f"{_HTTP}.proxyHealthInterval", config="proxy_health_status_interval", planned=True)
    dangerous_allow_cors_requests: bool = _opt(False, parse_bool, NET, "Allow requests from any origin.", hidden=True, config="dangerous.allow_all_cors")
    cluster_host: str = _opt("", str, NET, "Accepted; replicas need nothing but their database.", yaml="networking.cluster.clusterHost", config="cluster.host", hidden=True, inert=True)

    tls_enable: bool = _opt(False, parse_bool, TLS, "Serve HTTPS.", yaml="networking.tls.enable", config="tls.enable")
    tls_address: str = _opt("127.0.0.1:3443", parse_address, TLS, "Address to serve HTTPS on.", yaml="networking.tls.address", config="tls.address")
    tls_redirect_http_to_https: bool = _opt(True, parse_bool, TLS, "Accepted; superseded by redirect-to-access-url.", yaml="networking.tls.redirectHTTP", config="tls.redirect_http", hidden=True, env="CODER_TLS_REDIRECT_HTTP_TO_HTTPS", inert=True)
    tls_cert_file: list[str] = _opt([], parse_list, TLS, "Certificates, PEM, with their chains.", yaml="networking.tls.certFiles", config="tls.cert_file")
    tls_key_file: list[str] = _opt([], parse_list, TLS, "Private keys of the certificates, in the same order.", yaml="networking.tls.keyFiles", config="tls.key_file")
    tls_client_ca_file: str = _opt("", str, TLS, "Authorities of client certificates.", yaml="networking.tls.clientCAFile", config="tls.client_ca_file")
    tls_client_auth: str = _opt("none", one_of("none", "request", "require-any", "verify-if-given", "require-and-verify"), TLS, "Whether clients show certificates.", yaml="networking.tls.clientAuth", config="tls.client_auth")
    tls_client_cert_file: str = _opt("", str, TLS, "Certificate for connections that the server makes.", yaml="networking.tls.clientCertFile", config="tls.client_cert_file", planned=True)
    tls_client_key_file: str = _opt("", str, TLS, "Key of that certificate.", yaml="networking.tls.clientKeyFile", config="tls.client_key_file", planned=True)
    tls_min_version: str = _opt("tls12", one_of("tls10", "tls11", "tls12", "tls13"), TLS, "Oldest version of TLS.", yaml="networking.tls.minVersion", config="tls.min_version")
    tls_ciphers: list[str] = _opt([], parse_list, TLS, "Cipher suites of TLS 1.2, by OpenSSL's names.", yaml="networking.tls.tlsCiphers", config="tls.supported_ciphers")
    tls_allow_insecure_ciphers: bool = _opt(False, parse_bool, TLS, "Let tls-ciphers name suites that are known to be weak.", yaml="networking.tls.tlsAllowInsecureCiphers", config="tls.allow_insecure_ciphers")
    strict_transport_security: int = _opt(0, int, TLS, "Seconds that browsers insist on HTTPS for; 0 for not at all.", yaml="networking.tls.strictTransportSecurity", config="strict_transport_security")
    strict_transport_security_options: list[str] = _opt([], parse_list, TLS, "includeSubDomains, preload.", yaml="networking.tls.strictTransportSecurityOptions", config="strict_transport_security_options")

    derp_server_enable: bool = _opt(True, parse_bool, DERP, "Run a relay in this server.", yaml="networking.derp.enable", config="derp.server.enable")
    derp_server_region_id: int = _opt(999, int, DERP, "Number of this relay's region.", yaml="networking.derp.regionID", config="derp.server.region_id", hidden=True)
    derp_server_region_code: str = _opt("coder", str, DERP, "Code of this relay's region.", yaml="networking.derp.regionCode", config="derp.server.region_code", hidden=True)
    derp_server_region_name: str = _opt("Coder Embedded Relay", str, DERP, "Name of this relay's region.", yaml="networking.derp.regionName", config="derp.server.region_name")
    stun_address: str = _opt(":3478", parse_address, DERP, "Where the STUN server of this server listens on UDP; without a host, where HTTP does; empty for none.", yaml="networking.derp.stunAddress", config="derp.server.stun_address")
    derp_server_stun_addresses: list[str] = _opt([], parse_list, DERP, "Further STUN servers that clients ask; `disable` for none, not even this server's own.", yaml="networking.derp.stunAddresses", config="derp.server.stun_addresses")
    derp_server_relay_url: str = _opt("", parse_url, DERP, "URL that other replicas reach this relay by.", yaml="networking.derp.relayURL", config="derp.server.relay_url", planned=True)
    derp_server_probe_interval: timedelta = _opt(_MINUTE, parse_duration, DERP, "How often this server asks its relay through the access URL whether it works; 0 for never.", yaml="networking.derp.probeInterval", config="derp.server.probe_interval")
    block_direct_connections: bool = _opt(False, parse_bool, DERP, "Relay everything.", env="CODER_BLOCK_DIRECT", yaml="networking.derp.blockDirect", config="derp.config.block_direct")
    derp_force_websockets: bool = _opt(False, parse_bool, DERP, "Reach relays by WebSocket.", yaml="networking.derp.forceWebSockets", config="derp.config.force_websockets")
    derp_config_url: str = _opt("", parse_url, DERP, "Where a map of relays is fetched, at start and on a timer.", yaml="networking.derp.url", config="derp.config.url")
    derp_config_path: str = _opt("", str, DERP, "File with a map of relays, read at start and on a timer.", yaml="networking.derp.configPath", config="derp.config.path")
    derp_config_interval: timedelta = _opt(_MINUTE, parse_duration, DERP, "How often that map is read again; 0 for never. One that cannot be used is warned of, and the last good one kept.", yaml="networking.derp.configInterval", config="derp.config.interval")

    prometheus_enable: bool = _opt(False, parse_bool, INTRO, "Serve metrics.", yaml="introspection.prometheus.enable", config="prometheus.enable")
    prometheus_address: str = _opt("127.0.0.1:2112", parse_address, INTRO, "Address to serve metrics on.", yaml="introspection.prometheus.address", config="prometheus.address")
    prometheus_collect_agent_stats: bool = _opt(False, parse_bool, INTRO, "Export statistics of agents.", yaml="introspection.prometheus.collect_agent_stats", config="prometheus.collect_agent_stats")
    prometheus_aggregate_agent_stats_by: list[str] = _opt(list(_STATS_LABELS), parse_list, INTRO, "Labels of agents' statistics.", yaml="introspection.prometheus.aggregate_agent_stats_by", config="prometheus.aggregate_agent_stats_by")
    prometheus_collect_db_metrics: bool = _opt(False, parse_bool, INTRO, "Export metrics of queries.", yaml="introspection.prometheus.collect_db_metrics", config="prometheus.collect_db_metrics", planned=True)
    pprof_enable: bool = _opt(False, parse_bool, INTRO, "Serve profiles.", yaml="introspection.pprof.enable", config="pprof.enable", planned=True)
    pprof_address: str = _opt("127.0.0.1:6060", parse_address, INTRO, "Accepted; no profiles are served.", yaml="introspection.pprof.address", config="pprof.address", inert=True)
    trace: bool = _opt(False, parse_bool, INTRO, "Export traces.", env="CODER_TRACE_ENABLE", yaml="introspection.tracing.enable", config="trace.enable", planned=True)
    log_filter: list[str] = _opt([], parse_list, LOGGING, "Events to log at debug level, as regular expressions; .* for all.", short="l", yaml="introspection.logging.filter", config="logging.log_filter")
    verbose: bool = _opt(False, parse_bool, LOGGING, "Log at debug level.", yaml="introspection.logging.verbose", config="verbose", hidden=True)
    log_human: str = _opt("/dev/stderr", str, LOGGING, "File for logs for people; empty for none.", env="CODER_LOGGING_HUMAN", yaml="introspection.logging.humanPath", config="logging.human")
    log_json: str = _opt("", str, LOGGING, "File for logs as JSON lines.", env="CODER_LOGGING_JSON", yaml="introspection.logging.jsonPath", config="logging.json")
    log_stackdriver: str = _opt("", str, LOGGING, "File for logs in Stackdriver's format.", env="CODER_LOGGING_STACKDRIVER", yaml="introspection.logging.stackdriverPath", config="logging.stackdriver")
    enable_terraform_debug_mode: bool = _opt(False, parse_bool, LOGGING, "Allow builds that log what Terraform does.", yaml="introspection.logging.enableTerraformDebugMode", config="enable_terraform_debug_mode", planned=True)
    health_check_refresh: timedelta = _opt(10 * _MINUTE, parse_duration, INTRO, "How long a health report is kept.", yaml="introspection.healthcheck.refresh", config="healthcheck.refresh")
    health_check_threshold_database: timedelta = _opt(timedelta(milliseconds=15), parse_duration, INTRO, "Database latency that is worth a warning.", yaml="introspection.healthcheck.thresholdDatabase", config="healthcheck.threshold_database")
    metrics_cache_refresh_interval: timedelta = _opt(4 * _HOUR, parse_duration, INTRO, "Accepted; figures are read when they are asked for.", hidden=True, config="metrics_cache_refresh_interval", inert=True)
    agent_stats_refresh_interval: timedelta = _opt(30 * _SECOND, parse_duration, INTRO, "How often agents report.", hidden=True, config="agent_stat_refresh_interval")
    telemetry: bool = _opt(False, parse_bool, INTRO, "Accepted; Warren sends none.", env="CODER_TELEMETRY_ENABLE", yaml="telemetry.enable", config="telemetry.enable", inert=True)
    telemetry_url: str = _opt("", str, INTRO, "Accepted; Warren sends none.", hidden=True, yaml="telemetry.url", config="telemetry.url", inert=True)

    session_duration: timedelta = _opt(_DAY, parse_duration, SESSIONS, "How long a browser's session lives without use.", yaml=f"{_HTTP}.sessionDuration", config="session_lifetime.default_duration")
    disable_session_expiry_refresh: bool = _opt(False, parse_bool, SESSIONS, "End sessions in use too.", yaml=f"{_HTTP}.disableSessionExpiryRefresh", config="session_lifetime.disable_expiry_refresh")
    default_token_lifetime: timedelta = _opt(7 * _DAY, parse_duration, SESSIONS, "How long keys of programs live.", yaml="defaultTokenLifetime", config="session_lifetime.default_token_lifetime")
    max_token_lifetime: timedelta = _opt(876600 * _HOUR, parse_duration, SESSIONS, "How long a token may live.", yaml=f"{_HTTP}.maxTokenLifetime", config="session_lifetime.max_token_lifetime")
    max_admin_token_lifetime: timedelta = _opt(168 * _HOUR, parse_duration, SESSIONS, "How long a token of an owner may live.", yaml=f"{_HTTP}.maxAdminTokenLifetime", config="session_lifetime.max_admin_token_lifetime")
    default_oauth_refresh_lifetime: timedelta = _opt(720 * _HOUR, parse_duration, SESSIONS, "How long refresh tokens live.", yaml="defaultOAuthRefreshLifetime", config="session_lifetime.refresh_default_duration", planned=True)
    disable_password_auth: bool = _opt(False, parse_bool, SESSIONS, "Refuse sign-in with a password.", yaml=f"{_HTTP}.disablePasswordAuth", config="disable_password_auth")
    terms_of_service_url: str = _opt("", parse_url, SESSIONS, "Terms to accept before signing in.", yaml="termsOfServiceURL", config="terms_of_service_url")
    api_rate_limit: int = _opt(512, int, SESSIONS, "Requests a minute; negative for no limit.", hidden=True, config="rate_limit.api")
    dangerous_disable_rate_limits: bool = _opt(False, parse_bool, SESSIONS, "No limits at all.", hidden=True, config="rate_limit.disable_all")

    provisioner_daemons: int = _opt(3, int, PROVISIONING, "Builds that this server runs at once; 0 for none.", yaml="provisioning.daemons", config="provisioner.daemons")
    terraform_path: str = _opt("", str, PROVISIONING, "Terraform or OpenTofu to run; empty to look on the PATH.", yaml="provisioning.terraformPath")
    terraform_download_url: str = _opt("https://releases.hashicorp.com/terraform", parse_url, PROVISIONING, "Where to fetch a pinned Terraform from, only if none is found; empty for nowhere.", yaml="provisioning.terraformDownloadURL")
    terraform_download_sha256: str = _opt("", str, PROVISIONING, "SHA-256 that the fetched archive must have; empty to believe what is published beside it.", yaml="provisioning.terraformDownloadSHA256")
    coder_provider: str = _opt("builtin", parse_coder_provider, PROVISIONING, "The coder/coder provider of templates: builtin (served by Warren) or registry (the published one).", yaml="provisioning.coderProvider")
    provisioner_types: list[str] = _opt(["terraform"], parse_list, PROVISIONING, "Kinds of provisioners.", yaml="provisioning.daemonTypes", config="provisioner.daemon_types", hidden=True, planned=True)
    provisioner_daemon_psk: Secret = _opt(Secret(), Secret, PROVISIONING, "Key that external provisioners may use.", config="provisioner.daemon_psk")
    provisioner_force_cancel_interval: timedelta = _opt(10 * _MINUTE, parse_duration, PROVISIONING, "How long a build may take to cancel.", yaml="provisioning.forceCancelInterval", config="provisioner.force_cancel_interval", planned=True)
    provisioner_daemon_poll_interval: timedelta = _opt(_SECOND, parse_duration, PROVISIONING, "Accepted; jobs are announced.", yaml="provisioning.daemonPollInterval", config="provisioner.daemon_poll_interval", inert=True)
    provisioner_daemon_poll_jitter: timedelta = _opt(timedelta(milliseconds=100), parse_duration, PROVISIONING, "Accepted; jobs are announced.", yaml="provisioning.daemonPollJitter", config="provisioner.daemon_poll_jitter", inert=True)
    autobuild_poll_interval: timedelta = _opt(_MINUTE, parse_duration, PROVISIONING, "How often schedules are looked at.", yaml="autobuildPollInterval", config="autobuild_poll_interval", hidden=True, planned=True)
    job_hang_detector_interval: timedelta = _opt(_MINUTE, parse_duration, PROVISIONING, "Accepted; leases find lost jobs sooner.", yaml="jobHangDetectorInterval", config="job_hang_detector_interval", hidden=True, inert=True)
    default_quiet_hours_schedule: str = _opt("CRON_TZ=UTC 0 0 * * *", str, PROVISIONING, "When workspaces may be stopped for maintenance.", env="CODER_QUIET_HOURS_DEFAULT_SCHEDULE", yaml="userQuietHoursSchedule.defaultQuietHoursSchedule", config="user_quiet_hours_schedule.default_schedule", planned=True)
    allow_custom_quiet_hours: bool = _opt(True, parse_bool, PROVISIONING, "Let users choose their own.", yaml="userQuietHoursSchedule.allowCustomQuietHours", config="user_quiet_hours_schedule.allow_user_custom", planned=True)
    workspace_prebuilds_reconciliation_interval: timedelta = _opt(_MINUTE, parse_duration, PROVISIONING, "How often prebuilt workspaces are looked after.", yaml="workspace_prebuilds.reconciliation_interval", config="workspace_prebuilds.reconciliation_interval", planned=True)
    allow_workspace_renames: bool = _opt(False, parse_bool, PROVISIONING, "Let workspaces be renamed.", yaml="allowWorkspaceRenames", config="allow_workspace_renames")

    postgres_url: Secret = _opt(Secret(), Secret, STORAGE, "PostgreSQL to use; empty for the built-in one.", env="CODER_PG_CONNECTION_URL", config="pg_connection_url")
    postgres_auth: str = _opt("password", one_of("password", "awsiamrds"), STORAGE, "How to sign in to PostgreSQL.", env="CODER_PG_AUTH", yaml="pgAuth", config="pg_auth", planned=True)
    postgres_conn_max_open: int = _opt(10, int, STORAGE, "Most connections to PostgreSQL.", env="CODER_PG_CONN_MAX_OPEN", yaml="pgConnMaxOpen", config="pg_conn_max_open")
    postgres_conn_max_idle: str = _opt("auto", str, STORAGE, "Accepted; idle connections are closed after a while.", env="CODER_PG_CONN_MAX_IDLE", yaml="pgConnMaxIdle", config="pg_conn_max_idle", inert=True)
    cache_dir: str = _opt("", str, STORAGE, "Folder for what may be lost; not shared between servers.", env="CODER_CACHE_DIRECTORY", yaml="cacheDir", config="cache_directory")
    ephemeral: bool = _opt(False, parse_bool, STORAGE, "Keep all data in a folder that is deleted at the end.", yaml="ephemeralDeployment", config="ephemeral_deployment", hidden=True)
    ssh_keygen_algorithm: str = _opt("ed25519", one_of("ed25519", "ecdsa", "rsa4096"), STORAGE, "Kind of users' keys for git.", yaml="sshKeygenAlgorithm", config="ssh_keygen_algorithm")
    audit_logs_retention: timedelta = _opt(timedelta(), parse_duration, STORAGE, "How long audit logs are kept; 0 for ever.", yaml="retention.audit_logs", config="retention.audit_logs", planned=True)
    connection_logs_retention: timedelta = _opt(timedelta(), parse_duration, STORAGE, "How long connection logs are kept; 0 for ever.", yaml="retention.connection_logs", config="retention.connection_logs")
    api_keys_retention: timedelta = _opt(7 * _DAY, parse_duration, STORAGE, "How long expired keys are kept.", yaml="retention.api_keys", config="retention.api_keys")
    workspace_agent_logs_retention: timedelta = _opt(7 * _DAY, parse_duration, STORAGE, "How long logs of old agents are kept.", yaml="retention.workspace_agent_logs", config="retention.workspace_agent_logs")

    workspace_hostname_suffix: str = _opt("coder", str, CLIENT, "Suffix of workspaces' host names.", yaml="client.workspaceHostnameSuffix", config="workspace_hostname_suffix")
    ssh_hostname_prefix: str = _opt("coder.", str, CLIENT, "Prefix of workspaces' host names.", yaml="client.sshHostnamePrefix", config="config_ssh.DeploymentName", hidden=True)
    ssh_config_options: list[str] = _opt([], parse_list, CLIENT, "Options for users' SSH configuration, as key=value.", yaml="client.sshConfigOptions", config="config_ssh.SSHConfigOptions")
    cli_upgrade_message: str = _opt("", str, CLIENT, "Shown to users whose client is of another version.", yaml="client.cliUpgradeMessage", config="cli_upgrade_message")
    web_terminal_renderer: str = _opt("canvas", one_of("canvas", "webgl", "dom"), CLIENT, "How browsers draw terminals.", yaml="client.webTerminalRenderer", config="web_terminal_renderer", planned=True)

    disable_path_apps: bool = _opt(False, parse_bool, MISC, "Serve workspace apps by host name only.", yaml="disablePathApps", config="disable_path_apps", planned=True)
    disable_owner_workspace_access: bool = _opt(False, parse_bool, MISC, "Keep owners out of others' workspaces.", yaml="disableOwnerWorkspaceAccess", config="disable_owner_workspace_exec")
    disable_workspace_sharing: bool = _opt(False, parse_bool, MISC, "Let nobody share workspaces.", yaml="disableWorkspaceSharing", config="disable_workspace_sharing")
    experiments: list[str] = _opt([], parse_list, MISC, "Features to try, or * for all.", yaml="experiments", config="experiments")
    update_check: bool = _opt(False, parse_bool, MISC, "Accepted; Warren asks nobody.", yaml="updateCheck", config="update_check", inert=True)
    swagger_enable: bool = _opt(False, parse_bool, MISC, "Serve the API's description.", yaml="enableSwagger", config="swagger.enable", planned=True)
    agent_fallback_troubleshooting_url: str = _opt("https://coder.com/docs/admin/templates/troubleshooting", parse_url, MISC, "Where users of unhealthy agents are sent.", yaml="agentFallbackTroubleshootingURL", config="agent_fallback_troubleshooting_url", hidden=True, planned=True)
    # fmt: on


def options() -> Sequence[Option]:
    """List every setting."""
    return [_option(each) for each in fields(Settings)]


def _option(each: Field[Any]) -> Option:
    meta = each.metadata["option"]
    assert isinstance(meta, _Meta)
    default = each.default_factory() if callable(each.default_factory) else each.default
    flag = meta.flag or each.name.replace("_", "-")
    return Option(
        name=each.name,
        parse=meta.parse,
        default=default,
        group=meta.group,
        help=meta.help + (NOT_BUILT if meta.planned else ""),
        env=meta.env or f"CODER_{flag.replace('-', '_').upper()}",
        yaml=meta.yaml,
        config=meta.config,
        short=meta.short,
        hidden=meta.hidden,
        secret=meta.parse is Secret,
        flag=flag,
        planned=meta.planned,
        inert=meta.inert,
    )


@dataclass(frozen=True, slots=True)
class Loaded:
    """The settings in force, and where each came from: `flag`, `env`, `yaml`, or empty for the default."""

    settings: Settings
    sources: Mapping[str, str]


def load(flags: Mapping[str, object], environment: Mapping[str, str], document: object) -> Loaded:
    """Read the settings.

    Raises:
        Invalid: with one violation for each that is malformed or unknown.
    """
    problems: list[Violation] = []
    yaml = _flatten(document, problems)
    values: dict[str, object] = {}
    sources: dict[str, str] = {}
    for option in options():
        source, where, raw = _find(option, flags, environment, yaml)
        if source:
            try:
                values[option.name] = option.parse(raw)
                sources[option.name] = source
            except ValueError as error:
                problems.append(Violation(where, "malformed" if option.secret else str(error)))
                continue
            if option.planned and values[option.name] != option.default:
                problems.append(Violation(where, "is not built yet; leave it out"))
    problems += [Violation(key, "there is no such setting") for key in yaml]
    problems += _contradictions(values)
    if problems:
        raise Invalid("the settings are not right:", violations=problems)
    return Loaded(Settings(**values), sources)  # pyright: ignore[reportArgumentType]  parsed by each field's own parser


def _find(
    option: Option, flags: Mapping[str, object], environment: Mapping[str, str], yaml: dict[str, str]
) -> tuple[str, str, str]:
    from_yaml = yaml.pop(option.yaml, None) if option.yaml else None
    if (given := flags.get(option.name)) is not None:
        return "flag", f"--{option.flag}", _text(given)
    for name in option.variables:
        if name in environment:
            return "env", name, environment[name]
    return ("", "", "") if from_yaml is None else ("yaml", option.yaml, from_yaml)


def _contradictions(values: Mapping[str, object]) -> list[Violation]:
    certificates, keys = _length(values.get("tls_cert_file")), _length(values.get("tls_key_file"))
    found: list[Violation] = []
    if certificates != keys:
        found.append(Violation("--tls-cert-file", "needs as many --tls-key-file"))
    if values.get("tls_enable") and not certificates:
        found.append(Violation("--tls-enable", "needs --tls-cert-file and --tls-key-file"))
    if values.get("http_address") == "" and not values.get("tls_enable"):
        found.append(Violation("--http-address", "is empty, and TLS is off: there is nothing to serve on"))
    if unknown := set(_texts(values.get("prometheus_aggregate_agent_stats_by"))) - set(_STATS_LABELS):
        found.append(Violation("--prometheus-aggregate-agent-stats-by", f"no labels: {', '.join(sorted(unknown))}"))
    if not values.get("tls_allow_insecure_ciphers"):
        weak = [suite for suite in _texts(values.get("tls_ciphers")) if _WEAK_SUITE.search(suite)]
        if weak:
            found.append(Violation("--tls-ciphers", f"weak: {', '.join(weak)}; see --tls-allow-insecure-ciphers"))
    return found + _of_cookies(values)


def _of_cookies(values: Mapping[str, object]) -> list[Violation]:
    """Browsers drop a `__Host-` cookie that is not Secure."""
    if not values.get("host_prefix_cookie"):
        return []
    secure = values.get("secure_auth_cookie")
    if secure is None:
        # Without an access URL it is this server's own address, which is https only where nothing else is served.
        url = str(values.get("access_url") or "")
        secure = url.startswith("https://") if url else values.get("http_address") == ""
    return [] if secure else [Violation("--host-prefix-cookie", "needs an https access URL, or --secure-auth-cookie")]


def _texts(value: object) -> list[str]:
    return [str(each) for each in value] if isinstance(value, list) else []  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]  of any items


def _length(value: object) -> int:
    return len(value) if isinstance(value, list) else 0  # pyright: ignore[reportUnknownArgumentType]  of any items


def _flatten(document: object, problems: list[Violation], prefix: str = "") -> dict[str, str]:
    """Turn nested YAML into `a.b.c` keys."""
    if document is None:
        return {}
    if not isinstance(document, dict):
        problems.append(Violation(prefix or "the YAML file", "must be a mapping"))
        return {}
    known = {option.yaml for option in options()}
    found: dict[str, str] = {}
    for name, value in document.items():  # pyright: ignore[reportUnknownVariableType]  any YAML document
        key = f"{prefix}.{name}" if prefix else str(name)  # pyright: ignore[reportUnknownArgumentType]
        if isinstance(value, dict) and key not in known:
            found.update(_flatten(value, problems, key))  # pyright: ignore[reportUnknownArgumentType]
        elif value is not None:
            found[key] = _text(value)  # pyright: ignore[reportUnknownArgumentType]
    return found


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return ",".join(f'"{item}"' if "," in str(item) else str(item) for item in value)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    return str(value)  # pyright: ignore[reportUnknownArgumentType]


def shown(value: object) -> object:
    """Turn a value into what JSON shows: durations are nanoseconds."""
    if isinstance(value, timedelta):
        return round(value.total_seconds() * 1e9)
    return value


def written(value: object) -> object:
    """Turn a value into what a YAML file holds."""
    return duration_text(value) if isinstance(value, timedelta) else value


def duration_text(value: timedelta) -> str:
    """Write a duration as Go does."""
    seconds = value.total_seconds()
    if seconds and abs(seconds) < 1:
        return f"{round(seconds * 1000)}ms"
    hours, rest = divmod(round(seconds), 3600)
    minutes, left = divmod(rest, 60)
    if hours:
        return f"{hours}h{minutes}m{left}s"
    return f"{minutes}m{left}s" if minutes else f"{left}s"


def to_yaml_tree(loaded: Loaded) -> dict[str, object]:
    """Nest the settings in force as a YAML file has them; secrets are left out."""
    tree: dict[str, object] = {}
    for option in options():
        if option.yaml and not option.secret:
            nest(tree, option.yaml, written(getattr(loaded.settings, option.name)))
    return tree


def nest(tree: dict[str, object], path: str, value: object) -> None:
    """Put a value into nested mappings."""
    *parents, last = path.split(".")
    for name in parents:
        inner = tree.setdefault(name, {})
        assert isinstance(inner, dict)
        tree = inner  # pyright: ignore[reportUnknownVariableType]
    tree[last] = value


def config_folder(environment: Mapping[str, str]) -> Path:
    """Say where the server keeps its data."""
    for name in ("WARREN_CONFIG_DIR", "CODER_CONFIG_DIR"):
        if value := environment.get(name):
            return Path(value).expanduser()
    return Path(environment.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "coderv2"
