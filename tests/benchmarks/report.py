"""Benchmark results as Markdown tables, printed and written to RESULTS.md."""

import os
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import torch

BAR_HEADERS = ["what", "bar", "found", "reached"]


class Report:
    """Collects sections; nothing is rounded away that a reader needs to judge a ratio."""

    def __init__(self) -> None:
        self._bars: list[list[str]] = []
        self._lines = ["# Benchmark results", "", "Written by `make bench`; ratios are of one run.", "", _machine(), ""]

    def bar(self, what: str, found: float, *, at_least: float | None = None, at_most: float | None = None) -> None:
        """A figure that is to be on one side of a bar; shown in a table at the end."""
        if at_least is not None:
            bar, is_reached = f"at least {at_least:g}", found >= at_least
        else:
            assert at_most is not None, "a bar has a side"
            bar, is_reached = f"at most {at_most:g}", found <= at_most
        self._bars.append([what, bar, f"{found:.3g}", "yes" if is_reached else "no"])

    def bars(self) -> None:
        """All bars so far, each beside the figure of this run."""
        self.section(
            "Bars", "Every bar that softlab has set itself, beside what this run found.", BAR_HEADERS, self._bars
        )

    def section(self, title: str, explanation: str, headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        table = [f"| {' | '.join(cells)} |" for cells in [headers, ["---"] * len(headers), *rows]]
        lines = [f"## {title}", "", explanation, "", *table, ""]
        print("\n".join(lines), flush=True)
        self._lines += lines

    def write(self, path: Path) -> None:
        path.write_text("\n".join(self._lines))


def _machine() -> str:
    names = ["softlab", "torch", "torchvision", "numpy", "zarr", "pyarrow"]
    versions = ", ".join(f"{name} {version(name)}" for name in names)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return f"{platform.machine()}, {os.cpu_count()} cores, {device}; Python {platform.python_version()}, {versions}."
