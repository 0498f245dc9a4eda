"""The host keys of a workspace: the same for the same owner, workspace and agent, however often it is rebuilt.

They protect nothing (the tunnel does), they only keep clients from asking about a changed key. So their random source
may be seeded with a hash of three names. There is an Ed25519 key, made in no time, and an RSA key for old clients.
"""

from __future__ import annotations

import hashlib
import math
import random

_FNV_BASIS = 0xCBF29CE484222325
_FNV_PRIME = 0x100000001B3
_EXPONENT = 65537
_PRIME_BITS = 1024
_SMALL_PRIMES = [number for number in range(3, 2000, 2) if all(number % d for d in range(3, math.isqrt(number) + 1, 2))]


def seed_for(owner: str, workspace: str, agent: str) -> int:
    """Hash the three names with FNV-1a to a signed 64-bit number."""
    value = _FNV_BASIS
    for byte in b"\0".join(name.encode() for name in (owner, workspace, agent)):
        value = (value ^ byte) * _FNV_PRIME & 0xFFFFFFFFFFFFFFFF
    return value - (1 << 64) if value >> 63 else value


def ed25519_pem(seed: int) -> bytes:
    """Make the Ed25519 key that belongs to `seed`, in OpenSSH's PEM form."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ed25519

    secret = hashlib.sha256(b"warren host key" + seed.to_bytes(8, "big", signed=True)).digest()
    return ed25519.Ed25519PrivateKey.from_private_bytes(secret).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )


def rsa_pem(seed: int) -> bytes:
    """Generate the RSA key that belongs to `seed`, in OpenSSH's PEM form; takes a third of a second."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    source = random.Random(seed)  # noqa: S311 - it must repeat, see above
    p = _prime(source)
    q = _prime(source)
    while q == p:
        q = _prime(source)
    d = pow(_EXPONENT, -1, (p - 1) * (q - 1))
    numbers = rsa.RSAPrivateNumbers(
        p=p,
        q=q,
        d=d,
        dmp1=d % (p - 1),
        dmq1=d % (q - 1),
        iqmp=pow(q, -1, p),
        public_numbers=rsa.RSAPublicNumbers(_EXPONENT, p * q),
    )
    return numbers.private_key().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )


def _prime(source: random.Random) -> int:
    while True:
        candidate = source.getrandbits(_PRIME_BITS) | 1 << (_PRIME_BITS - 1) | 1 << (_PRIME_BITS - 2) | 1
        if math.gcd(_EXPONENT, candidate - 1) == 1 and _probably_prime(candidate, source):
            return candidate


def _probably_prime(candidate: int, source: random.Random) -> bool:
    """Test with small primes, then Miller-Rabin with five bases: enough for random candidates of this size."""
    if any(candidate % prime == 0 for prime in _SMALL_PRIMES):
        return False
    odd, twos = candidate - 1, 0
    while odd % 2 == 0:
        odd, twos = odd >> 1, twos + 1
    return all(_passes(candidate, source.randrange(2, candidate - 1), odd, twos) for _ in range(5))


def _passes(candidate: int, base: int, odd: int, twos: int) -> bool:
    value = pow(base, odd, candidate)
    if value in (1, candidate - 1):
        return True
    for _ in range(twos - 1):
        value = value * value % candidate
        if value == candidate - 1:
            return True
    return False
