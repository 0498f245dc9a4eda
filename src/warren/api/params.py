"""Path and query parameters, read as upstream's clients expect to be told off."""

from __future__ import annotations

from uuid import UUID

from litestar.datastructures import MultiDict

from warren.errors import Invalid, Violation
from warren.storage.users import Page

UUID_LENGTH = 36
QUERY_INVALID = "Query parameters have invalid values."


def path_uuid(raw: str) -> UUID:
    """Read an id from the path.

    Raises:
        Invalid: it is none.
    """
    if len(raw) != UUID_LENGTH:
        raise Invalid(f'Invalid UUID "{raw}".', detail=f"invalid UUID length: {len(raw)}")
    try:
        return UUID(raw)
    except ValueError as error:
        raise Invalid(f'Invalid UUID "{raw}".', detail="invalid UUID format") from error


class Query:
    """The query parameters of a request; each read, then `finish` complains about all that are wrong."""

    def __init__(self, values: MultiDict[str]) -> None:
        self._values = values
        self._violations: list[Violation] = []

    def has(self, name: str) -> bool:
        """Say whether a parameter is there, whatever its value."""
        return name in self._values

    def text(self, name: str) -> str:
        """Read a text; empty when it is not there."""
        return self._values.get(name) or ""

    def natural(self, name: str) -> int:
        """Read a number that is not negative; 0 when it is not there."""
        raw = self.text(name)
        if not raw:
            return 0
        if raw.isascii() and raw.isdigit() and int(raw) < 2**31:
            return int(raw)
        reason = "value is negative" if raw[:1] == "-" and raw[1:].isdigit() else f'"{raw}" is not one'
        self._refuse(name, f'Query param "{name}" must be a valid 32-bit positive integer: {reason}')
        return 0

    def integer(self, name: str) -> int:
        """Read a number; 0 when it is not there."""
        raw = self.text(name)
        try:
            return int(raw) if raw else 0
        except ValueError:
            self._refuse(name, f'Query param "{name}" must be a valid integer: "{raw}"')
            return 0

    def flag(self, name: str) -> bool:
        """Read a truth value; false when it is not there."""
        raw = self.text(name).lower()
        if raw in ("", "0", "f", "false"):
            return False
        if raw in ("1", "t", "true"):
            return True
        self._refuse(name, f'Query param "{name}" must be a valid boolean: "{raw}"')
        return False

    def uuid(self, name: str) -> UUID | None:
        """Read an id; `None` when it is not there, or nil."""
        raw = self.text(name)
        if not raw:
            return None
        try:
            return UUID(raw) if UUID(raw).int else None
        except ValueError:
            self._refuse(name, f'Query param "{name}" must be a valid uuid')
            return None

    def page(self) -> Page:
        """Read which part of a list is wanted."""
        return Page(limit=self.natural("limit"), offset=self.natural("offset"), after_id=self.uuid("after_id"))

    def finish(self, message: str = QUERY_INVALID) -> None:
        """Complain about all that was wrong.

        Raises:
            Invalid: something was.
        """
        if self._violations:
            raise Invalid(message, violations=self._violations)

    def _refuse(self, name: str, detail: str) -> None:
        self._violations.append(Violation(name, detail))
