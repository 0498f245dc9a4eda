import pytest
from hypothesis import given
from hypothesis import strategies as st

from warren.cli.escape import HELP, EscapeFilter, Typed


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        (b"ls\r", Typed(b"ls\r")),
        (b"~.", Typed(b"", leave=True)),
        (b"ls\r~.rest", Typed(b"ls\r", leave=True)),
        (b"a~.", Typed(b"a~.")),
        (b"~~", Typed(b"~")),
        (b"~~.", Typed(b"~.")),
        (b"~x", Typed(b"~x")),
        (b"~?", Typed(b"", shown=HELP)),
        (b"~?~.", Typed(b"", shown=HELP, leave=True)),
        (b"cd ~\r", Typed(b"cd ~\r")),
    ],
)
def test_filters(typed: bytes, expected: Typed) -> None:
    assert EscapeFilter().feed(typed) == expected


@given(st.lists(st.sampled_from([b"~", b".", b"\r", b"\n", b"x", b"?", b"~~"]), max_size=12))
def test_cuts_between_reads_change_nothing(pieces: list[bytes]) -> None:
    whole = EscapeFilter().feed(b"".join(pieces))
    cut, data, shown, leave = EscapeFilter(), b"", b"", False
    for value in b"".join(pieces):
        typed = cut.feed(bytes([value]))
        data, shown, leave = data + typed.data, shown + typed.shown, typed.leave
        if leave:
            break
    assert Typed(data, shown, leave) == whole
