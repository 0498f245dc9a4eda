"""Keys for git over SSH."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from warren.domain.user import GitSSHKey
from warren.errors import Invalid

ALGORITHMS = ("ed25519", "ecdsa", "rsa4096")


def generate(user_id: UUID, algorithm: str, now: datetime) -> GitSSHKey:
    """Make a key pair for a user.

    Raises:
        Invalid: no such algorithm.
    """
    match algorithm:
        case "ed25519":
            private = ed25519.Ed25519PrivateKey.generate()
        case "ecdsa":
            private = ec.generate_private_key(ec.SECP256R1())
        case "rsa4096":
            private = rsa.generate_private_key(public_exponent=65537, key_size=4096)
        case _:
            raise Invalid(f'unknown key algorithm "{algorithm}"', hint=f"one of {', '.join(ALGORITHMS)}")
    private_text = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    public = private.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return GitSSHKey(user_id, private_text.decode(), public.decode() + "\n", now, now)
