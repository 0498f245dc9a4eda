"""The certificates of a server: read and checked before anything starts."""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from warren._engine import TLSConfig
from warren.errors import Invalid, Violation

VERSIONS: Mapping[str, ssl.TLSVersion] = {
    "tls10": ssl.TLSVersion.TLSv1,
    "tls11": ssl.TLSVersion.TLSv1_1,
    "tls12": ssl.TLSVersion.TLSv1_2,
    "tls13": ssl.TLSVersion.TLSv1_3,
}


_CLIENT_AUTH: Mapping[str, str] = {
    "none": "none",
    "request": "optional",
    "verify-if-given": "optional",
    "require-any": "required",
    "require-and-verify": "required",
}

_VERIFY_MODES = {"none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}


@dataclass(frozen=True, slots=True)
class TLSSettings:
    """What an operator says about TLS; certificates and keys are paths, in the same order."""

    certificates: Sequence[str]
    keys: Sequence[str]
    min_version: str = "tls12"
    ciphers: Sequence[str] = ()
    client_ca_file: str = ""
    client_auth: str = "none"


def server_context(settings: TLSSettings, now: datetime) -> ssl.SSLContext:
    """Read certificates; with several, the first that fits the name a client asks for is shown.

    Raises:
        Invalid: a file cannot be read, does not fit or is out of date; all problems are told together.
    """
    problems = list(_problems(settings, now))
    if problems:
        raise Invalid("the server cannot serve TLS as it is set up:", violations=problems)
    pairs = zip(settings.certificates, settings.keys, strict=True)
    contexts = [_context(settings, certificate, key) for certificate, key in pairs]
    first = contexts[0]
    if len(contexts) > 1:
        names = [_names(path) for path in settings.certificates]

        def choose(connection: ssl.SSLObject | ssl.SSLSocket, name: str | None, _: ssl.SSLContext) -> None:
            for context, known in zip(contexts, names, strict=True):
                if name is not None and (name in known or f"*.{name.partition('.')[2]}" in known):
                    connection.context = context
                    return

        first.sni_callback = choose  # pyright: ignore[reportAttributeAccessIssue]  typed narrower than documented
    return first


def replace_certificates(held: ssl.SSLContext, new: ssl.SSLContext) -> None:
    """Let connections that come by a context in use be shown the certificates of another."""
    choose = new.sni_callback

    def use(connection: ssl.SSLObject | ssl.SSLSocket, name: str | None, context: ssl.SSLContext) -> None:
        connection.context = new
        if choose is not None:
            choose(connection, name, context)  # pyright: ignore[reportArgumentType]  typed narrower than documented

    held.sni_callback = use  # pyright: ignore[reportAttributeAccessIssue]  as above


def engine_config(settings: TLSSettings) -> TLSConfig:
    """Read certificates, which were checked before, for TLS in the engine.

    Raises:
        InvalidConfig: only OpenSSL can do what is asked for; the message says what.
    """
    pairs = [
        (Path(certificate).read_bytes(), Path(key).read_bytes(), sorted(_names(certificate)))
        for certificate, key in zip(settings.certificates, settings.keys, strict=True)
    ]
    return TLSConfig(
        pairs,
        # OpenSSL's own rules forbid what is older than TLS 1.2, whatever the setting says.
        tls13_only=settings.min_version == "tls13",
        ciphers=settings.ciphers,
        client_ca=Path(settings.client_ca_file).read_bytes() if settings.client_ca_file else b"",
        client_auth=_CLIENT_AUTH[settings.client_auth],
    )


def client_context(settings: TLSSettings) -> ssl.SSLContext:
    """Make what the server needs to call itself: it trusts what the system trusts, and its own certificates."""
    context = ssl.create_default_context()
    context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    for certificate in settings.certificates:
        context.load_verify_locations(certificate)
    return context


def _problems(settings: TLSSettings, now: datetime) -> Iterator[Violation]:
    for certificate, key in zip(settings.certificates, settings.keys, strict=True):
        yield from _problems_of_pair(settings, certificate, key, now)
    if settings.client_ca_file:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(settings.client_ca_file)
        except OSError as error:  # includes ssl.SSLError
            yield Violation("--tls-client-ca-file", f"cannot use {settings.client_ca_file}: {_reason(error)}")


def _problems_of_pair(settings: TLSSettings, certificate: str, key: str, now: datetime) -> Iterator[Violation]:
    found = [*_unreadable("--tls-cert-file", certificate), *_unreadable("--tls-key-file", key)]
    if found:
        yield from found
        return
    from cryptography import x509

    try:
        leaf = x509.load_pem_x509_certificate(Path(certificate).read_bytes())
    except ValueError:
        yield Violation("--tls-cert-file", f"{certificate} holds no certificate in PEM form")
        return
    if leaf.not_valid_after_utc < now:
        yield Violation("--tls-cert-file", f"{certificate} expired at {leaf.not_valid_after_utc:%Y-%m-%d %H:%M} UTC")
    if leaf.not_valid_before_utc > now:
        start = f"{leaf.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"
        yield Violation("--tls-cert-file", f"{certificate} is valid only from {start}; is the clock right?")
    try:
        _context(settings, certificate, key)
    except ssl.SSLError as error:
        yield _refusal(error, certificate, key, settings)


def _refusal(error: ssl.SSLError, certificate: str, key: str, settings: TLSSettings) -> Violation:
    if error.reason == "KEY_VALUES_MISMATCH":
        return Violation("--tls-key-file", f"{key} is not the key of {certificate}")
    if error.reason == "NO_CIPHER_MATCH":
        return Violation("--tls-ciphers", f"OpenSSL knows none of {', '.join(settings.ciphers)}")
    return Violation("--tls-key-file", f"cannot use {key} with {certificate}: {_reason(error)}")


def _unreadable(flag: str, path: str) -> Iterator[Violation]:
    try:
        Path(path).read_bytes()
    except OSError as error:
        yield Violation(flag, f"cannot read {path}: {_reason(error)}")


def _reason(error: OSError) -> str:
    return error.strerror or str(error)


def _no_password() -> str:
    """Answer where OpenSSL would ask on the terminal for the password of a key."""
    return ""


def _context(settings: TLSSettings, certificate: str, key: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = VERSIONS[settings.min_version]
    context.load_cert_chain(certificate, key, _no_password)
    if settings.ciphers:
        context.set_ciphers(":".join(settings.ciphers))
    if settings.client_ca_file:
        with suppress(OSError):  # told by `_problems`
            context.load_verify_locations(settings.client_ca_file)
    context.verify_mode = _VERIFY_MODES[_CLIENT_AUTH[settings.client_auth]]
    context.set_alpn_protocols(["http/1.1"])
    return context


def _names(path: str) -> frozenset[str]:
    """Read the names that a certificate is for."""
    from cryptography import x509

    certificate = x509.load_pem_x509_certificate(Path(path).read_bytes())
    with suppress(x509.ExtensionNotFound):
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        return frozenset(found.value.get_values_for_type(x509.DNSName))
    return frozenset()
