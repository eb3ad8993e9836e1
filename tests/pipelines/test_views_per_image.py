"""The comparison of how many views share a batch, in a short form."""

import importlib
import re
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.docs.pages import ROOT

SHORT = "--images 64 --epochs 4 --seeds 1 --test test.parquet --out runs/short"


def test_every_number_of_views_has_its_accuracies_and_what_is_finished_is_not_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("data", "pipelines"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(ROOT / "pipelines/fashion_mnist"))
    monkeypatch.setattr(sys, "argv", ["views_per_image.py", *SHORT.split()])
    pq.write_table(pq.read_table("data/fashion_mnist/test").slice(0, 50), "test.parquet")
    script = importlib.import_module("views_per_image")

    script.main()
    first, written = capsys.readouterr().out, weights_below(Path("runs"))
    script.main()
    second = capsys.readouterr().out

    rows = {views: re.findall(rf"^{views} of 4 +(.*)$", first, re.MULTILINE) for views in (1, 2, 4)}
    assert all(len(found) == 1 and found[0].count("±") == 3 for found in rows.values()), first
    assert second == first
    assert len(written) == 3 * 3 * 2  # of each student of a run the best and the last
    assert weights_below(Path("runs")) == written


def weights_below(folder: Path) -> dict[Path, int]:
    """When each file was written."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*.safetensors")}
