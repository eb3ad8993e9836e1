"""Shards of a slow teacher hold as much as it computes in the time that one may take."""

import time
from pathlib import Path

import pytest
from torch import Tensor, nn

from softlab.errors import InvalidOption
from softlab.store.folder import count_finished_shards, read_plan
from softlab.store.reader import open_store
from softlab.teacher.options import DumpOptions
from tests.store.building import contents
from tests.teacher.augmenting import AUGMENT
from tests.teacher.dumping import Pictures, dump, make_options, make_teacher, stop_at

SECOND = 1 / 60


class Slow(nn.Module):
    """Takes so many seconds a sample."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.teacher, self.seconds = make_teacher(), seconds

    def forward(self, images_BCHW: Tensor) -> Tensor:
        time.sleep(self.seconds * len(images_BCHW))
        logits_BC: Tensor = self.teacher(images_BCHW)
        return logits_BC


def unsized(**values: object) -> DumpOptions:
    return make_options(shard_rows=None, **values)


def test_a_slow_teacher_that_is_stopped_has_finished_shards_which_are_gone_on_with(tmp_path: Path) -> None:
    source, options = Pictures(count=64), unsized(shard_minutes=0.3 * SECOND)
    with pytest.raises(KeyboardInterrupt):
        dump(tmp_path / "store", options, teacher=Slow(0.01), source=source, on_progress=stop_at(50))
    shard_rows = read_plan(tmp_path / "store").storage.shard_rows
    finished = count_finished_shards(tmp_path / "store")
    assert shard_rows in (1, 2, 4, 8, 16)  # 30 samples in 0.3 s, fewer on a machine that is busy
    assert finished >= 48 // 16

    summary = dump(tmp_path / "store", options, teacher=Slow(0.0), source=source)

    assert summary.rows_computed == 64 - finished * shard_rows
    assert summary.manifest.storage.shard_rows == shard_rows


def test_a_quick_teacher_has_the_shards_that_it_would_have_without_a_bound(tmp_path: Path) -> None:
    dump(tmp_path / "store", unsized())
    dump(tmp_path / "unbounded", unsized(shard_minutes=1e9))

    assert open_store(tmp_path / "store").manifest.storage.shard_rows == 64
    assert contents(tmp_path / "store") == contents(tmp_path / "unbounded")


def test_a_size_that_is_given_is_taken_however_slow_the_teacher_is(tmp_path: Path) -> None:
    summary = dump(tmp_path / "store", make_options(shard_rows=32, shard_minutes=1e-6))

    assert summary.manifest.storage.shard_rows == 32


def test_views_that_are_added_have_the_shards_of_those_that_are_there(tmp_path: Path) -> None:
    dump(tmp_path / "store", unsized(shard_minutes=1e-9), source=Pictures(count=12), augment=AUGMENT)

    summary = dump(tmp_path / "store", unsized(views="+1"), source=Pictures(count=12), augment=AUGMENT)

    assert summary.manifest.storage.shard_rows == 1
    assert len(summary.manifest.shards) == 24


@pytest.mark.parametrize("minutes", [0.0, -1.0, float("nan")])
def test_no_time_at_all_is_refused(minutes: float) -> None:
    with pytest.raises(InvalidOption, match=r"expected more than 0\. Change `dump\.shard_minutes`"):
        DumpOptions(shard_minutes=minutes)
