"""How many connections a forward may have, by the descriptors that this process may."""

from __future__ import annotations

import resource

import pytest

from warren.cli.commands import port_forward

UNLIMITED = resource.RLIM_INFINITY
ENOUGH = port_forward.OWN_DESCRIPTORS + port_forward.DESCRIPTORS_EACH * port_forward.MAX_CONNECTIONS


@pytest.mark.parametrize(
    ("limits", "forwards", "most", "raised"),
    [
        ((1024, 1 << 20), 1, 1024, ENOUGH),
        ((1024, UNLIMITED), 1, 1024, ENOUGH),
        ((UNLIMITED, UNLIMITED), 3, 1024, None),
        ((1 << 20, 1 << 20), 3, 1024, None),
        ((1024, 1024), 1, 149, None),
        ((1024, 2048), 2, 160, 2048),
        ((64, 64), 1, 1, None),
        ((1024, 1 << 20), 0, 149, None),
    ],
)
def test_most_connections(
    monkeypatch: pytest.MonkeyPatch, limits: tuple[int, int], forwards: int, most: int, raised: int | None
) -> None:
    set_to: list[tuple[int, int]] = []

    def read(_: int) -> tuple[int, int]:
        return limits

    def write(_: int, wanted: tuple[int, int]) -> None:
        set_to.append(wanted)

    monkeypatch.setattr(resource, "getrlimit", read)
    monkeypatch.setattr(resource, "setrlimit", write)
    assert port_forward.most_connections(forwards) == most
    assert set_to == ([] if raised is None else [(raised, limits[1])])
