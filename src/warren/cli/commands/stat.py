"""`stat`: the resource use of this machine, or of its container; for metadata scripts of templates."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import click

from warren.cli import params, ui
from warren.cli.command import HELP_NAMES, Group, command
from warren.cli.context import Context
from warren.errors import Invalid

CGROUP = Path("/sys/fs/cgroup")
SAMPLE_SECONDS = 0.1  # long enough for a figure, short enough for a metadata script
PREFIXES: Mapping[str, float] = {
    "": 1,
    "Ki": 1 << 10,
    "Mi": 1 << 20,
    "Gi": 1 << 30,
    "Ti": 1 << 40,
}
F = TypeVar("F", bound=Callable[..., object])


@dataclass(frozen=True, slots=True)
class Use:
    """How much of a resource is used; no total means no limit."""

    used: float
    total: float | None
    unit: str

    def text(self, prefix: str = "") -> str:
        """Write it as `0.3/2 cores (15%)` or `1.2/16 GiB (8%)`."""
        size = PREFIXES[prefix]
        unit = f"{prefix}{self.unit}" if self.unit == "B" else self.unit
        shown = _number(self.used / size)
        if self.total is None:
            return f"{shown} {unit}"
        share = f" ({self.used / self.total:.0%})" if self.total else ""
        return f"{shown}/{_number(self.total / size)} {unit}{share}"

    def json(self) -> Mapping[str, float | str | None]:
        """Shape it as `--output json` has it."""
        return {"used": self.used, "total": self.total, "unit": self.unit}


def _all(*, output: str) -> None:
    if click.get_current_context().invoked_subcommand is None:
        _show_all(Context.current(), output)


stat = Group(
    "stat",
    help="Show the resource use of this machine.",
    params=[click.Option(["--output", "-o"], type=click.Choice(["table", "json"]), default="table")],
    invoke_without_command=True,
    callback=_all,
    context_settings=HELP_NAMES,
)


def _prefix_option(default: str) -> Callable[[F], F]:
    return params.option("--prefix", type=click.Choice(list(PREFIXES)), default=default, help="Unit of the figures.")


host_option = params.flag("--host", help="Look at the whole machine, also from within a container.")
text_output = ui.output_option(formats=("text", "json"), default="text")


@command("cpu", parent=stat)
@host_option
@text_output
def show_cpu(context: Context, *, host: bool, output: str) -> None:
    """Show the use of the processors, in cores."""
    _print(context, cpu(host=host), output)


@command("mem", parent=stat)
@host_option
@_prefix_option("Gi")
@text_output
def show_memory(context: Context, *, host: bool, prefix: str, output: str) -> None:
    """Show the use of memory."""
    _print(context, memory(host=host), output, prefix)


@command("disk", parent=stat)
@params.option("--path", default="/", show_default=True, help="Folder on the disk.")
@_prefix_option("Gi")
@text_output
def show_disk(context: Context, *, path: str, prefix: str, output: str) -> None:
    """Show the use of a disk."""
    _print(context, disk(path), output, prefix)


def cpu(*, host: bool) -> Use:
    """Measure the use of the processors for a moment."""
    import time

    import psutil

    limit = None if host else _cpu_limit()
    if host or not (CGROUP / "cpu.stat").exists() or limit is None:
        busy = psutil.cpu_percent(SAMPLE_SECONDS) / 100
        cores = float(os.cpu_count() or 1)
        return Use(round(busy * cores, 3), cores, "cores")
    before, began = _cpu_seconds(), time.perf_counter()
    time.sleep(SAMPLE_SECONDS)
    used = (_cpu_seconds() - before) / (time.perf_counter() - began)
    return Use(round(used, 3), limit, "cores")


def memory(*, host: bool) -> Use:
    """Measure the use of memory."""
    import psutil

    limit = None if host else _read_number(CGROUP / "memory.max")
    if limit is None:
        whole = psutil.virtual_memory()
        return Use(float(whole.total - whole.available), float(whole.total), "B")
    used = _read_number(CGROUP / "memory.current") or 0.0
    cache = _read_stat(CGROUP / "memory.stat", "inactive_file")
    return Use(max(0.0, used - cache), limit, "B")


def disk(path: str) -> Use:
    """Measure the use of the disk that a folder is on.

    Raises:
        Invalid: there is no such folder.
    """
    import shutil

    try:
        usage = shutil.disk_usage(path)
    except OSError as error:
        raise Invalid(f"cannot look at {path}: {error.strerror}") from error
    return Use(float(usage.used), float(usage.total), "B")


def _show_all(context: Context, output: str) -> None:
    uses = {
        "host cpu": (cpu(host=True), ""),
        "host memory": (memory(host=True), "Gi"),
        "home disk": (disk(str(Path.home())), "Gi"),
    }
    if _cpu_limit() is not None or _read_number(CGROUP / "memory.max") is not None:
        uses |= {"container cpu": (cpu(host=False), ""), "container memory": (memory(host=False), "Gi")}
    if output == "json":
        context.terminal.out(ui.json_text([{name.replace(" ", "_"): use.json() for name, (use, _) in uses.items()}]))
        return
    rows = [[name.upper() for name in uses], [use.text(prefix) for use, prefix in uses.values()]]
    context.terminal.out(ui.columns_text(rows))


def _print(context: Context, use: Use, output: str, prefix: str = "") -> None:
    context.terminal.out(ui.json_text(use.json()) if output == "json" else use.text(prefix))


def _cpu_limit() -> float | None:
    try:
        quota, _, period = (CGROUP / "cpu.max").read_text().strip().partition(" ")
    except OSError:
        return None
    return None if quota == "max" else int(quota) / int(period or 100_000)


def _cpu_seconds() -> float:
    return _read_stat(CGROUP / "cpu.stat", "usage_usec") / 1_000_000


def _read_stat(path: Path, name: str) -> float:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return 0.0
    return next((float(line.split()[1]) for line in lines if line.startswith(name + " ")), 0.0)


def _read_number(path: Path) -> float | None:
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return None if text == "max" else float(text)


def _number(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"
