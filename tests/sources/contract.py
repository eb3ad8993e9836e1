"""What holds for every kind of source."""

import pickle
from collections.abc import Callable

import numpy as np
import pytest
import torch

from softlab.identity import content_hash
from softlab.sources import Source


class SourceContract:
    """A subclass gives the fixture `reopen`, which opens a source of at least 4 readable samples anew at each call."""

    @pytest.fixture
    def source(self, reopen: Callable[[], Source]) -> Source:
        return reopen()

    def test_keys_are_unique_and_as_many_as_samples(self, source: Source) -> None:
        assert len(set(source.keys)) == len(source.keys) == len(source) >= 4

    def test_opening_the_same_data_again_gives_the_same_samples(self, reopen: Callable[[], Source]) -> None:
        one, other = reopen(), reopen()

        assert list(one.keys) == list(other.keys)
        assert [one.raw_bytes(number) for number in range(len(one))] == [
            other.raw_bytes(number) for number in range(len(other))
        ]

    def test_images_are_8_bit_with_one_or_three_channels(self, source: Source) -> None:
        sample = source.read(1)

        assert sample.index == 1
        assert sample.image_CHW.dtype == torch.uint8
        assert sample.image_CHW.shape[0] in (1, 3)
        assert sample.image_CHW.is_contiguous()

    def test_the_content_hash_covers_the_raw_bytes(self, source: Source) -> None:
        for number in range(len(source)):
            assert source.read(number).content_hash == content_hash(source.raw_bytes(number))

    def test_samples_may_be_read_in_any_order(self, source: Source) -> None:
        forwards = [source.read(number).content_hash for number in range(len(source))]
        backwards = [source.read(number).content_hash for number in reversed(range(len(source)))]

        assert forwards == backwards[::-1]

    def test_a_pickled_source_reads_the_same_samples(self, source: Source) -> None:
        source.read(0)
        copy = pickle.loads(pickle.dumps(source))

        assert (copy.name, list(copy.keys), copy.class_names) == (source.name, list(source.keys), source.class_names)
        assert torch.equal(copy.read(3).image_CHW, source.read(3).image_CHW)

    def test_targets_are_one_int64_a_sample(self, source: Source) -> None:
        assert source.targets_N is not None
        assert source.targets_N.dtype == np.int64
        assert source.targets_N.shape == (len(source),)

    def test_its_name_holds_no_folder(self, source: Source) -> None:
        assert "/" not in source.name
