"""Certificate authorities of the lab: the relay's own, and that of a middlebox which opens TLS."""

from __future__ import annotations

import ipaddress
import ssl
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_NOT_BEFORE = datetime(2020, 1, 1, tzinfo=UTC)
_LIFETIME = timedelta(days=36500)
"""Certificates of the lab never expire: they end with it."""


@dataclass(frozen=True, slots=True)
class Authority:
    """Signs the certificates of one lab."""

    name: str
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def make(cls, name: str) -> Authority:
        """Make an authority with a key of its own."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = _builder(subject, subject, key).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        return cls(name, builder.sign(key, hashes.SHA256()), key)

    @property
    def pem(self) -> bytes:
        """Its certificate, for whoever is to trust it."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def server_context(self, host_name: str) -> ssl.SSLContext:
        """Make the TLS of a server with this name or address."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host_name)])
        builder = _builder(subject, self.certificate.subject, key).add_extension(
            x509.SubjectAlternativeName([_named(host_name)]), critical=False
        )
        certificate = builder.sign(self.key, hashes.SHA256())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with tempfile.TemporaryDirectory() as folder:  # OpenSSL reads them from files only
            path = Path(folder, "chain.pem")
            private = key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            path.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
            context.load_cert_chain(path)
        return context

    def client_context(self) -> ssl.SSLContext:
        """Make the TLS of a client that trusts this authority only."""
        return ssl.create_default_context(cadata=self.pem.decode())


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_NOT_BEFORE)
        .not_valid_after(_NOT_BEFORE + _LIFETIME)
    )


def _named(host_name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host_name))
    except ValueError:
        return x509.DNSName(host_name)
