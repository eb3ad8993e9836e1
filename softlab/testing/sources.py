"""What holds for every kind of source."""

import pickle
from collections.abc import Callable

import numpy as np
import pytest

from softlab.identity import CONTENT_HASH_BYTES, fields_hash
from softlab.sources.source import Sample, Source


class SourceContract:
    """A subclass gives the fixture `reopen`, which opens a source of at least 4 readable samples with hard targets anew
    at each call."""

    hashes_fields = True
    """Whether the content hash is that of the fields, or of something else that a data set hashes."""

    @pytest.fixture
    def source(self, reopen: Callable[[], Source]) -> Source:
        return reopen()

    def test_keys_are_unique_and_as_many_as_samples(self, source: Source) -> None:
        assert len(set(source.keys)) == len(source.keys) == len(source) >= 4

    def test_opening_the_same_data_again_gives_the_same_samples(self, reopen: Callable[[], Source]) -> None:
        one, other = reopen(), reopen()

        assert list(one.keys) == list(other.keys)
        for index in range(len(one)):
            assert_same_sample(one.read(index), other.read(index))

    def test_a_sample_has_its_index_its_key_and_all_fields(self, source: Source) -> None:
        sample = source.read(1)

        assert sample.index == 1
        assert sample.key == source.keys[1]
        assert tuple(sample.fields) == source.field_names
        assert all(isinstance(value, bytes | str | np.ndarray) for value in sample.fields.values())

    def test_the_content_hash_covers_the_fields(self, source: Source) -> None:
        for index in range(len(source)):
            sample = source.read(index)
            assert len(sample.content_hash) == CONTENT_HASH_BYTES
            assert not self.hashes_fields or sample.content_hash == fields_hash(sample.fields)

    def test_samples_may_be_read_in_any_order(self, source: Source) -> None:
        forwards = [source.read(index).content_hash for index in range(len(source))]
        backwards = [source.read(index).content_hash for index in reversed(range(len(source)))]

        assert forwards == backwards[::-1]

    def test_a_pickled_source_reads_the_same_samples(self, source: Source) -> None:
        source.read(0)
        copy = pickle.loads(pickle.dumps(source))

        assert (copy.name, list(copy.keys), copy.class_names) == (source.name, list(source.keys), source.class_names)
        assert_same_sample(copy.read(3), source.read(3))

    def test_targets_are_one_int64_a_sample(self, source: Source) -> None:
        assert source.targets
        for targets_N in source.targets.values():
            assert targets_N.dtype == np.int64
            assert targets_N.shape == (len(source),)

    def test_its_name_holds_no_folder(self, source: Source) -> None:
        assert "/" not in source.name


def assert_same_sample(one: Sample, other: Sample) -> None:
    """All but the place."""
    assert (one.index, one.key, one.content_hash) == (other.index, other.key, other.content_hash)
    assert list(one.fields) == list(other.fields)
    for name, value in one.fields.items():
        np.testing.assert_array_equal(value, other.fields[name], strict=True)
