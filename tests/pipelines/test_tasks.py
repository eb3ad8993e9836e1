"""One student of two teachers, in a short form."""

import importlib
import re
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.docs.pages import ROOT

pytestmark = pytest.mark.slow

SHORT = "--images 64 --epochs 1 --seeds 2 --teacher-epochs 1"


def test_every_student_has_its_figures_and_what_is_finished_is_not_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pipelines").symlink_to(ROOT / "pipelines")
    for part in ("train", "test"):
        folder = tmp_path / "data/fashion_mnist" / part
        folder.mkdir(parents=True)
        pq.write_table(pq.read_table(ROOT / "data/fashion_mnist" / part).slice(0, 128), folder / "a.parquet")
    (folder.parent / "teacher.safetensors").symlink_to(ROOT / "data/fashion_mnist/teacher.safetensors")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(ROOT / "pipelines/fashion_mnist"))
    monkeypatch.setattr(sys, "argv", ["tasks.py", *SHORT.split()])
    tasks = importlib.import_module("tasks")

    tasks.main()
    first, written = capsys.readouterr().out, weights_below(Path("runs"))
    tasks.main()
    second = capsys.readouterr().out

    rows = {title: re.findall(rf"^{title} +(\S.*)$", first, re.MULTILINE) for title in ("teachers", *tasks.HEADS)}
    assert all(len(found) == 1 for found in rows.values()), first
    assert re.fullmatch(r"\d+\.\d\d ± \d+\.\d\d +- +\d\.\d\d ± \d\.\d\d +-", rows["alone: kind"][0])
    assert second == first
    assert weights_below(Path("runs")) == written


def weights_below(folder: Path) -> dict[Path, int]:
    """When each file was written."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*.safetensors")}
