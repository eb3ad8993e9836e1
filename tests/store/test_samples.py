from dataclasses import replace
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from softlab.identity import content_hash
from softlab.indices import RecipeIndex
from softlab.store import samples
from softlab.store.samples import SCHEMA, SampleTable, decode_samples, encode_samples, has_content_hashes

content_hashes = st.binary(min_size=16, max_size=16)
entries = st.lists(st.tuples(st.text(), st.integers(-1, 2**62), content_hashes), min_size=1, max_size=20)


def make_table(entries: list[tuple[str, int, bytes]]) -> SampleTable:
    keys, targets, hashes = zip(*entries, strict=True)
    return SampleTable(keys=keys, targets_N=np.array(targets, dtype=np.int64), content_hashes=hashes)


FEW = make_table([("b/1.png", 3, bytes(16)), ("a/ü.png", -1, bytes(range(16))), ("", 0, b"\xff" * 16)])


@given(entries)
def test_what_is_encoded_is_decoded(entries: list[tuple[str, int, bytes]]) -> None:
    table = make_table(entries)

    decoded = decode_samples(encode_samples(table), num_samples=len(table))

    assert len(decoded) == len(table)
    assert list(decoded.keys) == list(table.keys)
    assert list(decoded.content_hashes) == list(table.content_hashes)
    assert table.targets_N is not None
    if decoded.targets_N is None:
        assert (table.targets_N == -1).all()
    else:
        np.testing.assert_array_equal(decoded.targets_N, table.targets_N, strict=True)


def test_samples_without_hard_targets_have_none_when_read() -> None:
    table = SampleTable(keys=["a", "b"], targets_N=None, content_hashes=[bytes(16)] * 2)

    assert decode_samples(encode_samples(table), num_samples=2).targets_N is None


@given(st.sets(st.integers(0, 2**40), min_size=1, max_size=20).map(sorted))
def test_recipe_indices_are_decoded(numbers: list[int]) -> None:
    table = replace(
        make_table([(str(number), 0, bytes(16)) for number in numbers]), recipe_N=RecipeIndex(np.array(numbers))
    )

    decoded = decode_samples(encode_samples(table), num_samples=len(table))

    assert decoded.recipe_N is not None
    assert decoded.recipe_N.tolist() == numbers


@pytest.mark.parametrize("numbers", [[1, 1, 2], [2, 1, 3], [-1, 0, 1]])
def test_recipe_indices_that_do_not_ascend_are_a_value_error(numbers: list[int]) -> None:
    with pytest.raises(ValueError, match="don't ascend"):
        decode_samples(encode_samples(replace(FEW, recipe_N=RecipeIndex(np.array(numbers)))), num_samples=3)


def test_samples_without_recipe_indices_have_none_when_read() -> None:
    assert decode_samples(encode_samples(FEW), num_samples=3).recipe_N is None


def test_the_same_samples_are_the_same_bytes() -> None:
    assert encode_samples(FEW) == encode_samples(FEW)


def test_the_bytes_of_several_row_groups_do_not_depend_on_how_the_table_is_held(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(samples, "GROUP_ROWS", 64)
    monkeypatch.setattr(samples, "BLOCK_ROWS", 10)
    table = make_table([(f"{number}/ü.png", number % 7 - 1, content_hash(bytes(number))) for number in range(200)])

    decoded = decode_samples(encode_samples(table), num_samples=len(table))

    assert pq.ParquetFile(pa.BufferReader(encode_samples(table))).num_row_groups == 4
    assert encode_samples(decoded) == encode_samples(table)
    assert decoded.keys == table.keys
    assert decoded.content_hashes == table.content_hashes


def test_the_bytes_are_those_of_earlier_versions() -> None:
    """Written in one piece, as they did."""
    table = make_table([(f"{number}/ü.png", number % 7 - 1, content_hash(bytes(number))) for number in range(200)])
    columns = [range(200), table.keys, [number % 7 - 1 if number % 7 else None for number in range(200)]]
    arrays = [pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=False)]
    arrays.append(pa.array(table.content_hashes, pa.binary(16)))
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_arrays(arrays, schema=SCHEMA), sink, compression="zstd", write_page_checksum=True)

    assert encode_samples(table) == sink.getvalue().to_pybytes()


NULLABLE = pa.schema([pa.field(field.name, field.type) for field in SCHEMA])


@pytest.mark.parametrize("schema", [NULLABLE, SCHEMA.remove(3), SCHEMA.set(1, pa.field("key", pa.int64()))])
def test_a_file_with_other_columns_is_refused(schema: pa.Schema) -> None:
    sink = pa.BufferOutputStream()
    pq.write_table(schema.empty_table(), sink)

    with pytest.raises(ValueError, match="the columns are sample: int64"):
        decode_samples(sink.getvalue().to_pybytes(), num_samples=0)


def test_a_table_of_another_number_of_samples_is_refused() -> None:
    with pytest.raises(ValueError, match="lists 3 samples, the manifest says 2"):
        decode_samples(encode_samples(FEW), num_samples=2)


def encode_alike(key: str, *, count: int) -> bytes:
    """Some samples of the same key, which is written once."""
    keys = pa.DictionaryArray.from_arrays(np.zeros(count, dtype=np.int32), [key])
    hashes = pa.array([bytes(16)] * count, pa.binary(16))
    columns = [pa.array(range(count)), keys, pa.nulls(count, pa.int64()), hashes]
    sink = pa.BufferOutputStream()
    pq.write_table(
        pa.table(columns, schema=SCHEMA.set(1, SCHEMA.field(1).with_type(keys.type))), sink, store_schema=False
    )
    data: bytes = sink.getvalue().to_pybytes()
    return data


def test_keys_that_take_far_more_than_paths_are_refused_before_they_are_decoded() -> None:
    with pytest.raises(ValueError, match="pages that say they decode to"):
        decode_samples(encode_alike("x" * 1_000_000, count=3), num_samples=3)


def test_one_long_key_of_many_samples_is_refused_before_all_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page of references to it is small: together they would be 20 GB."""
    monkeypatch.setattr(samples, "KEYS_BYTES", 64 << 20)
    data = encode_alike("x" * 1_000_000, count=20_000)
    before = pa.total_allocated_bytes()

    with pytest.raises(ValueError, match="its keys have more than 4,096 bytes each"):
        decode_samples(data, num_samples=20_000)

    assert pa.total_allocated_bytes() - before < 256 << 20


def test_long_keys_that_a_few_samples_have_are_read() -> None:
    table = make_table([(f"{number}/" + "x" * 3_000, 0, bytes(16)) for number in range(100)])

    assert decode_samples(encode_samples(table), num_samples=100).keys == table.keys


def test_other_readers_see_numbers_keys_targets_and_hashes(tmp_path: Path) -> None:
    (tmp_path / "samples.parquet").write_bytes(encode_samples(FEW))

    rows = duckdb.sql(f"SELECT * FROM '{tmp_path}/samples.parquet' ORDER BY sample")
    assert rows is not None

    assert rows.columns == ["sample", "key", "target", "content_hash"]
    assert rows.fetchall() == [
        (0, "b/1.png", 3, bytes(16)),
        (1, "a/ü.png", None, bytes(range(16))),
        (2, "", 0, b"\xff" * 16),
    ]


def test_a_content_hash_of_another_length_is_not_written() -> None:
    with pytest.raises(ValueError, match="16"):
        encode_samples(SampleTable(keys=["a"], targets_N=None, content_hashes=[bytes(15)]))


@given(entries)
def test_a_table_tells_whether_it_has_content_hashes_without_being_decoded(
    entries: list[tuple[str, int, bytes]],
) -> None:
    table = make_table(entries)

    assert has_content_hashes(encode_samples(table)) == any(any(each) for each in table.content_hashes)


def test_a_name_of_a_column_is_told_without_signs_that_a_terminal_obeys() -> None:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"r\x1bws": [1]}), sink)

    with pytest.raises(ValueError, match="the columns are") as refused:
        decode_samples(sink.getvalue().to_pybytes(), num_samples=1)

    assert "\x1b" not in str(refused.value)
