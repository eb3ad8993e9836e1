"""What holds for every modality."""

import functools
import pickle
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import pytest
import torch

from softlab.manifest import ViewsRecord
from softlab.modalities.modality import InputOptions, Modality, find_modality
from softlab.modalities.views import View
from softlab.sources.source import Raw

Row = tuple[int, int]
"""Store index and view."""


class ModalityContract:
    """A subclass gives the fixtures `modality` and `raws`: at least 4 fields that are decoded to different examples. A
    modality with random views also gives `record`, and one whose input options have no defaults that fit, `inputs`."""

    @pytest.fixture
    def raws(self) -> Sequence[Raw]:
        raise NotImplementedError

    @pytest.fixture
    def record(self) -> ViewsRecord:
        return ViewsRecord(num_views=3)

    @pytest.fixture
    def inputs(self, modality: Modality) -> Sequence[InputOptions]:
        return [modality.input_options()]

    @pytest.fixture
    def rows(self, raws: Sequence[Raw]) -> list[Row]:
        return [(index, view) for view in range(3) for index in range(len(raws))]

    def test_it_is_found_by_its_name(self, modality: Modality) -> None:
        assert find_modality(modality.name) is modality

    def test_its_options_are_hashable_and_name_it(self, modality: Modality, inputs: Sequence[InputOptions]) -> None:
        assert modality.input_options.modality == modality.name
        for options in inputs:
            assert isinstance(options, modality.input_options)
            assert hash(options) == hash(pickle.loads(pickle.dumps(options)))
        assert not modality.view_options().is_random

    def test_decoding_gives_the_same_example_each_time(self, modality: Modality, raws: Sequence[Raw]) -> None:
        for raw in raws:
            assert modality.digest(modality.decode(raw)) == modality.digest(modality.decode(raw))

    def test_the_digest_changes_with_the_example(self, modality: Modality, raws: Sequence[Raw]) -> None:
        digests = {modality.digest(modality.decode(raw)) for raw in raws}

        assert len(digests) == len(raws) >= 4
        assert all(0 <= digest < 1 << 64 for digest in digests)

    def test_a_view_does_not_depend_on_batch_and_order(
        self, modality: Modality, raws: Sequence[Raw], record: ViewsRecord, rows: list[Row]
    ) -> None:
        together = view_digests(modality, raws, record, rows)

        backwards = view_digests(modality, raws, record, rows[::-1])
        assert backwards[::-1] == together
        assert [view_digests(modality, raws, record, [row])[0] for row in rows] == together

    def test_a_view_is_the_same_in_another_process(
        self, modality: Modality, raws: Sequence[Raw], record: ViewsRecord, rows: list[Row]
    ) -> None:
        torch.manual_seed(1)

        found = other_process().submit(digests_by_name, modality.name, raws, record, rows).result()

        assert found == view_digests(modality, raws, record, rows)

    def test_replay_leaves_examples_and_the_random_state_as_they_are(
        self, modality: Modality, raws: Sequence[Raw], record: ViewsRecord, rows: list[Row]
    ) -> None:
        examples = [modality.decode(raw) for raw in raws]
        before, state = [modality.digest(example) for example in examples], torch.get_rng_state()

        list(make_views(modality, examples, record, rows))

        assert [modality.digest(example) for example in examples] == before
        assert torch.equal(torch.get_rng_state(), state)

    def test_inputs_have_as_many_samples_as_there_are_examples(
        self, modality: Modality, raws: Sequence[Raw], inputs: Sequence[InputOptions]
    ) -> None:
        examples = [modality.decode(raw) for raw in raws]

        for options in inputs:
            for count in (1, len(raws)):
                collated = modality.collate(examples[:count], options)
                assert len(collated) == len(collated.inputs) == count
                if collated.units is not None:
                    assert len(collated.units.rows_B) == count
                    assert int(collated.units.rows_B.sum()) == len(collated.units.keys_R)

    def test_inputs_are_the_same_each_time_and_after_pickling(
        self, modality: Modality, raws: Sequence[Raw], inputs: Sequence[InputOptions]
    ) -> None:
        examples = [modality.decode(raw) for raw in raws]

        for options in inputs:
            tensors = list(modality.collate(examples, options).tensors())
            again = pickle.loads(pickle.dumps(modality.collate(examples, options)))
            assert all(torch.equal(*pair) for pair in zip(tensors, again.tensors(), strict=True))


@functools.cache  # it takes seconds to start, and serves all modalities
def other_process() -> ProcessPoolExecutor:
    """One that has inherited nothing of this one; it ends with it."""
    return ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn"))


def make_views(modality: Modality, examples: Sequence[Any], record: ViewsRecord, rows: Sequence[Row]) -> Iterator[View]:
    """The view of each row, all replayed in one go."""
    replay = modality.replay(record, num_samples=len(examples))
    yield from replay.views([index for index, _ in rows], [view for _, view in rows], lambda index: examples[index])


def view_digests(modality: Modality, raws: Sequence[Raw], record: ViewsRecord, rows: Sequence[Row]) -> list[int]:
    examples = [modality.decode(raw) for raw in raws]
    return [modality.digest(view.example) for view in make_views(modality, examples, record, rows)]


def digests_by_name(name: str, raws: Sequence[Raw], record: ViewsRecord, rows: Sequence[Row]) -> list[int]:
    """The same, for another process."""
    return view_digests(find_modality(name), raws, record, rows)
