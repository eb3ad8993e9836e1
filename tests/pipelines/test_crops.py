"""The comparison of labels under strong crops, in a short form."""

import importlib
import re
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.docs.pages import ROOT

SHORT = "--images 32 --epochs 1 2 --seeds 1 --test test.parquet --out runs/short"


def test_every_label_has_its_accuracy_at_each_length_and_what_is_finished_is_not_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("data", "pipelines"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(ROOT / "pipelines/fashion_mnist"))
    monkeypatch.setattr(sys, "argv", ["crops.py", *SHORT.split()])
    pq.write_table(pq.read_table("data/fashion_mnist/test").slice(0, 50), "test.parquet")
    crops = importlib.import_module("crops")

    crops.main()
    first, written = capsys.readouterr().out, weights_below(Path("runs"))
    crops.main()
    second = capsys.readouterr().out

    for title in crops.STUDENTS.values():
        (row,) = re.findall(rf"^{title} .*$", first, re.MULTILINE)
        means = [float(mean) for mean in re.findall(r"(\d+\.\d\d) ±", row)]
        assert len(means) == 2
        assert all(0 <= mean < 70 for mean in means), row  # after a step or two
    assert second == first
    assert len(written) == 2 * 6 * 2  # of each student of a chain the best and the last
    assert weights_below(Path("runs")) == written
    assert [path.name for path in Path("runs").iterdir()] == ["short"]


def weights_below(folder: Path) -> dict[Path, int]:
    """When each file was written."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*.safetensors")}
