"""Write the reference of what `warren doctor` can find, from the table of causes itself."""

from collections.abc import Iterator
from pathlib import Path

from warren.net.causes import CAUSES, Severity

TITLE = """\
# Findings

Made from `src/warren/net/causes.py` by `make gen`; do not edit.

`warren doctor`, `warren netcheck` and `warren ping` name what they find by these codes, which do not change. With
`--output json` each finding has the keys `code`, `severity`, `cause`, `fix`, `who` and `evidence`. An **error** is
something that does not work: `warren doctor` then exits with 1. A **warning** works, but slower or less surely than it
could. A **note** explains what is seen. A relay that cannot be reached is a warning while another one works.

"Who" is the one who usually has to act; a finding names another where it knows better.
"""
HEADINGS = {
    Severity.ERROR: "Errors",
    Severity.WARNING: "Warnings",
    Severity.NOTE: "Notes",
}


def reference() -> str:
    """Write the whole reference."""
    return "\n".join([TITLE, *_sections()]).rstrip() + "\n"


def _sections() -> Iterator[str]:
    for severity, heading in HEADINGS.items():
        yield from (f"## {heading}", "", "| Code | Cause | Fix | Who |", "| --- | --- | --- | --- |")
        for code, cause in CAUSES.items():
            if cause.severity is severity:
                fix = cause.fix.replace("|", "\\|").replace("<", "&lt;")
                yield f"| `{code}` | {cause.title} | {fix} | {cause.actor.value} |"
        yield ""


if __name__ == "__main__":
    target = Path(__file__).parent.parent / "docs" / "reference" / "findings.md"
    target.write_text(reference())
