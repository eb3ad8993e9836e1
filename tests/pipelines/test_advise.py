"""Advice against a search, in a short form."""

import importlib
import re
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.docs.pages import ROOT

pytestmark = pytest.mark.slow

STORES = ("all 10 logits", "3 logits", "a weak teacher")
FIGURE = r" +-?\d+\.\d\d ± \d+\.\d\d"


def test_every_store_has_both_recipes_their_difference_and_the_cost_of_advice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for part in ("train", "test"):
        folder = tmp_path / "data/fashion_mnist" / part
        folder.mkdir(parents=True)
        pq.write_table(pq.read_table(ROOT / "data/fashion_mnist" / part).slice(0, 128), folder / "a.parquet")
    (folder.parent / "teacher.safetensors").symlink_to(ROOT / "data/fashion_mnist/teacher.safetensors")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(ROOT / "pipelines/fashion_mnist"))
    monkeypatch.setattr(sys, "argv", ["advise.py", "--seeds", "2", "--epochs", "1", "--images", "128"])
    advise = importlib.import_module("advise")
    monkeypatch.setattr(advise, "OF_THE_LINEAR", 32)
    monkeypatch.setattr(advise, "TO_CHOOSE_BY", 64)
    monkeypatch.setattr(advise, "TRIALS", 2)
    monkeypatch.setattr(advise, "AGAIN", 1)

    advise.main()

    printed = capsys.readouterr().out
    rows = [re.findall(rf"^{store}{FIGURE * 6} +(\d\.\d)$", printed, re.MULTILINE) for store in STORES]
    assert rows == [["6.0"]] * 3, printed


def test_no_image_that_recipes_are_chosen_by_measures_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.syspath_prepend(str(ROOT / "pipelines/fashion_mnist"))
    advise = importlib.import_module("advise")

    data = advise.open_data(320)

    choose, measure = (set(part.source.keys) for part in (data.choose, data.measure))
    assert len(choose) == len(measure) == 1000
    assert not choose & measure
