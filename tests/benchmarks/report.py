"""Benchmark results as Markdown tables, printed and written to RESULTS.md."""

import os
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import torch

from softlab.bench.timing import Ratio
from tests.benchmarks.figures import Better, Figure

RESULTS = Path(__file__).with_name("RESULTS.md")
TITLE = "# Benchmark results"
BAR_HEADERS = ["what", "bar", "found", "reached"]


class Report:
    """Collects sections; nothing is rounded away that a reader needs to judge a ratio."""

    def __init__(self, *, machine: str | None = None) -> None:
        self.figures: dict[str, Figure] = {}
        """Ratios of ways that took turns, which a quick run compares."""

        self.machine = machine or describe_machine()
        self._bars: list[list[str]] = []
        self._lines = [f"{TITLE}\n", "Written by `make bench`; ratios are of one run.\n", f"{self.machine}\n"]

    def bar(self, what: str, found: float, *, at_least: float | None = None, at_most: float | None = None) -> None:
        """A figure that is to be on one side of a bar; shown in a table at the end."""
        if at_least is not None:
            bar, is_reached = f"at least {at_least:g}", found >= at_least
        else:
            assert at_most is not None, "a bar has a side"
            bar, is_reached = f"at most {at_most:g}", found <= at_most
        self._bars.append([what, bar, f"{found:.3g}", "yes" if is_reached else "no"])
        self.ratio(what, found, better="lower" if at_least is None else "higher")

    def ratio(self, what: str, found: float, *, better: Better = "higher") -> None:
        """A figure without a bar, for quick runs to compare; only if it is a ratio of ways that took turns: all else
        hangs on the machine and the day."""
        if isinstance(found, Ratio):
            self.figures[what] = Figure.of(found, better=better)

    def bars(self) -> None:
        """All bars so far, each beside the figure of this run."""
        self.section(
            "Bars", "Every bar that softlab has set itself, beside what this run found.", BAR_HEADERS, self._bars
        )

    def section(self, title: str, explanation: str, headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        lines = section_lines(title, explanation, headers, rows)
        print("\n".join(lines), flush=True)
        self._lines += lines

    def write(self, path: Path) -> None:
        path.write_text("\n".join(self._lines))


def section_lines(title: str, explanation: str, headers: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    table = [f"| {' | '.join(cells)} |" for cells in [headers, ["---"] * len(headers), *rows]]
    return [f"## {title}", "", explanation, "", *table, ""]


def describe_machine() -> str:
    names = ["softlab", "torch", "torchvision", "numpy", "zarr", "pyarrow"]
    versions = ", ".join(f"{name} {version(name)}" for name in names)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return f"{platform.machine()}, {os.cpu_count()} cores, {device}; Python {platform.python_version()}, {versions}."
