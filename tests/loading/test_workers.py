"""Loader processes that stay from one order to the next, in real processes."""

import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import torch

from softlab.errors import UnreadableSample
from softlab.loading.aligned import Aligned
from softlab.loading.batch import Batch
from softlab.loading.loader import BatchLoader, LoaderOptions
from softlab.loading.lost_worker import find_lost_worker
from softlab.loading.order import RowIndices, in_sequence
from softlab.modalities.images.inputs import ImageInput
from tests.loading.labelled import open_rows
from tests.modalities.images.batches import images_in
from tests.sources.pictures import image_rows, truncated_png
from tests.teacher.dumping import Pictures

pytestmark = pytest.mark.process

CPU, COUNT = torch.device("cpu"), 12


def make_loader(source: Pictures | None = None, *, workers: int = 2, keep_workers: bool = True) -> BatchLoader:
    aligned = Aligned(source=source or Pictures(count=COUNT), inputs=(ImageInput(),))
    options = LoaderOptions(workers=workers)
    return BatchLoader(aligned, device=CPU, options=options, keep_decoded=True, keep_workers=keep_workers)


@pytest.fixture
def loader() -> Iterator[BatchLoader]:
    with closing(make_loader()) as made:
        yield made


def whole() -> list[RowIndices]:
    return list(in_sequence(0, COUNT, batch_size=2))


def pids() -> set[int | None]:
    return {process.pid for process in multiprocessing.active_children()}


def kill_one_and_load(loader: BatchLoader) -> None:
    os.kill(next(pid for pid in pids() if pid is not None), signal.SIGKILL)
    list(loader.load(whole()))


def numbers(batches: list[Batch]) -> list[int]:
    return [number for batch in batches for number in batch.source_B.tolist()]


def test_they_are_the_same_over_three_orders_and_none_is_left_when_the_loader_is_closed(loader: BatchLoader) -> None:
    expected = list(make_loader(workers=0).load(whole()))
    found = []
    for _ in range(3):
        batches = list(loader.load(whole()))
        found.append(pids())
        for one, other in zip(batches, expected, strict=True):
            assert images_in(one).equal(images_in(other))
            assert one.content_hashes == other.content_hashes

    loader.close()

    assert len(found[0]) == 2
    assert found[0] == found[1] == found[2]
    assert pids() == set()


def test_orders_may_differ_in_what_they_ask_for(loader: BatchLoader) -> None:
    orders = [whole(), list(reversed(whole())), whole()[:1], []]

    found = [numbers(list(loader.load(order))) for order in orders]

    assert found == [[number for rows in order for number in rows.source_B.tolist()] for order in orders]


def test_without_being_asked_for_they_end_with_their_order() -> None:
    list(make_loader(keep_workers=False).load(whole()))

    assert pids() == set()


def test_a_batch_alone_starts_none(loader: BatchLoader) -> None:
    batch = loader.load_one(whole()[1])

    assert batch.source_B.tolist() == [2, 3]
    assert pids() == set()


def test_an_order_that_is_left_early_ends_them_and_the_next_one_is_whole(loader: BatchLoader) -> None:
    with closing(loader.load(whole())) as batches:
        next(batches)

    assert pids() == set()
    assert numbers(list(loader.load(whole()))) == list(range(COUNT))


def test_an_order_that_nobody_closes_does_not_disturb_the_next_one(loader: BatchLoader) -> None:
    left = loader.load(whole())
    next(left)

    assert numbers(list(loader.load(whole()))) == list(range(COUNT))
    assert numbers(list(left)) == list(range(2, COUNT))
    assert len(pids()) == 2
    loader.close()
    assert pids() == set()


def test_an_order_that_ends_when_the_loader_is_closed_leaves_none(loader: BatchLoader) -> None:
    batches = loader.load(whole())
    next(batches)

    loader.close()

    assert numbers(list(batches)) == list(range(2, COUNT))
    assert pids() == set()


def test_after_a_damaged_sample_they_are_others_that_give_what_can_be_read(tmp_path: Path) -> None:
    rows = image_rows(COUNT)
    rows[5]["bytes"] = truncated_png()
    aligned = Aligned(source=open_rows(tmp_path / "a.parquet", rows), inputs=(ImageInput(),))
    with closing(BatchLoader(aligned, device=CPU, options=LoaderOptions(workers=2), keep_workers=True)) as loader:
        with pytest.raises(UnreadableSample):
            list(loader.load(whole()))

        assert pids() == set()
        assert numbers(list(loader.load(whole()[:2]))) == [0, 1, 2, 3]


def test_one_that_is_killed_while_it_waits_is_told_and_the_next_order_has_others(loader: BatchLoader) -> None:
    list(loader.load(whole()))

    with pytest.raises(RuntimeError) as caught:
        kill_one_and_load(loader)

    assert find_lost_worker(caught.value) is caught.value
    loader.close()
    assert pids() == set()
    assert numbers(list(loader.load(whole()))) == list(range(COUNT))


@pytest.mark.gpu
def test_batches_for_cuda_are_the_same_over_three_orders() -> None:
    expected = list(make_loader(workers=0).load(whole()))
    aligned, cuda = Aligned(source=Pictures(count=COUNT), inputs=(ImageInput(),)), torch.device("cuda")
    with closing(BatchLoader(aligned, device=cuda, options=LoaderOptions(workers=2), keep_workers=True)) as loader:
        for _ in range(3):
            for one, other in zip(loader.load(whole()), expected, strict=True):
                assert images_in(one.to(CPU)).equal(images_in(other))

    assert pids() == set()


class OfThisTest(Pictures):
    """A source that can't be pickled, as one with a lambda or an open connection."""

    def __reduce__(self) -> str:
        raise TypeError("can't be pickled")


@pytest.mark.skipif(sys.platform != "linux", reason="where processes aren't forked, sources have to be pickled")
def test_a_source_needs_nothing_that_can_be_pickled() -> None:
    with closing(make_loader(OfThisTest(count=COUNT))) as loader:
        assert numbers(list(loader.load(whole()))) == list(range(COUNT))
