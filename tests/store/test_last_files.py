"""The end of a dump, whose table of samples is never in memory as a whole: here a stretch has a few samples."""

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from softlab.disk import is_temporary, list_files
from softlab.errors import DamagedStore, StoreMismatch, StoreWriteFailed
from softlab.identity import ContentHashes, content_hash, source_fingerprint
from softlab.store import known_samples, sample_columns, samples
from softlab.store.access import joining, writing
from softlab.store.known_samples import KnownSamples
from softlab.store.reader import open_store
from softlab.store.samples import SampleTable
from softlab.store.verify import verify_store
from softlab.teacher.job import finalize
from tests.store.building import contents, make_arrays, make_plan, make_samples, write_shard, write_store
from tests.store.unit_stores import UnitModel, make_unit_samples, unit_models, write_unit_shard, write_units
from tests.teacher.augmenting import AUGMENT
from tests.teacher.dumping import dump, make_options

GROUP_ROWS = 3


@pytest.fixture(scope="module", autouse=True)
def few_samples_are_very_many() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(samples, "GROUP_ROWS", GROUP_ROWS)
        patch.setattr(sample_columns, "GROUP_ROWS", GROUP_ROWS)
        patch.setattr(known_samples, "GROUP_ROWS", GROUP_ROWS)
        patch.setattr(samples, "BLOCK_ROWS", 2)
        patch.setattr(sample_columns, "BLOCK_ROWS", 4)
        yield


def known_of(table: SampleTable) -> SampleTable:
    """What is known before the first shard."""
    return replace(table, content_hashes=ContentHashes.from_bytes(bytes(16 * len(table))), rows_N=None)


@settings(max_examples=12)
@given(num_samples=st.integers(1, 14), shard_rows=st.integers(1, 6), num_views=st.integers(1, 2))
def test_a_store_that_is_finished_by_stretches_has_the_bytes_of_one_whose_table_was_given(
    tmp_path_factory: pytest.TempPathFactory, num_samples: int, shard_rows: int, num_views: int
) -> None:
    folder = tmp_path_factory.mktemp("stores")
    plan = make_plan(num_samples=num_samples, shard_rows=2 * shard_rows, num_views=num_views)
    table, arrays = make_samples(plan), make_arrays(plan)
    write_store(folder / "whole", plan)

    with writing(folder / "store", plan, expected=lambda: known_of(table)) as writer:
        for shard in writer.pending:
            write_shard(writer, shard, arrays)
    manifest = finalize(folder / "store")

    assert contents(folder / "store") == contents(folder / "whole")
    assert manifest.source_fingerprint == source_fingerprint(table.keys, table.content_hashes)
    assert list(open_store(folder / "store").read_samples().keys) == list(table.keys)


@settings(max_examples=5)
@given(model=unit_models())
def test_so_has_one_with_units(tmp_path_factory: pytest.TempPathFactory, model: UnitModel) -> None:
    folder, table = tmp_path_factory.mktemp("stores"), make_unit_samples(model)
    write_units(folder / "whole", model)

    with writing(folder / "store", model.plan, expected=lambda: known_of(table)) as writer:
        for shard in writer.pending:
            write_unit_shard(writer, model, shard)
    finalize(folder / "store")

    assert contents(folder / "store") == contents(folder / "whole")
    np.testing.assert_array_equal(open_store(folder / "store").read_samples().rows_N, model.rows_N)


def test_views_are_added_to_a_store_of_several_stretches(tmp_path: Path) -> None:
    first = dump(tmp_path / "store", make_options(views=1), augment=AUGMENT).manifest

    more = dump(tmp_path / "store", make_options(views="+1"), augment=AUGMENT).manifest

    assert (more.source_fingerprint, more.samples_file) == (first.source_fingerprint, first.samples_file)
    assert verify_store(tmp_path / "store").is_intact


def test_a_sample_that_two_processes_saw_otherwise_is_named_and_nothing_is_left_of_the_table(tmp_path: Path) -> None:
    plan = make_plan(num_samples=11)
    table, arrays = make_samples(plan), make_arrays(plan)
    with (
        writing(tmp_path, plan, expected=lambda: known_of(table), lets_others_join=True) as writer,
        joining(tmp_path, plan) as other,
    ):
        for shard in writer.pending:
            if shard.view == 0:
                write_shard(writer, shard, arrays)
        for shard in other.pending:
            if shard.view == 1:
                seen = list(table.content_hashes[shard.start : shard.stop])
                if shard.stop == 11:
                    seen[9 - shard.start] = content_hash(b"another")
                write_shard(other, shard, arrays, content_hashes=seen)

    with pytest.raises(StoreMismatch, match=re.escape("sample '009.png' has changed since this dump was begun")):
        finalize(tmp_path)

    left = list_files(tmp_path)
    assert not any(is_temporary(path) for path in left)
    assert not {"manifest.json", "samples.parquet"} & set(left)


def test_a_damaged_table_of_what_was_known_is_told_and_nothing_is_finished(tmp_path: Path) -> None:
    plan = make_plan(num_samples=11)
    table, arrays = make_samples(plan), make_arrays(plan)
    with writing(tmp_path, plan, expected=lambda: known_of(table)) as writer:
        for shard in writer.pending:
            write_shard(writer, shard, arrays)
    known = tmp_path / "commits/samples.parquet"
    known.write_bytes(known.read_bytes()[:-1])

    with pytest.raises(DamagedStore, match=r"commits/samples.parquet: .*Run the command that began this dump again"):
        finalize(tmp_path)

    assert not (tmp_path / "manifest.json").exists()


@pytest.mark.process
def test_a_disk_without_room_for_the_table_is_told_and_the_dump_is_finished_when_there_is_some(
    tmp_path: Path, resize_disk: Callable[[int], Path]
) -> None:
    plan, disk = make_plan(num_samples=1100, shard_rows=1000), resize_disk(2000)
    table, arrays = make_samples(plan), make_arrays(plan)
    with writing(disk / "store", plan, expected=lambda: known_of(table)) as writer:
        for shard in writer.pending:
            write_shard(writer, shard, arrays)
    with suppress(OSError), (disk / "filler").open("wb", buffering=0) as filler:
        while True:
            filler.write(bytes(4096))

    with pytest.raises(StoreWriteFailed, match="No space left on device"):
        finalize(disk / "store")
    (disk / "filler").unlink()

    assert finalize(disk / "store").num_rows == 2200
    assert verify_store(disk / "store").is_intact


@pytest.mark.parametrize("is_finished", [False, True])
def test_known_hashes_are_read_of_any_samples_that_lie_together(tmp_path: Path, is_finished: bool) -> None:
    plan = make_plan(num_samples=11, shard_rows=4)
    table = make_samples(plan)
    hashes_N16 = ContentHashes(table.content_hashes).bytes_N16.copy()
    if is_finished:
        write_store(tmp_path / "store", plan)
        parent = open_store(tmp_path / "store").manifest
    else:
        hashes_N16[5:7] = 0
        known = replace(table, content_hashes=ContentHashes.from_bytes(hashes_N16), rows_N=None)
        with writing(tmp_path / "store", plan, expected=lambda: known):
            pass
        parent = None

    found = KnownSamples(tmp_path / "store", plan, parent=parent)

    for start in range(11):
        for stop in range(start + 1, 12):
            hashes_S16 = found.hashes_between(start, stop)
            assert hashes_S16 is not None
            assert np.array_equal(hashes_S16, hashes_N16[start:stop])


def test_of_a_dump_that_knows_none_there_are_no_hashes(tmp_path: Path) -> None:
    plan = make_plan(num_samples=11, shard_rows=4)
    with writing(tmp_path / "store", plan, expected=lambda: known_of(make_samples(plan))):
        pass

    assert KnownSamples(tmp_path / "store", plan, parent=None).hashes_between(0, 11) is None
