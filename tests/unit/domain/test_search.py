from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warren.domain.search import ParameterFilter, WorkspaceFilter, parse, template_filter, workspace_filter
from warren.errors import Invalid

ID = UUID("3d463752-5353-45b4-9f34-5b955d94f637")


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", WorkspaceFilter()),
        ("Dev Box", WorkspaceFilter(name="dev box")),
        ("bob/dev", WorkspaceFilter(owner="bob", name="dev")),
        ("owner:me status:running", WorkspaceFilter(owner="me", status="running")),
        ("user:me", WorkspaceFilter(owner="me")),
        ('name:"a b"', WorkspaceFilter(name="a b")),
        (f"id:{ID},{ID}", WorkspaceFilter(ids=(ID, ID))),
        ("has-agent:connected has-agent:timeout", WorkspaceFilter(agent_statuses=("connected", "timeout"))),
        ("healthy:true", WorkspaceFilter(agent_statuses=("connected",))),
        ("healthy:false", WorkspaceFilter(agent_statuses=("disconnected", "timeout"))),
        ("dormant:true outdated:f", WorkspaceFilter(dormant=True, outdated=False)),
        (
            'param:Region=EU param:cpu param:"a=b c"',
            WorkspaceFilter(
                parameters=(ParameterFilter("Region", "EU"), ParameterFilter("cpu", None), ParameterFilter("a", "b c"))
            ),
        ),
    ],
)
def test_workspaces(query: str, expected: WorkspaceFilter) -> None:
    assert workspace_filter(query) == expected


@pytest.mark.parametrize(
    ("query", "field", "detail"),
    [
        ("bogus:1", "bogus", '"bogus" is not a valid query param'),
        (":x", "q", 'Query element ":x" cannot start or end with ":"'),
        ("x:", "q", 'Query element "x:" cannot start or end with ":"'),
        ("a:b:c", "q", 'Query element "a:b:c" can only contain 1 ":"'),
        ("dormant:maybe", "dormant", 'Query param "dormant" must be a valid boolean'),
        ("id:x", "id", 'Query param "id" has invalid values: invalid UUID "x"'),
        ("last_used_after:yesterday", "last_used_after", 'Query param "last_used_after" must be a valid date format'),
    ],
)
def test_refused(query: str, field: str, detail: str) -> None:
    with pytest.raises(Invalid) as caught:
        workspace_filter(query)
    assert caught.value.message == "Invalid workspace search query."
    assert [(item.field, item.detail) for item in caught.value.violations] == [(field, detail)]


def test_every_problem_is_reported() -> None:
    with pytest.raises(Invalid) as caught:
        workspace_filter("status:nonsense bogus:1 other:2")
    assert [item.field for item in caught.value.violations] == ["status", "bogus", "other"]


def test_quotes_keep_a_colon() -> None:
    assert parse('name:"a:b"', kind="x", default="").values == {"name": ["a:b"]}


def test_a_time() -> None:
    found = workspace_filter('last_used_after:"2026-11-21T10:00:00Z"')
    assert found.last_used_after is not None
    assert found.last_used_after.isoformat() == "2026-11-21T10:00:00+00:00"


def test_templates() -> None:
    found = template_filter("Big Box deprecated:false author:me")
    assert (found.display_name, found.deprecated, found.author) == ("big box", False, "me")


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(query: str) -> None:
    try:
        workspace_filter(query)
    except Invalid as error:
        assert error.violations
