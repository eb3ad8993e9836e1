import multiprocessing
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch

from softlab.errors import DamagedStore, InvalidOption, SoftlabError, StoreMismatch, UnreadableSample
from softlab.indices import SourceIndex, StoreIndex
from softlab.loading import aligned as loading_aligned
from softlab.loading import loader
from softlab.loading.aligned import Aligned
from softlab.loading.batch import Batch
from softlab.loading.decoded import SAMPLE_BYTES, TENSOR_BYTES
from softlab.loading.loader import BatchLoader, LoaderOptions
from softlab.loading.order import RowIndices, in_sequence
from softlab.loading.sample_check import align
from softlab.loading.workers import choose_workers
from softlab.modalities.images.inputs import ImageInput, make_input
from softlab.modalities.modality import decoding_for
from softlab.sources.source import Sample
from softlab.store import reader
from softlab.store.reader import Store
from tests.loading.labelled import dump_rows, open_rows
from tests.modalities.images.batches import images_in
from tests.sources.pictures import image_of, image_rows, truncated_png
from tests.store.building import flip_byte
from tests.teacher.dumping import Pictures, assert_same_labels

CPU = torch.device("cpu")
INPUT = ImageInput(size=(8, 8), mean=(0.3,), std=(0.2,))


def first_views(numbers: Sequence[int]) -> RowIndices:
    """Of some samples of a source."""
    return RowIndices(SourceIndex(np.array(numbers)), np.zeros(len(numbers), dtype=np.int64))


PART = [9, 2, 17, 4, 11, 0, 8]
"""Numbers in the store of the samples that the source holds."""

ORDER = [first_views(numbers) for numbers in ([6, 0, 3], [3, 3], [1], [5, 4, 2])]
"""Sample numbers of the source, with repeats."""


@pytest.fixture
def aligned(tmp_path: Path) -> Aligned:
    """Some samples, in an order of their own, and the store of more."""
    rows = image_rows(20)
    store = dump_rows(tmp_path / "store", open_rows(tmp_path / "dumped.parquet", rows), k=3)
    source = open_rows(tmp_path / "part.parquet", [rows[number] for number in PART])
    store_N = align(source, store, subset=True)
    return Aligned(source=source, inputs=(INPUT,), store=store, store_N=store_N)


def load(
    aligned: Aligned,
    order: Sequence[RowIndices] = ORDER,
    *,
    workers: int = 0,
    keep_decoded: bool = False,
    device: torch.device = CPU,
) -> list[Batch]:
    options = LoaderOptions(workers=workers)
    return list(BatchLoader(aligned, device=device, options=options, keep_decoded=keep_decoded).load(order))


def assert_same_batches(found: list[Batch], expected: list[Batch]) -> None:
    """To the bit."""
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.source_B.equal(other.source_B)
        assert one.views_B.equal(other.views_B)
        assert images_in(one).equal(images_in(other))
        assert one.content_hashes == other.content_hashes
        assert one.targets_B is not None
        assert other.targets_B is not None
        assert one.targets_B.equal(other.targets_B)
        assert one.labels is not None
        assert other.labels is not None
        assert_same_labels(one.labels, other.labels)


# What a batch holds.


def test_a_batch_holds_the_finished_images_and_targets_of_its_samples_in_the_order_asked_for(aligned: Aligned) -> None:
    found = load(aligned)

    source = aligned.source
    for batch, rows in zip(found, ORDER, strict=True):
        numbers = rows.source_B
        assert len(batch) == len(numbers)
        assert batch.source_B.tolist() == numbers.tolist()
        images_BCHW = make_input([image_of(source, number) for number in numbers.tolist()], INPUT)
        assert images_in(batch).equal(images_BCHW)
        assert batch.targets_B is not None
        assert batch.targets_B.tolist() == source.targets["label"][numbers].tolist()
        assert batch.content_hashes == tuple(source.read(number).content_hash for number in numbers.tolist())


@pytest.mark.parametrize("workers", [0, 2])
def test_soft_labels_are_those_of_the_same_key(aligned: Aligned, workers: int) -> None:
    found = load(aligned, workers=workers)

    assert aligned.store is not None
    number_of = {key: number for number, key in enumerate(aligned.store.read_samples().keys)}
    for batch in found:
        keys = [aligned.source.keys[number] for number in batch.source_B.tolist()]
        assert batch.labels is not None
        assert_same_labels(batch.labels, aligned.store.read([number_of[key] for key in keys]))


def test_without_a_store_there_are_no_soft_labels_and_without_targets_no_targets() -> None:
    (batch,) = load(Aligned(source=Pictures(count=3), inputs=(ImageInput(),)), in_sequence(0, 3, batch_size=3))

    assert batch.labels is None
    assert batch.targets_B is None


def test_hard_targets_that_count_other_classes_than_the_store_are_left_out(tmp_path: Path) -> None:
    """Class 1 of the source's six is not class 1 of the teacher's four."""
    source = open_rows(tmp_path / "a.parquet", image_rows(4), class_names=tuple("abcdef"))
    store = dump_rows(tmp_path / "store", source)

    aligned = Aligned(source=source, inputs=(ImageInput(),), store=store, store_N=align(source, store, subset=False))
    (batch,) = load(aligned, in_sequence(0, 4, batch_size=4))
    assert batch.labels is not None
    assert batch.targets_B is None


# Workers and decoded images change nothing.


def test_how_samples_are_decoded_is_decided_once_and_not_for_each(
    aligned: Aligned, monkeypatch: pytest.MonkeyPatch
) -> None:
    decided = Mock(wraps=decoding_for)
    monkeypatch.setattr(loading_aligned, "decoding_for", decided)

    load(aligned)

    decided.assert_called_once()


@pytest.mark.process
def test_workers_give_the_same_batches_in_the_same_order(aligned: Aligned) -> None:
    assert_same_batches(load(aligned, workers=2), load(aligned, workers=0))


@pytest.mark.parametrize("workers", [0, 2])
def test_of_very_many_samples_no_more_is_known_than_a_batch_needs(
    aligned: Aligned, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = load(aligned)
    monkeypatch.setattr(reader, "LARGE_TABLE", 0)
    monkeypatch.setattr(Store, "read_samples", None)

    source, store = aligned.source, aligned.store
    assert store is not None
    assert align(source, store, subset=True).tolist() == PART
    assert_same_batches(load(aligned, workers=workers), expected)
    assert aligned.store_N is not None
    other = replace(aligned, store_N=StoreIndex(np.roll(aligned.store_N, 1)))
    with pytest.raises(StoreMismatch, match="is not what the teacher saw: its content hash differs"):
        load(other, workers=workers)


@pytest.mark.parametrize("workers", [0, 2])
def test_keeping_decoded_images_changes_nothing(aligned: Aligned, workers: int) -> None:
    epochs = [*ORDER, *ORDER, *ORDER]

    assert_same_batches(load(aligned, epochs, workers=workers, keep_decoded=True), load(aligned, epochs))


class Counted(Pictures):
    """Counts how often each picture is decoded."""

    reads: list[int]

    def read(self, index: int) -> Sample:
        self.reads.append(index)
        return super().read(index)


@pytest.mark.parametrize(
    ("keep_decoded", "kept_pictures", "expected"),
    [
        (False, 99, [0, 1, 2, 3, 0, 1, 2, 3]),
        (True, 99, [0, 1, 2, 3]),
        (True, 2, [0, 1, 2, 3, 2, 3]),
    ],
)
def test_an_image_is_decoded_once_as_far_as_the_decoded_ones_fit(
    monkeypatch: pytest.MonkeyPatch, keep_decoded: bool, kept_pictures: int, expected: list[int]
) -> None:
    monkeypatch.setattr(loader, "DECODED_BYTES", kept_pictures * (3 * 4 * 6 + SAMPLE_BYTES + TENSOR_BYTES))
    source = Counted(count=4)
    object.__setattr__(source, "reads", [])

    load(
        Aligned(source=source, inputs=(ImageInput(),)),
        [first_views(range(4)), first_views(range(4))],
        keep_decoded=keep_decoded,
    )

    assert source.reads == expected


@pytest.mark.parametrize("workers", [0, 2])
def test_loading_leaves_the_global_random_state_as_it_was(aligned: Aligned, workers: int) -> None:
    before = torch.get_rng_state()

    load(aligned, workers=workers)

    assert torch.get_rng_state().equal(before)


# Errors.


@pytest.mark.parametrize("workers", [0, 2])
def test_an_unreadable_image_is_the_readers_own_error(tmp_path: Path, workers: int) -> None:
    rows = image_rows(8)
    rows[5]["bytes"] = truncated_png()
    source = open_rows(tmp_path / "a.parquet", rows)

    with pytest.raises(UnreadableSample, match=r"`source\.skip_unreadable = true`") as caught:
        load(Aligned(source=source, inputs=(ImageInput(),)), in_sequence(0, 8, batch_size=2), workers=workers)
    with pytest.raises(UnreadableSample) as expected:
        image_of(source, 5)
    assert str(caught.value) == str(expected.value)
    assert "Traceback" not in str(caught.value)


@pytest.mark.process
def test_batches_before_an_unreadable_image_still_come(tmp_path: Path) -> None:
    rows = image_rows(6)
    rows[5]["bytes"] = truncated_png()
    aligned = Aligned(source=open_rows(tmp_path / "a.parquet", rows), inputs=(ImageInput(),))
    loader = BatchLoader(aligned, device=CPU, options=LoaderOptions(workers=2))

    found: list[list[int]] = []
    with pytest.raises(SoftlabError):
        found.extend(batch.source_B.tolist() for batch in loader.load(in_sequence(0, 6, batch_size=2)))
    assert found == [[0, 1], [2, 3]]


@pytest.mark.process
def test_workers_have_ended_when_an_error_arrives_though_somebody_keeps_it(aligned: Aligned) -> None:
    """Its traceback would keep the iterator, and once that is garbage torch waits five seconds for each worker."""
    assert aligned.store is not None
    assert isinstance(aligned.store.path, Path)
    flip_byte(aligned.store.path / "outputs/logits/logits/c/0/0/0")

    with pytest.raises(DamagedStore) as kept:
        load(aligned, workers=2)

    assert kept.value.__traceback__ is not None
    assert multiprocessing.active_children() == []


class Broken(Pictures):
    def read(self, index: int) -> Sample:
        raise ZeroDivisionError("a bug")


def test_a_bug_in_a_source_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError, match="a bug"):
        load(Aligned(source=Broken(count=2), inputs=(ImageInput(),)), in_sequence(0, 2, batch_size=2))


def test_fewer_than_no_workers_are_refused() -> None:
    with pytest.raises(InvalidOption, match=r"device\.workers = -1: expected 0 or more\. Change `device\.workers`\."):
        LoaderOptions(workers=-1)


# Devices.


def test_workers_are_started_only_beside_an_accelerator_unless_asked_for() -> None:
    assert choose_workers(None, CPU) == 0
    assert choose_workers(3, CPU) == 3
    assert choose_workers(0, torch.device("cuda")) == 0
    assert 1 <= choose_workers(None, torch.device("cuda")) <= 8


def test_processes_that_share_a_machine_share_its_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.multiprocessing, "cpu_count", lambda: 16)
    alone = choose_workers(None, torch.device("cuda"))

    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")

    assert (alone, choose_workers(None, torch.device("cuda"))) == (8, 3)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "16")
    assert choose_workers(None, torch.device("cuda")) == 1


def test_channels_last_changes_the_memory_order_alone(aligned: Aligned) -> None:
    batch = load(aligned)[0]

    moved = batch.to(CPU, channels_last=True)
    assert images_in(moved).is_contiguous(memory_format=torch.channels_last)
    assert_same_batches([moved], [batch])


@pytest.mark.gpu
@pytest.mark.parametrize("workers", [0, 2])
def test_batches_for_cuda_lie_in_pinned_memory_and_arrive_unchanged(aligned: Aligned, workers: int) -> None:
    found = load(aligned, workers=workers, device=torch.device("cuda"))

    assert all(images_in(batch).is_pinned() for batch in found)
    assert all(batch.labels is not None and batch.labels.logits_BK.is_pinned() for batch in found)
    assert_same_batches([batch.to(torch.device("cuda")).to(CPU) for batch in found], load(aligned))
