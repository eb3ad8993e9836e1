import pickle
import re
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from softlab.errors import DamagedStore, InvalidOption, NotAStore, StoreError, UnfinishedStore, UnsupportedStore
from softlab.identity import digest_of
from softlab.labels.selection import keep_top_k
from softlab.labels.soft_labels import SoftLabels
from softlab.manifest import StorePlan
from softlab.store.cache import CacheOptions
from softlab.store.format import Array, FormatName
from softlab.store.label_coding import coding_of
from softlab.store.reader import Store, open_store
from tests.manifests import change_manifest, set_at
from tests.store.building import (
    CODINGS,
    FORMATS,
    VALUES_CODINGS,
    contents,
    flip_byte,
    make_arrays,
    make_logits,
    make_plan,
    make_samples,
    plain_values,
    write_some,
    write_store,
)

FEATURES: dict[str, tuple[int, ...]] = {"pooled": (6,), "map": (3, 2), "norm": ()}
NUM_SAMPLES = 11
NO_CACHE = CacheOptions(max_bytes=0)
BOTH_FORMATS = pytest.mark.parametrize("format", FORMATS)
BOTH_READERS = pytest.mark.parametrize("is_cached", [True, False], ids=["cached", "uncached"])

samples_of_any_order = st.lists(st.integers(0, NUM_SAMPLES - 1), max_size=30)
views = st.integers(0, 1)


@dataclass(frozen=True)
class Example:
    """A finished store, and the arrays that it was written from."""

    path: Path
    plan: StorePlan
    arrays: dict[str, Array]
    cache: CacheOptions

    def open(self, *, is_cached: bool = False) -> Store:
        return open_store(self.path, cache=self.cache if is_cached else NO_CACHE)

    def labels(self, store: Store, samples: list[int], *, view: int) -> SoftLabels:
        """What numpy's indexing of the original arrays gives."""
        chosen = {name: array[view][samples] for name, array in self.arrays.items()}
        return coding_of(store.labels).decode(
            {
                name.removeprefix("outputs/logits/"): array
                for name, array in chosen.items()
                if name.startswith("outputs/logits/")
            }
        )


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Example]:
    """By format and coding; values have the first coding with the first, and so on. Tests of damage make their own."""
    root = tmp_path_factory.mktemp("examples")
    found: dict[tuple[str, str], Example] = {}
    for format in FORMATS:
        for coding in CODINGS:
            values_coding = VALUES_CODINGS[CODINGS.index(coding)]
            plan = make_plan(format=format, coding=coding, values_coding=values_coding, features=FEATURES)
            path = root / f"{format}-{coding}"
            write_store(path, plan)
            cache = CacheOptions(dir=root / "cache")
            found[format, coding] = Example(path=path, plan=plan, arrays=make_arrays(plan), cache=cache)
    return found


def assert_same(found: SoftLabels, expected: SoftLabels) -> None:
    for name in ("class_ids_BK", "logits_BK", "log_tail_BT", "max_logit_B"):
        one, other = getattr(found, name), getattr(expected, name)
        assert one.dtype == other.dtype
        assert torch.equal(one, other), name
    assert (found.temperatures, found.num_classes) == (expected.temperatures, expected.num_classes)


def read_everything(store: Store) -> list[torch.Tensor]:
    found = []
    for view in range(store.num_views):
        labels = store.read(range(store.num_samples), view=view)
        found += [labels.class_ids_BK, labels.logits_BK, labels.log_tail_BT, labels.max_logit_B]
        found += [store.read_features(name, range(store.num_samples), view=view) for name in store.feature_names]
    return found


def logits_of(store: Store, samples: list[int]) -> list[list[float]]:
    rows: list[list[float]] = store.read(samples).logits_BK.tolist()
    return rows


# Rows.


@pytest.mark.parametrize("coding", CODINGS)
@BOTH_READERS
@given(samples=samples_of_any_order, view=views)
def test_packed_rows_are_unpacked_as_they_would_have_been_read(
    examples: dict[tuple[str, str], Example], coding: str, is_cached: bool, samples: list[int], view: int
) -> None:
    store = examples["zarr", coding].open(is_cached=is_cached)

    rows = store.read_packed(samples, view=view)

    assert rows.dtype == np.uint8
    assert len(rows) == len(samples)
    elsewhere = pickle.loads(pickle.dumps(store)), pickle.loads(pickle.dumps(rows))
    assert_same(elsewhere[0].unpack(torch.from_numpy(elsewhere[1])), store.read(samples, view=view))


def test_rows_of_another_store_are_not_unpacked(examples: dict[tuple[str, str], Example]) -> None:
    wide, narrow = examples["zarr", "float32"].open(), examples["zarr", "uint8"].open()

    with pytest.raises(InvalidOption, match=re.escape("Unpack what this store's read_packed gave")):
        narrow.unpack(torch.from_numpy(wide.read_packed([0])))


@pytest.mark.parametrize("coding", CODINGS)
@BOTH_FORMATS
@BOTH_READERS
@given(samples=samples_of_any_order, view=views)
def test_any_samples_in_any_order_are_read(
    examples: dict[tuple[str, str], Example],
    format: str,
    coding: str,
    is_cached: bool,
    samples: list[int],
    view: int,
) -> None:
    example = examples[format, coding]
    store = example.open(is_cached=is_cached)

    labels = store.read(samples, view=view)

    assert store.fits_cache() == is_cached
    assert_same(labels, example.labels(store, samples, view=view))


@pytest.mark.parametrize("name", FEATURES)
@BOTH_FORMATS
@BOTH_READERS
@pytest.mark.parametrize("coding", CODINGS)
@given(samples=samples_of_any_order, view=views)
def test_any_features_in_any_order_are_read(
    examples: dict[tuple[str, str], Example],
    format: str,
    coding: str,
    name: str,
    is_cached: bool,
    samples: list[int],
    view: int,
) -> None:
    example = examples[format, coding]

    features = example.open(is_cached=is_cached).read_features(name, samples, view=view)

    assert features.dtype == torch.float32
    fields = example.plan.storage.fields_of(f"outputs/{name}")
    expected = plain_values({field.short_name: example.arrays[field.name][view][samples] for field in fields})
    np.testing.assert_array_equal(features.numpy(), expected, strict=True)


@BOTH_FORMATS
def test_what_was_stored_as_float32_is_what_the_teacher_said(
    examples: dict[tuple[str, str], Example], format: FormatName
) -> None:
    example = examples[format, "float32"]
    said = keep_top_k(make_logits(example.plan), k=3, temperatures=(1.0, 4.0))

    labels = example.open().read(range(NUM_SAMPLES), view=1)

    assert torch.equal(labels.logits_BK, said.logits_BK[NUM_SAMPLES:])
    assert torch.equal(labels.class_ids_BK, said.class_ids_BK[NUM_SAMPLES:])
    assert torch.equal(labels.log_tail_BT, said.log_tail_BT[NUM_SAMPLES:])


@BOTH_READERS
@pytest.mark.parametrize(
    "samples", [[3, 1, 1], (3, 1, 1), np.array([3, 1, 1]), np.array([3, 1, 1], "u1"), torch.tensor([3, 1, 1])]
)
def test_samples_may_be_given_in_any_kind_of_list(
    examples: dict[tuple[str, str], Example], is_cached: bool, samples: Any
) -> None:
    example = examples["zarr", "float16"]
    store = example.open(is_cached=is_cached)

    assert_same(store.read(samples), example.labels(store, [3, 1, 1], view=0))


@BOTH_READERS
def test_rows_may_be_changed_without_changing_the_store(
    examples: dict[tuple[str, str], Example], is_cached: bool
) -> None:
    store = examples["parquet", "float32"].open(is_cached=is_cached)
    before = logits_of(store, [5, 6])

    store.read([5, 6]).logits_BK.fill_(7)

    assert logits_of(store, [5, 6]) == before


@BOTH_FORMATS
def test_a_store_knows_what_it_holds(examples: dict[tuple[str, str], Example], format: str) -> None:
    store = examples[format, "float16"].open()

    assert (store.num_samples, store.num_views, store.num_classes, store.k) == (NUM_SAMPLES, 2, 20, 3)
    assert store.temperatures == (1.0, 4.0)
    assert store.feature_names == ("pooled", "map", "norm")
    assert store.class_names is None


@BOTH_FORMATS
def test_samples_are_read_back(examples: dict[tuple[str, str], Example], format: str) -> None:
    example = examples[format, "float16"]
    expected = make_samples(example.plan)

    samples = example.open().read_samples()

    assert list(samples.keys) == list(expected.keys)
    assert list(samples.content_hashes) == list(expected.content_hashes)
    np.testing.assert_array_equal(samples.targets_N, expected.targets_N)


@BOTH_FORMATS
@BOTH_READERS
def test_only_the_files_of_a_feature_are_read(tmp_path: Path, format: FormatName, is_cached: bool) -> None:
    plan = make_plan(format=format, features=FEATURES)
    write_store(tmp_path / "store", plan)
    for name in contents(tmp_path / "store"):
        if not name.startswith("outputs/map/") and name != "manifest.json":
            (tmp_path / "store" / name).unlink()
    store = open_store(tmp_path / "store", cache=CacheOptions(dir=tmp_path / "cache") if is_cached else NO_CACHE)

    features = store.read_features("map", range(NUM_SAMPLES), view=1)

    np.testing.assert_array_equal(features, make_arrays(plan)["outputs/map/values"][1].astype("f4"))


@BOTH_FORMATS
@BOTH_READERS
def test_only_the_shards_that_hold_the_samples_are_read(tmp_path: Path, format: FormatName, is_cached: bool) -> None:
    write_store(tmp_path / "store", make_plan(format=format))
    store = open_store(tmp_path / "store", cache=CacheOptions(dir=tmp_path / "cache") if is_cached else NO_CACHE)
    for shard in [store.manifest.grid.shard(0, 0), store.manifest.grid.shard(1, 1)]:
        for file in store.shard_record(shard).files:
            (tmp_path / "store" / file.path).unlink()

    assert len(store.read([10, 4, 7])) == 3
    assert len(store.read([3, 8], view=1)) == 2
    with pytest.raises(DamagedStore):
        store.read([10, 3])


# Other processes.


@BOTH_FORMATS
@BOTH_READERS
def test_a_pickled_store_reads_the_same_rows(
    examples: dict[tuple[str, str], Example], format: str, is_cached: bool
) -> None:
    store = examples[format, "uint8"].open(is_cached=is_cached)
    store.read([0])

    copy = pickle.loads(pickle.dumps(store))

    assert copy.digest == store.digest
    assert copy.fits_cache() == is_cached
    for one, other in zip(read_everything(copy), read_everything(store), strict=True):
        assert torch.equal(one, other)


@BOTH_FORMATS
@BOTH_READERS
def test_a_store_can_be_sent_to_another_process(
    examples: dict[tuple[str, str], Example], workers: ProcessPoolExecutor, format: str, is_cached: bool
) -> None:
    store = examples[format, "float16"].open(is_cached=is_cached)

    there = workers.submit(logits_of, store, [10, 0, 5]).result()

    assert there == logits_of(store, [10, 0, 5])


@pytest.mark.process
@BOTH_FORMATS
@BOTH_READERS
def test_a_store_that_was_read_from_can_be_read_in_a_forked_process(
    tmp_path: Path, format: FormatName, is_cached: bool
) -> None:
    """As a loader's workers do by default on Linux: threads that zarr or Arrow started don't live on in them."""
    write_store(tmp_path / "store", make_plan(format=format))
    store = open_store(tmp_path / "store", cache=CacheOptions(dir=tmp_path / "cache") if is_cached else NO_CACHE)
    store.read([0])
    loader: DataLoader[list[int]] = DataLoader(
        [[4], [8], [10, 0]],  # type: ignore[arg-type]  # a list is a data set
        batch_size=None,
        num_workers=1,
        collate_fn=lambda samples: store.read(samples).logits_BK,
        multiprocessing_context=get_context("fork"),
        timeout=60,
    )

    batches = list(loader)

    for batch, samples in zip(batches, [[4], [8], [10, 0]], strict=True):
        assert torch.equal(batch, store.read(samples).logits_BK)


# What can't be read.


@BOTH_READERS
@pytest.mark.parametrize(("samples", "outside"), [([0, 11], "11"), ([-1], "-1"), ([5, -3, 20], "-3")])
def test_samples_that_are_not_there_are_refused(
    examples: dict[tuple[str, str], Example], is_cached: bool, samples: list[int], outside: str
) -> None:
    store = examples["zarr", "float16"].open(is_cached=is_cached)

    with pytest.raises(InvalidOption, match=re.escape(f"has samples 0 to 10, not {outside}. Ask for one of those.")):
        store.read(samples)
    with pytest.raises(InvalidOption, match=re.escape("Ask for one of those.")):
        store.read_features("pooled", samples)


@pytest.mark.parametrize("samples", [[0.5], [True, False], np.array([1.0]), torch.tensor([True] * NUM_SAMPLES), ["1"]])
def test_what_is_no_sample_index_is_refused(examples: dict[tuple[str, str], Example], samples: Any) -> None:
    """A mask would read samples 0 and 1, a fraction its floor: the wrong labels, silently."""
    with pytest.raises(InvalidOption, match=re.escape("Ask by sample indices.")):
        examples["zarr", "float16"].open().read(samples)


@pytest.mark.parametrize("view", [-1, 2])
def test_views_that_are_not_there_are_refused(examples: dict[tuple[str, str], Example], view: int) -> None:
    expected = (
        f"has views 0 to 1, not {view}. Ask for one of those, or add views with `softlab dump-teacher --views +N`."
    )

    with pytest.raises(InvalidOption, match=re.escape(expected)):
        examples["zarr", "float16"].open().read([0], view=view)


def test_a_feature_that_is_not_there_is_refused(examples: dict[tuple[str, str], Example]) -> None:
    with pytest.raises(
        InvalidOption,
        match=re.escape("has no feature 'poled' (it has: pooled, map, norm). Dump it under `dump.feature`."),
    ):
        examples["zarr", "float16"].open().read_features("poled", [0])


def test_a_store_without_features_says_so(tmp_path: Path) -> None:
    write_store(tmp_path, make_plan(features={}))

    with pytest.raises(InvalidOption, match=re.escape("(it has: none). Dump it under `dump.feature`.")):
        open_store(tmp_path, cache=NO_CACHE).read_features("pooled", [0])


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("", "manifest.json: is missing, so this is not a softlab store."),
        ("file", "manifest.json: is missing, so this is not a softlab store."),
        ("missing", "missing: no such folder."),
    ],
)
def test_what_is_not_a_store_is_refused(tmp_path: Path, name: str, found: str) -> None:
    (tmp_path / "file").write_text("hello")

    next_step = "Check the address; a published store is named NAME@VERSION."
    with pytest.raises(NotAStore, match=re.escape(f"{found} {next_step}")):
        open_store(tmp_path / name)


def test_an_unfinished_store_is_refused(tmp_path: Path) -> None:
    write_some(tmp_path, make_plan(), num_shards=6)

    with pytest.raises(UnfinishedStore, match=re.escape("is not finished. Run the same")):
        open_store(tmp_path)


def test_a_store_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    write_store(tmp_path, make_plan())
    change_manifest(tmp_path, lambda tree: set_at(tree, "format_version", 4))

    with pytest.raises(UnsupportedStore, match=re.escape("Upgrade softlab.")):
        open_store(tmp_path)


HOSTILE: dict[str, tuple[str, Any]] = {
    "parent folder": ("shards.0.files.0.path", "../secret"),
    "absolute path": ("samples_file.path", "/etc/passwd"),
    "huge row": ("storage.fields.1.row_shape", [1 << 40]),
    "huge feature": ("storage.fields.4.row_shape", [1 << 20, 1 << 20]),
    "huge shard": ("storage.shard_rows", 1 << 40),
    "huge number of samples": ("source.num_samples", 1 << 48),
    "huge number of views": ("views.num_views", 1 << 48),
    "huge number of classes kept": ("outputs.0.selection.k", 1 << 40),
}


@pytest.mark.parametrize("change", HOSTILE)
def test_a_hostile_manifest_is_refused_before_anything_is_allocated(tmp_path: Path, change: str) -> None:
    write_store(tmp_path, make_plan())
    change_manifest(tmp_path, lambda tree: set_at(tree, *HOSTILE[change]))

    with pytest.raises(NotAStore, match=re.escape("Get the store again.")):
        open_store(tmp_path)


@BOTH_FORMATS
def test_a_manifest_that_names_other_files_for_a_shard_is_refused(tmp_path: Path, format: FormatName) -> None:
    write_store(tmp_path, make_plan(format=format))
    change_manifest(tmp_path, lambda tree: set_at(tree, "shards.0.files.0.path", "outputs/elsewhere"))
    change_manifest(tmp_path, lambda tree: set_at(tree, "shards.0.files.1.path", "outputs/elsewhere2"))

    with pytest.raises(NotAStore, match=re.escape("Get the store again.")):
        open_store(tmp_path, cache=NO_CACHE).read([0])


def vouch_for(root: Path, name: str, data: bytes) -> None:
    """Other bytes for a file of the first shard, and a manifest that says they are right."""
    (root / name).write_bytes(data)
    files = open_store(root).manifest.shards[0].files
    number = [file.path for file in files].index(name)
    record = {"path": name, "bytes": len(data), "blake3": digest_of(data)}
    change_manifest(root, lambda tree: set_at(tree, f"shards.0.files.{number}", record))


PARQUET_FILE = "outputs/logits/view=00000/part-00000.parquet"
OTHER_TABLES: dict[str, Callable[[pyarrow.Table], pyarrow.Table]] = {
    "too few rows": lambda table: table.slice(0, 3),
    "too many rows": lambda table: pyarrow.concat_tables([table, table]),
    "a column less": lambda table: table.drop_columns(["logits"]),
    "another type": lambda table: table.set_column(3, "max_logit", table["max_logit"].cast(pyarrow.float32())),
    "shorter lists": lambda table: table.set_column(
        2, "logits", pyarrow.array([[1.0]] * len(table), pyarrow.list_(pyarrow.float16(), 1))
    ),
}


@BOTH_READERS
@pytest.mark.parametrize("change", OTHER_TABLES)
def test_a_shard_of_another_shape_is_refused_even_if_its_hash_is_right(
    tmp_path: Path, is_cached: bool, change: str
) -> None:
    """Rows beyond a shard's own would overwrite its neighbours in the row cache; missing ones would read as zeros."""
    write_store(tmp_path / "store", make_plan(format="parquet"))
    table = pyarrow.parquet.read_table(tmp_path / "store" / PARQUET_FILE, partitioning=None)
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(OTHER_TABLES[change](table), sink)
    vouch_for(tmp_path / "store", PARQUET_FILE, sink.getvalue().to_pybytes())
    store = open_store(tmp_path / "store", cache=CacheOptions(dir=tmp_path / "cache") if is_cached else NO_CACHE)

    with pytest.raises(DamagedStore, match=r"view-00000-part-00000 can't be decoded: .*Get the store again\."):
        store.read([0])


@pytest.mark.parametrize(("format", "name"), [("zarr", "outputs/logits/logits/c/0/0/0"), ("parquet", PARQUET_FILE)])
@pytest.mark.parametrize("data", [b"hello", bytes(1000), b"PAR1" + bytes(100) + b"PAR1"])
def test_a_shard_of_garbage_is_refused_even_if_its_hash_is_right(
    tmp_path: Path, format: FormatName, name: str, data: bytes
) -> None:
    write_store(tmp_path, make_plan(format=format))
    vouch_for(tmp_path, name, data)

    with pytest.raises(DamagedStore, match=re.escape("Get the store again.")):
        open_store(tmp_path, cache=NO_CACHE).read([0])


# Damage.


def assert_damage_is_noticed(root: Path) -> None:
    with pytest.raises(DamagedStore, match=re.escape("lists all damage; get those files again, or dump again.")):
        read_everything(open_store(root, cache=NO_CACHE))


@BOTH_FORMATS
@pytest.mark.parametrize(
    "inflict",
    [Path.unlink, flip_byte, lambda path: path.write_bytes(path.read_bytes()[:-1]), lambda path: path.write_bytes(b"")],
    ids=["deleted", "flipped byte", "cut", "emptied"],
)
def test_damage_to_any_file_of_any_shard_is_noticed(
    tmp_path: Path, format: FormatName, inflict: Callable[[Path], object]
) -> None:
    write_store(tmp_path, make_plan(format=format))
    files = [file.path for shard in open_store(tmp_path).manifest.shards for file in shard.files]

    for name in files:
        good = (tmp_path / name).read_bytes()
        inflict(tmp_path / name)
        assert_damage_is_noticed(tmp_path)
        (tmp_path / name).write_bytes(good)

    read_everything(open_store(tmp_path, cache=NO_CACHE))


def test_a_flipped_byte_in_the_samples_is_noticed(tmp_path: Path) -> None:
    write_store(tmp_path, make_plan())
    flip_byte(tmp_path / "samples.parquet")

    with pytest.raises(DamagedStore, match=re.escape("get those files again, or dump again.")):
        open_store(tmp_path).read_samples()


def test_any_flipped_byte_of_the_manifest_is_refused_or_changes_the_digest(tmp_path: Path) -> None:
    write_store(tmp_path, make_plan(num_samples=2, num_views=1, features={}))
    digest = open_store(tmp_path).digest

    for position in range((tmp_path / "manifest.json").stat().st_size):
        flip_byte(tmp_path / "manifest.json", position=position)
        with suppress(StoreError):
            assert open_store(tmp_path).digest != digest
        flip_byte(tmp_path / "manifest.json", position=position)


@BOTH_FORMATS
def test_damage_is_not_cached(tmp_path: Path, format: FormatName) -> None:
    plan = make_plan(format=format)
    write_store(tmp_path / "store", plan)
    good = contents(tmp_path / "store")
    store = open_store(tmp_path / "store", cache=CacheOptions(dir=tmp_path / "cache"))
    damaged = tmp_path / "store" / store.manifest.shards[0].files[0].path
    flip_byte(damaged)

    with pytest.raises(DamagedStore):
        store.read([0])

    damaged.write_bytes(good[damaged.relative_to(tmp_path / "store").as_posix()])
    labels = store.read(range(NUM_SAMPLES))
    np.testing.assert_array_equal(labels.logits_BK, make_arrays(plan)["outputs/logits/logits"][0].astype("f4"))
