"""Whoever reads a store while views are added to it has it as it was or as it is then, and never half of each."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from softlab.sharing.fetch.pull import PullOptions, pull
from softlab.sharing.publish.push import PushOptions, push
from softlab.store.cache import CacheOptions
from softlab.store.convert import convert_store
from softlab.store.format import FormatName
from softlab.store.reader import open_store
from softlab.store.verify import verify_store
from tests.store.building import FORMATS, make_plan, write_store
from tests.store.growing import add_a_view, become, before_read

BOTH_FORMATS = pytest.mark.parametrize("format", FORMATS)
BOTH_MOMENTS = pytest.mark.parametrize("is_finished", [True, False])
MANY = 40
"""More files than are read in any of these tests."""


def check(store: Path, out: Path) -> None:
    assert verify_store(store).is_intact


def copy(store: Path, out: Path) -> None:
    pulled = pull(store, out, PullOptions(jobs=1))
    assert pulled.is_whole
    assert verify_store(out).is_intact


def copy_views(store: Path, out: Path) -> None:
    pull(store, out, PullOptions(views="0", jobs=1))
    assert verify_store(out).is_intact


def copy_samples(store: Path, out: Path) -> None:
    out.parent.mkdir(exist_ok=True)
    out.with_suffix(".txt").write_text("000.png\n002.png\n")
    pull(store, out, PullOptions(samples=out.with_suffix(".txt"), jobs=1))
    assert verify_store(out).is_intact


def read_all(store: Path, out: Path) -> None:
    opened = open_store(store, cache=CacheOptions(max_bytes=0))
    opened.read_samples()
    for view in range(opened.num_views):
        opened.read(np.arange(opened.num_samples), view=view)
        opened.read_features("pooled", np.arange(opened.num_samples), view=view)
        opened.read_pixel_digests(view)


def publish(store: Path, out: Path) -> None:
    push(store, out / "labels", options=PushOptions(licence="CC0-1.0", terms="", jobs=1))
    assert verify_store(f"{out}/labels@1").is_intact


def convert(store: Path, out: Path) -> None:
    convert_store(open_store(store), out, format="parquet")
    assert verify_store(out).is_intact


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stores of two views of each format, and the same with a third one, finished or not."""
    folder = tmp_path_factory.mktemp("prepared")
    for format in FORMATS:
        write_store(folder / format, make_plan(format=format, num_samples=3))
        for is_finished in (True, False):
            add_a_view(shutil.copytree(folder / format, folder / f"{format}-{is_finished}"), is_finished=is_finished)
    return folder


@BOTH_FORMATS
@BOTH_MOMENTS
@pytest.mark.parametrize("reader", [check, copy, copy_views, copy_samples, read_all, publish, convert])
def test_views_that_are_added_between_any_two_reads_disturb_none(
    prepared: Path, tmp_path: Path, reader: Callable[[Path, Path], None], format: FormatName, is_finished: bool
) -> None:
    larger = prepared / f"{format}-{is_finished}"
    for number in range(1 if is_finished else 2, MANY, 3):
        store, out = tmp_path / f"store-{number}", tmp_path / f"out-{number}"
        shutil.copytree(prepared / format, store)
        with before_read(store, number, lambda store=store: become(store, larger)) as names:  # type: ignore[misc]
            reader(store, out)
        if len(names) < number:
            break

    assert 1 < number < MANY
