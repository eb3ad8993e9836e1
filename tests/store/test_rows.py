from typing import get_args

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from softlab.manifest import FieldRecord
from softlab.shards import Dtype
from softlab.store.rows import layout_of
from tests.store.building import make_plan

DTYPES: tuple[Dtype, ...] = get_args(Dtype)
shapes = st.lists(st.integers(1, 4), max_size=3).map(tuple)


@st.composite
def groups_of_fields(draw: st.DrawFn) -> list[FieldRecord]:
    kinds = draw(st.lists(st.tuples(st.sampled_from(DTYPES), shapes), min_size=1, max_size=5))
    return [
        FieldRecord(name=f"outputs/logits/f{number}", dtype=dtype, row_shape=shape, chunk_rows=1)
        for number, (dtype, shape) in enumerate(kinds)
    ]


@given(groups_of_fields(), st.integers(1, 9), st.integers(0, 1000))
def test_what_is_packed_is_unpacked_to_the_bit(fields: list[FieldRecord], num_rows: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    arrays = {
        field.name: np.frombuffer(random.bytes(num_rows * field.row_bytes), field.dtype).reshape(
            num_rows, *field.row_shape
        )
        for field in fields
    }
    layout = layout_of(fields)

    rows = layout.pack(arrays)
    unpacked = layout.unpack(torch.from_numpy(rows))

    assert rows.shape == (num_rows, layout.row_bytes)
    assert unpacked.keys() == arrays.keys()
    for name, array in arrays.items():
        assert (unpacked[name].shape, unpacked[name].itemsize) == (array.shape, array.itemsize)
        assert unpacked[name].numpy().tobytes() == array.tobytes()


@given(groups_of_fields(), st.lists(st.integers(0, 8), max_size=20))
def test_gathered_rows_are_the_gathered_arrays(fields: list[FieldRecord], samples: list[int]) -> None:
    random = np.random.default_rng(0)
    arrays = {field.name: random.integers(0, 200, size=(9, *field.row_shape)).astype(field.dtype) for field in fields}
    layout = layout_of(fields)

    unpacked = layout.unpack(torch.from_numpy(layout.pack(arrays)[samples]))

    for name, array in arrays.items():
        np.testing.assert_array_equal(unpacked[name].numpy().view(array.dtype), array[samples], strict=True)


@given(groups_of_fields(), st.integers(2, 5))
def test_every_item_of_every_row_is_aligned(fields: list[FieldRecord], num_rows: int) -> None:
    layout = layout_of(fields)
    rows = np.zeros((num_rows, layout.row_bytes), dtype=np.uint8)  # numpy aligns what it allocates to 16 bytes

    for tensor in layout.unpack(torch.from_numpy(rows)).values():
        assert tensor.numpy().flags.aligned


@given(groups_of_fields())
def test_a_row_is_not_padded_more_than_its_widest_item_asks_for(fields: list[FieldRecord]) -> None:
    widest = max(np.dtype(field.dtype).itemsize for field in fields)
    used = sum(field.row_bytes for field in fields)

    assert layout_of(fields).row_bytes % widest == 0
    assert used <= layout_of(fields).row_bytes < used + widest


def test_wider_items_come_first_and_equal_ones_keep_their_order() -> None:
    fields = make_plan(coding="uint8").storage.fields_of("outputs/logits")

    layout = layout_of(fields)

    assert [field.short_name for field in layout.fields] == ["class_ids", "max_logit", "log_tail", "logits"]
    assert layout.row_bytes == 3 * 2 + 2 + 2 * 2 + 3 + 1


def test_padding_is_zero_so_that_equal_rows_hash_equally() -> None:
    fields = [
        FieldRecord(name="outputs/logits/a", dtype="uint8", row_shape=(3,), chunk_rows=1),
        FieldRecord(name="outputs/logits/b", dtype="float32", row_shape=(), chunk_rows=1),
    ]

    rows = layout_of(fields).pack(
        {"outputs/logits/a": np.full((1, 3), 255, "u1"), "outputs/logits/b": np.ones(1, "f4")}
    )

    assert rows.tobytes() == np.float32(1).tobytes() + b"\xff\xff\xff\0"
