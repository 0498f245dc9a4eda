from pathlib import Path

import pytest

from warren.cli import parameters
from warren.cli.parameters import Wanted
from warren.cli.ui import Terminal
from warren.errors import Invalid
from warren.sdk.types.templates import ParameterOption, TemplateVersionParameter

QUIET = Terminal(input_tty=False, output_tty=False, error_tty=False, colour=False)


def question(
    name: str,
    *,
    kind: str = "string",
    default: str = "",
    required: bool = False,
    ephemeral: bool = False,
    mutable: bool = True,
    options: tuple[str, ...] = (),
    low: int | None = None,
    high: int | None = None,
) -> TemplateVersionParameter:
    return TemplateVersionParameter(
        name=name,
        description="",
        description_plaintext="",
        type=kind,
        form_type="",
        mutable=mutable,
        default_value=default,
        icon="",
        options=[ParameterOption(name=f"the {value}", description="", value=value, icon="") for value in options],
        required=required,
        ephemeral=ephemeral,
        validation_min=low,
        validation_max=high,
    )


def test_flags_win_over_presets() -> None:
    asked = [question("region"), question("size")]
    wanted = Wanted(values={"region": "eu"})
    assert parameters.resolve(QUIET, asked, wanted, preset={"region": "us", "size": "l"}) == {
        "region": "eu",
        "size": "l",
    }


def test_values_of_the_last_build_are_left_to_the_server() -> None:
    asked = [question("region"), question("once", ephemeral=True)]
    assert parameters.resolve(QUIET, asked, Wanted(), previous={"region": "eu"}) == {}


def test_ephemeral_values_hold_for_one_build() -> None:
    asked = [question("once", ephemeral=True)]
    assert parameters.resolve(QUIET, asked, Wanted(ephemeral={"once": "x"}), previous={}) == {"once": "x"}
    with pytest.raises(Invalid, match="not ephemeral"):
        parameters.resolve(QUIET, [question("a")], Wanted(ephemeral={"a": "x"}), previous={})


def test_defaults_are_taken_unasked_when_wanted() -> None:
    asked = [question("region", default="eu"), question("size", default="s")]
    wanted = Wanted(use_defaults=True, defaults={"size": "m"})
    assert parameters.resolve(QUIET, asked, wanted) == {"region": "eu", "size": "m"}


def test_unknown_names_are_refused() -> None:
    with pytest.raises(Invalid, match="not present") as caught:
        parameters.resolve(QUIET, [question("region")], Wanted(values={"regoin": "eu"}))  # codespell:ignore
    assert "region" in caught.value.hint


@pytest.mark.parametrize(
    ("asked", "value", "allowed"),
    [
        (question("n", kind="number", low=1, high=5), "3", True),
        (question("n", kind="number", low=1, high=5), "6", False),
        (question("n", kind="number"), "three", False),
        (question("b", kind="bool"), "true", True),
        (question("b", kind="bool"), "yes", False),
        (question("o", options=("a", "b")), "a", True),
        (question("o", options=("a", "b")), "c", False),
        (question("r", required=True), "", False),
        (question("s"), "", True),
    ],
)
def test_checks_values(asked: TemplateVersionParameter, value: str, *, allowed: bool) -> None:
    assert (parameters.check(asked, value) is None) == allowed


def test_reads_yaml_files(tmp_path: Path) -> None:
    file = tmp_path / "values.yaml"
    file.write_text("region: eu\ncount: 3\nlist: [a, b]\n")
    assert parameters.read_file(file) == {"region": "eu", "count": "3", "list": '["a", "b"]'}
    file.write_text("- a\n")
    with pytest.raises(Invalid, match="mapping"):
        parameters.read_file(file)
    with pytest.raises(Invalid, match="cannot read"):
        parameters.read_file(tmp_path / "none.yaml")


def test_parses_flags(tmp_path: Path) -> None:
    file = tmp_path / "values.yaml"
    file.write_text("region: us\nsize: l\n")
    wanted = Wanted.parse({"rich_parameter_file": str(file), "parameter": ("region=eu=1",), "always_prompt": True})
    assert wanted.values == {"region": "eu=1", "size": "l"}
    assert wanted.always_prompt
    with pytest.raises(Invalid, match="key=value"):
        Wanted.parse({"parameter": ("region",)})
