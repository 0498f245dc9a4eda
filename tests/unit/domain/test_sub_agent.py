from __future__ import annotations

import pytest

from warren.domain import sub_agent as rules


@pytest.mark.parametrize(
    ("wanted", "most", "given"),
    [
        ("public", "owner", "owner"),
        ("owner", "public", "owner"),
        ("authenticated", "organization", "organization"),
        ("organization", "authenticated", "organization"),
        ("public", "public", "public"),
    ],
)
def test_no_app_is_shared_more_widely_than_the_template_allows(wanted: str, most: str, given: str) -> None:
    assert rules.clamp_level(wanted, most) == given


def test_slugs_of_containers_do_not_meet() -> None:
    one, other = rules.stored_slug("web", "code"), rules.stored_slug("db", "code")
    assert one != other
    for slug in (one, other):
        assert rules.SLUG.fullmatch(slug)
        assert slug.index("-") == 8
