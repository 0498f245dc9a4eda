"""What users, organizations and others may be called."""

from __future__ import annotations

import re

from warren.errors import Violation

_NAME = re.compile(r"[a-zA-Z0-9]+(?:-[a-zA-Z0-9]+)*")
_EMAIL = re.compile(r"[^@\s,;<>\"]+@[^@\s,;<>\"]+")
_RESERVED = frozenset({"new", "create"})


def violation(field: str, rule: str, value: str) -> Violation:
    """Say that a field breaks a rule."""
    return Violation(field, f'Validation failed for tag "{rule}" with value: "{value}"')


def required(**fields: str) -> list[Violation]:
    """Refuse fields that are empty."""
    return [violation(name, "required", value) for name, value in fields.items() if not value]


def name_problem(value: str, *, field: str = "username", rule: str = "username") -> Violation | None:
    """Refuse what cannot be the name of a user or organization."""
    if 1 <= len(value) <= 32 and _NAME.fullmatch(value) and value.lower() not in _RESERVED:
        return None
    return violation(field, rule, value)


def email_problem(value: str) -> Violation | None:
    """Refuse what cannot be an email address."""
    return None if _EMAIL.fullmatch(value) and len(value) <= 254 else violation("email", "email", value)


def real_name_problem(value: str) -> Violation | None:
    """Refuse what cannot be the name of a person."""
    return None if len(value) <= 128 and value == value.strip() else violation("name", "user_real_name", value)
