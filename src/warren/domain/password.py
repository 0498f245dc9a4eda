"""Passwords: how strong one must be. Hashing is in `services.passwords`, which may wait."""

from __future__ import annotations

import math

from warren.errors import Invalid, Violation

MINIMUM_BITS = 52.0
LONGEST_BYTES = 64

_GROUPS = (
    ("using lowercase letters", "abcdefghijklmnopqrstuvwxyz"),
    ("using uppercase letters", "ABCDEFGHIJKLMNOPQRSTUVWXYZ"),
    ("using numbers", "0123456789"),
)
_REPLACEABLE = "!@$&*"
_SEPARATORS = "_-., "
_OTHER_SPECIAL = "\"#%'()+/:;<=>?[\\]^{|}~`"
_SEQUENCES = ("0123456789", "qwertyuiop", "asdfghjkl", "zxcvbnm", "abcdefghijklmnopqrstuvwxyz")


def entropy_bits(password: str) -> float:
    """Estimate how hard a password is to guess: characters that are no run, times the bits of its alphabet."""
    alphabet = _alphabet_size(password)
    return 0.0 if alphabet == 0 else math.log2(alphabet) * _useful_length(password)


def problem(password: str) -> str:
    """Say why a password is not good enough; empty when it is."""
    if len(password.encode()) > LONGEST_BYTES:
        return f"password must be no more than {LONGEST_BYTES} characters"
    if entropy_bits(password) >= MINIMUM_BITS:
        return ""
    advice = [] if _has_special(password) else ["including more special characters"]
    advice += [text for text, letters in _GROUPS if not any(letter in letters for letter in password)]
    if not advice:
        return "insecure password, try using a longer password"
    return f"insecure password, try {', '.join(advice)} or using a longer password"


def check(password: str) -> None:
    """Insist on a password that is good enough.

    Raises:
        Invalid: it is too weak or too long.
    """
    if text := problem(password):
        raise Invalid("Password is invalid", violations=[Violation("password", text)])


def _has_special(password: str) -> bool:
    return (
        any(letter in _REPLACEABLE for letter in password)
        and any(letter in _SEPARATORS for letter in password)
        and any(letter in _OTHER_SPECIAL for letter in password)
    )


def _alphabet_size(password: str) -> int:
    groups = [letters for _, letters in _GROUPS] + [_REPLACEABLE, _SEPARATORS, _OTHER_SPECIAL]
    used = sum(len(letters) for letters in groups if any(letter in letters for letter in password))
    others = {letter for letter in password if not any(letter in letters for letters in groups)}
    return used + len(others)


def _useful_length(password: str) -> int:
    """Count characters: of one repeated more than twice in a row, and of a run as on the keyboard, only two count."""
    kept: list[str] = []
    for letter in password:
        if kept[-2:] != [letter, letter]:
            kept.append(letter)
    text = "".join(kept)
    for sequence in (*_SEQUENCES, *(s[::-1] for s in _SEQUENCES)):
        text = _without_run(text, sequence)
    return len(text)


def _without_run(text: str, sequence: str) -> str:
    """Shorten each run of three or more characters of `sequence` to its first two."""
    kept = ""
    run = 0
    lower = text.lower()
    for at, letter in enumerate(text):
        follows = at > 0 and lower[at - 1] + lower[at] in sequence
        run = run + 1 if follows else 1
        if run <= 2:
            kept += letter
    return kept
