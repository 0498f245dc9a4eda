import io
from datetime import UTC, datetime

import pytest
from inline_snapshot import snapshot

from warren.cli import errors, ui
from warren.cli.errors import ExitStatus
from warren.cli.ui import Canceled, Table, Terminal
from warren.errors import Invalid, NotFound, Violation

PLAIN = Terminal(input_tty=False, output_tty=False, error_tty=False, colour=False)
COLOURED = Terminal(input_tty=True, output_tty=True, error_tty=True, colour=True)
TABLE: Table[tuple[str, int]] = Table(
    columns={"name": lambda row: row[0], "long title": lambda row: str(row[1])}, default=("name",)
)


def test_tables_have_upper_case_headings_and_aligned_columns() -> None:
    text = TABLE.text([("a", 1), ("bcd", 20)], ["Long Title", "name"])
    assert text == snapshot(
        """\
LONG TITLE  NAME
1           a
20          bcd"""
    )


def test_unknown_columns_are_refused() -> None:
    with pytest.raises(Invalid, match="no column `nope`"):
        TABLE.text([], ["nope"])


def test_listing_says_when_there_is_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    ui.listing(PLAIN, [], TABLE, output="table", column=(), empty="none")
    ui.listing(PLAIN, [], TABLE, output="json", column=(), empty="none")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("[]\n", "none\n")


def test_no_colour_without_a_terminal_or_with_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    assert PLAIN.style("x", ui.RED) == "x"
    assert COLOURED.style("x", ui.RED) == "\x1b[31mx\x1b[0m"
    monkeypatch.setenv("NO_COLOR", "1")
    assert not Terminal.of_process(force_tty=True).colour
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "xterm")
    assert Terminal.of_process(force_tty=True).colour


@pytest.mark.parametrize(("answer", "default"), [("yes\n", False), ("y\n", False), ("\n", True)])
def test_confirms(monkeypatch: pytest.MonkeyPatch, answer: str, *, default: bool) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(answer))
    PLAIN.confirm("sure?", yes=False, default=default)


@pytest.mark.parametrize(("answer", "default"), [("no\n", True), ("Y\n", True), ("\n", False), ("ja\n", True)])
def test_anything_else_cancels(monkeypatch: pytest.MonkeyPatch, answer: str, *, default: bool) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(answer))
    with pytest.raises(Canceled):
        PLAIN.confirm("sure?", yes=False, default=default)


def test_end_of_input_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    with pytest.raises(Invalid, match="EOF"):
        PLAIN.prompt("name:")


def test_chooses_by_number_or_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("2\n"))
    assert PLAIN.choose("which?", ["a", "b"]) == "b"
    monkeypatch.setattr("sys.stdin", io.StringIO("a\n"))
    assert PLAIN.choose("which?", ["a", "b"]) == "a"
    monkeypatch.setattr("sys.stdin", io.StringIO("\n"))
    assert PLAIN.choose("which?", ["a", "b"], default="b") == "b"
    monkeypatch.setattr("sys.stdin", io.StringIO("us\n"))
    assert PLAIN.choose("which?", ["Europe", "United States"], values=["eu", "us"]) == "United States"


def test_a_number_among_the_options_means_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("2\n"))
    assert PLAIN.choose("cores?", ["2", "4", "8"]) == "2"
    monkeypatch.setattr("sys.stdin", io.StringIO("\n"))
    assert PLAIN.choose("cores?", ["1", "2", "4"], default="1") == "1"


def test_moments() -> None:
    assert ui.when(datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)) == "2026-01-02T03:04:05Z"
    assert ui.when(None) == ""
    assert ui.when(datetime(1, 1, 1, tzinfo=UTC)) == ""


def test_errors_say_what_and_what_to_do() -> None:
    error = Invalid("bad request", detail="cause", violations=[Violation("name", "taken")])
    assert "\n".join(errors.lines(error, "warren create", PLAIN, verbose=False)) == snapshot(
        """\
Encountered an error running "warren create", see "warren create --help" for more information
error: bad request
  name: taken
  cause"""
    )


def test_details_hide_behind_a_hint() -> None:
    error = NotFound("no template `gpu`", detail="cause", hint="warren templates list")
    assert errors.lines(error, "warren create", PLAIN, verbose=False)[1:] == snapshot(
        ["error: no template `gpu`", "hint: warren templates list"]
    )
    assert "  cause" in errors.lines(error, "warren create", PLAIN, verbose=True)


def test_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert errors.report(PLAIN, "warren", Canceled("canceled"), verbose=False) == 1
    assert errors.report(PLAIN, "warren", ExitStatus(7), verbose=False) == 7
    assert capsys.readouterr().err == ""
    assert errors.report(PLAIN, "warren", ExitStatus(255, "gone"), verbose=False) == 255
    assert errors.report(PLAIN, "warren", Invalid("x"), verbose=False) == 1
    assert "gone\n" in capsys.readouterr().err


def test_a_rule_that_is_named_is_told_and_a_detail_is_not_repeated() -> None:
    detail = 'Validation failed for tag "workspace_name" with value: "two--hyphens"'
    error = Invalid("Validation failed.", violations=[Violation("name", detail)])
    assert errors.lines(error, "warren create", PLAIN, verbose=False)[1:] == [
        "error: Validation failed.",
        f"  name: {detail}",
        "hint: name is 1 to 32 letters, digits and single hyphens between them",
    ]
    assert errors.lines(Invalid("Busy.", detail="Busy."), "warren stop", PLAIN, verbose=True)[1:] == ["error: Busy."]
