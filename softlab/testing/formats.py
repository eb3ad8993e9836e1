"""What holds for both store formats."""

from collections.abc import Mapping, Sequence
from typing import ClassVar, get_args

import numpy as np
import pytest

from softlab.labels.coding import Coding
from softlab.labels.values_coding import ValuesCoding
from softlab.manifest import FieldRecord, StorePlan
from softlab.shards import Shard
from softlab.store.format import Array, FormatName, StoreFormat, empty_arrays
from softlab.store.known_formats import format_named

AXES: dict[str, tuple[int, ...]] = {"scalar": (), "vector": (7,), "map": (3, 2), "volume": (2, 3, 4), "single": (1,)}
"""Features of 0 to 3 axes."""


def random_bits(plan: StorePlan, shard: Shard) -> dict[str, Array]:
    """Arrays of a shard with any bits at all: also NaNs of every kind, infinities, zeros of both signs."""
    random = np.random.default_rng(shard.start)
    return {
        field.name: np.frombuffer(random.bytes(shard.num_rows * field.row_bytes), field.dtype).reshape(
            shard.num_rows, *field.row_shape
        )
        for field in plan.storage.fields
    }


def bits(arrays: dict[str, Array]) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    """In a form in which a NaN equals itself."""
    return {name: (array.dtype.str, array.shape, array.tobytes()) for name, array in arrays.items()}


def decode(
    store_format: StoreFormat,
    plan: StorePlan,
    shard: Shard,
    fields: Sequence[FieldRecord],
    files: Mapping[str, bytes],
) -> dict[str, Array]:
    """Into arrays of their own."""
    arrays = empty_arrays(fields, num_rows=shard.num_rows)
    store_format.decode(plan, shard, fields, files, arrays)
    return arrays


class FormatContract:
    """A subclass names its format, and makes plans."""

    name: ClassVar[FormatName]

    def plan(
        self,
        *,
        coding: Coding = "float16",
        values_coding: ValuesCoding = "float16",
        num_samples: int = 11,
        num_classes: int = 20,
    ) -> StorePlan:
        """Of a store of this format with two views, several shards of which the last is ragged, and the features
        `AXES`."""
        raise NotImplementedError

    def round_trip(self, plan: StorePlan, shard: Shard) -> None:
        store_format, arrays = format_named(self.name), random_bits(plan, shard)

        decoded = decode(store_format, plan, shard, plan.storage.fields, store_format.encode(plan, shard, arrays))

        assert bits(decoded) == bits(arrays)

    @pytest.mark.parametrize("coding", get_args(Coding))
    def test_what_is_encoded_is_decoded_to_the_bit(self, coding: Coding) -> None:
        plan = self.plan(coding=coding)

        for shard in plan.grid:
            self.round_trip(plan, shard)

    @pytest.mark.parametrize("values_coding", get_args(ValuesCoding))
    def test_values_in_any_coding_are_decoded_to_the_bit(self, values_coding: ValuesCoding) -> None:
        plan = self.plan(values_coding=values_coding)

        for shard in plan.grid:
            self.round_trip(plan, shard)

    @pytest.mark.parametrize("num_samples", [1, 2, 3, 4])
    def test_a_shard_may_have_any_number_of_rows(self, num_samples: int) -> None:
        plan = self.plan(num_samples=num_samples)

        self.round_trip(plan, plan.grid.shard(1, 0))

    def test_class_ids_beyond_65536_classes_are_kept(self) -> None:
        plan = self.plan(num_classes=70_000)
        assert plan.storage.fields[0].dtype == "uint32"

        self.round_trip(plan, plan.grid.shard(0, 0))

    def test_rows_that_are_all_zero_are_rows_like_others(self) -> None:
        plan = self.plan()
        shard = plan.grid.shard(0, 2)
        zeros = {name: np.zeros_like(array) for name, array in random_bits(plan, shard).items()}
        store_format = format_named(self.name)

        decoded = decode(store_format, plan, shard, plan.storage.fields, store_format.encode(plan, shard, zeros))

        assert bits(decoded) == bits(zeros)

    def test_a_slice_of_larger_arrays_gives_the_same_bytes(self) -> None:
        plan = self.plan()
        shard = plan.grid.shard(0, 0)
        arrays = random_bits(plan, shard)
        strided = {name: np.repeat(array, 2, axis=0)[::2] for name, array in arrays.items()}

        assert format_named(self.name).encode(plan, shard, strided) == format_named(self.name).encode(
            plan, shard, arrays
        )

    def test_the_same_rows_are_the_same_bytes(self) -> None:
        plan = self.plan()

        for shard in plan.grid:
            arrays = random_bits(plan, shard)
            first = format_named(self.name).encode(plan, shard, arrays)
            assert all(format_named(self.name).encode(plan, shard, arrays) == first for _ in range(3))
        assert format_named(self.name).layout_files(plan) == format_named(self.name).layout_files(plan)

    @pytest.mark.parametrize("group", ["outputs/logits", "outputs/map"])
    def test_a_group_is_decoded_from_its_own_files(self, group: str) -> None:
        plan = self.plan()
        shard, fields = plan.grid.shard(1, 2), plan.storage.fields_of(group)
        store_format, arrays = format_named(self.name), random_bits(plan, shard)
        encoded = store_format.encode(plan, shard, arrays)
        files = {path: encoded[path] for path in {store_format.path_of(field, shard) for field in fields}}

        decoded = decode(store_format, plan, shard, fields, files)

        assert bits(decoded) == bits({field.name: arrays[field.name] for field in fields})
        assert all(path.startswith(f"{group}/") for path in files)

    def test_only_the_fields_asked_for_are_decoded(self) -> None:
        plan = self.plan()
        shard = plan.grid.shard(0, 0)
        store_format, arrays = format_named(self.name), random_bits(plan, shard)
        (field,) = [field for field in plan.storage.fields if field.name == "outputs/logits/max_logit"]
        path = store_format.path_of(field, shard)

        decoded = decode(store_format, plan, shard, [field], {path: store_format.encode(plan, shard, arrays)[path]})

        assert bits(decoded) == bits({field.name: arrays[field.name]})

    def test_no_two_shards_share_a_file(self) -> None:
        plan, store_format = self.plan(), format_named(self.name)

        paths = [path for shard in plan.grid for path in store_format.encode(plan, shard, random_bits(plan, shard))]

        assert len(set(paths)) == len(paths)
        assert set(paths) == {
            store_format.path_of(field, shard) for shard in plan.grid for field in plan.storage.fields
        }
        assert not set(paths) & store_format.layout_files(plan).keys()
