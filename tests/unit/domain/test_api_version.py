from __future__ import annotations

import pytest

from warren.domain.api_version import AGENT_API, APIVersion, check
from warren.errors import Invalid


@pytest.mark.parametrize("wanted", ["2.0", "2.10", str(AGENT_API)])
def test_versions_that_we_serve(wanted: str) -> None:
    check(wanted, AGENT_API)


@pytest.mark.parametrize(
    ("wanted", "detail"),
    [
        ("3.0", "server is at version 2.5, behind requested major version 3.0"),
        ("2.6", "server is at version 2.5, behind requested minor version 2.6"),
        ("1.0", "version 1.0 is no longer supported"),
        ("2", "invalid version string: 2"),
        ("2.0.0", "invalid version string: 2.0.0"),
        ("", "invalid version string: "),
        ("x.0", "invalid major version: x.0"),
        ("2.-1", "invalid minor version: 2.-1"),
        ("2.²", "invalid minor version: 2.²"),
    ],
)
def test_versions_that_we_refuse(wanted: str, detail: str) -> None:
    with pytest.raises(Invalid) as caught:
        check(wanted, APIVersion(2, 5))
    assert caught.value.message == "Unknown or unsupported API version"
    [violation] = caught.value.violations
    assert (violation.field, violation.detail) == ("version", detail)
