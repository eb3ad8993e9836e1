# Shape letters: D digests.

import contextlib
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from softlab.errors import DamagedStore
from softlab.identity import digest_of
from softlab.indices import RecipeIndex, StoreIndex
from softlab.manifest import StorePlan
from softlab.store.digest_names import digests_name
from softlab.store.format import FormatName
from softlab.store.pixel_digests import (
    PixelDigests,
    decode_digests,
    digested_samples,
    encode_digests,
    is_digested,
)
from softlab.store.reader import open_store
from softlab.store.verify import verify_store
from tests.manifests import change_manifest, set_at
from tests.store.building import (
    FORMATS,
    contents,
    digest_of_view,
    flip_byte,
    make_plan,
    with_digests,
    write_some,
    write_store,
)

BOTH_FORMATS = pytest.mark.parametrize("format", FORMATS)
pairs = st.dictionaries(st.integers(0, 2**40), st.integers(0, 2**64 - 1), max_size=40)


def make_digests(values: dict[int, int]) -> PixelDigests:
    samples = sorted(values)
    return PixelDigests(
        store_D=StoreIndex(np.array(samples, dtype=np.int64)),
        digests_D=np.array([values[sample] for sample in samples], dtype=np.uint64),
    )


def plan_with(every: int, *, format: FormatName = "zarr") -> StorePlan:
    return with_digests(make_plan(format=format), every=every)


# The file.


@given(values=pairs)
def test_what_is_encoded_is_decoded(values: dict[int, int]) -> None:
    found = decode_digests(encode_digests(make_digests(values)), max_rows=40)

    assert dict(zip(found.store_D.tolist(), found.digests_D.tolist(), strict=True)) == values
    assert found.store_D.dtype == np.dtype(np.int64)
    assert found.digests_D.dtype == np.dtype(np.uint64)


def test_the_same_digests_are_the_same_bytes() -> None:
    values = {3: 2**64 - 1, 67: 0}

    assert encode_digests(make_digests(values)) == encode_digests(make_digests(values))


@given(values=pairs.filter(bool), position=st.integers(0, 10**6), flip=st.integers(1, 255))
def test_whatever_is_damaged_the_only_error_is_a_value_error(values: dict[int, int], position: int, flip: int) -> None:
    """Readers compare the file's hash first; this is for a store that was made to harm them."""
    data = bytearray(encode_digests(make_digests(values)))
    data[position % len(data)] ^= flip

    with contextlib.suppress(ValueError):
        decode_digests(bytes(data), max_rows=40)


def parquet(**columns: pa.Array) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink)
    data: bytes = sink.getvalue().to_pybytes()
    return data


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not Parquet",
        parquet(sample=pa.array([1])),
        parquet(sample=pa.array([1]), pixel_digest=pa.array([None], pa.uint64())),
        parquet(sample=pa.array(["a"]), pixel_digest=pa.array([1], pa.uint64())),
        parquet(sample=pa.array([[1]]), pixel_digest=pa.array([1], pa.uint64())),
    ],
)
def test_anything_else_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        decode_digests(data, max_rows=1)


def test_more_digests_than_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="3 of them, of 2 samples"):
        decode_digests(encode_digests(make_digests({0: 1, 1: 2, 2: 3})), max_rows=2)


def test_a_page_that_claims_far_more_than_its_digests_is_refused() -> None:
    """9 KB whose header asks for 1 MiB, which is as long a number."""
    data = encode_digests(make_digests(dict.fromkeys(range(1_100), 1)))
    at = pq.read_metadata(pa.BufferReader(data)).row_group(0).column(0).data_page_offset
    assert data[at : at + 3] == b"\x15\x00\x15", "the kind of page, then how much it decodes to"
    lying = data[: at + 3] + b"\xfe\xff\x7f" + data[at + 6 :]

    with pytest.raises(ValueError, match="pages that say they decode to"):
        decode_digests(lying, max_rows=1_100)


@given(values=pairs, start=st.integers(0, 100), count=st.integers(0, 100))
def test_those_within_a_shard_are_in_the_order_of_samples(values: dict[int, int], start: int, count: int) -> None:
    values = {sample % 150: digest for sample, digest in values.items()}

    found = make_digests(values).within(start, start + count)

    assert found == [values[sample] for sample in sorted(values) if start <= sample < start + count]


# Which views have one.


@given(
    start=st.integers(0, 300), count=st.integers(0, 300), view=st.integers(0, 200), every=st.sampled_from([0, 1, 7, 64])
)
def test_the_two_ways_to_ask_agree(start: int, count: int, view: int, every: int) -> None:
    found = digested_samples(start, start + count, view=view, every=every)

    samples = range(start, start + count)
    assert found.tolist() == [sample for sample in samples if is_digested(sample, view=view, every=every)]


@given(numbers=st.sets(st.integers(0, 300)).map(sorted), view=st.integers(0, 200), every=st.sampled_from([0, 1, 7]))
def test_the_two_ways_agree_on_samples_that_have_recipe_indices_of_their_own(
    numbers: list[int], view: int, every: int
) -> None:
    recipe_N = RecipeIndex(np.array(numbers, dtype=np.int64))

    found = digested_samples(0, len(numbers), view=view, every=every, recipe_N=recipe_N)

    assert [numbers[place] for place in found] == [n for n in numbers if is_digested(n, view=view, every=every)]


@given(values=pairs, chosen=st.sets(st.integers(0, 100)).map(sorted))
def test_those_of_some_samples_count_them_among_themselves(values: dict[int, int], chosen: list[int]) -> None:
    values = {sample % 100: digest for sample, digest in values.items()}

    found = make_digests(values).of_samples(StoreIndex(np.array(chosen, dtype=np.int64)))

    assert [chosen[place] for place in found.store_D] == [sample for sample in chosen if sample in values]
    assert found.digests_D.tolist() == [values[sample] for sample in chosen if sample in values]


@given(sample=st.integers(0, 10**6), every=st.integers(1, 100), first=st.integers(0, 100))
def test_samples_take_turns(sample: int, every: int, first: int) -> None:
    """Of any `every` views that follow each other a sample has one digest, so that none is never compared."""
    views = range(first, first + every)

    assert sum(is_digested(sample, view=view, every=every) for view in views) == 1


# In a store.


@BOTH_FORMATS
@pytest.mark.parametrize("every", [1, 3, 64])
def test_a_store_gives_back_the_digests_that_were_written(tmp_path: Path, format: FormatName, every: int) -> None:
    plan = plan_with(every, format=format)

    write_store(tmp_path, plan)

    store = open_store(tmp_path)
    for view in range(2):
        found = store.read_pixel_digests(view)
        expected = {sample: digest_of_view(view, sample) for sample in range(11) if (sample - view) % every == 0}
        assert dict(zip(found.store_D.tolist(), found.digests_D.tolist(), strict=True)) == expected
    assert [file.path for file in store.manifest.digest_files] == [digests_name(view) for view in range(2)]
    assert verify_store(tmp_path).is_intact


def test_a_store_without_digests_gives_none(tmp_path: Path) -> None:
    manifest = write_store(tmp_path, plan_with(0))

    assert manifest.digest_files == ()
    assert not (tmp_path / "pixel_digests").exists()
    assert len(open_store(tmp_path).read_pixel_digests(1).store_D) == 0


def test_digests_of_an_interrupted_dump_are_kept_with_its_shards(tmp_path: Path) -> None:
    write_store(tmp_path / "undisturbed", plan_with(3))
    write_some(tmp_path / "store", plan_with(3), num_shards=4)

    write_store(tmp_path / "store", plan_with(3))

    assert contents(tmp_path / "store") == contents(tmp_path / "undisturbed")


def test_damaged_digests_are_found_before_they_are_compared(tmp_path: Path) -> None:
    write_store(tmp_path, plan_with(1))
    flip_byte(tmp_path / digests_name(1))

    with pytest.raises(DamagedStore, match=re.escape("its bytes are not the recorded ones")):
        open_store(tmp_path).read_pixel_digests(1)
    assert verify_store(tmp_path).damaged == [digests_name(1)]


@pytest.mark.parametrize("values", [{}, {0: 5}, {0: 5, 2: 6, 4: 7, 6: 8, 8: 9, 99: 1}])
def test_digests_of_other_samples_than_the_manifest_says_are_refused(tmp_path: Path, values: dict[int, int]) -> None:
    """Its publisher vouches for them: the check of the views would compare fewer than it says, or none."""
    write_store(tmp_path, plan_with(2))
    data = encode_digests(make_digests(values))
    (tmp_path / digests_name(0)).write_bytes(data)
    record = {"path": digests_name(0), "bytes": len(data), "blake3": digest_of(data)}
    change_manifest(tmp_path, lambda tree: set_at(tree, "digest_files.0", record))

    with pytest.raises(DamagedStore, match="pixel digests of view 0: of other samples than the manifest says"):
        open_store(tmp_path).read_pixel_digests(0)
