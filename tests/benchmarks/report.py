"""Benchmark results as Markdown tables, printed and written to RESULTS.md."""

import os
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import torch


class Report:
    """Collects sections; nothing is rounded away that a reader needs to judge a ratio."""

    def __init__(self) -> None:
        self._lines = ["# Benchmark results", "", "Written by `make bench`; ratios are of one run.", "", _machine(), ""]

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
