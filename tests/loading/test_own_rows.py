"""Rows of models and stores that have read different words of the same texts, compared with plain dicts."""

import re
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from softlab.errors import StoreMismatch
from softlab.loading.own_rows import OwnRows, StoredUnits, find_own_rows, match_rows
from softlab.modalities.inputs import Collated, Inputs, Units
from softlab.sources.label_sequences import LabelSequences
from tests.sources.test_label_sequences import sequences_of

Chosen = list[list[int]]
"""Of each sample the numbers of its units that have a row."""


def units_of(chosen: Chosen, totals: list[int]) -> Units:
    numbers_R = torch.tensor([number for each in chosen for number in each], dtype=torch.int64)
    return Units(
        rows_B=torch.tensor([len(each) for each in chosen]),
        keys_R=torch.arange(len(numbers_R)) * 10,
        numbers_R=numbers_R,
        totals_B=torch.tensor(totals),
    )


def stored_of(chosen: Chosen) -> StoredUnits:
    numbers_S = torch.tensor([number for each in chosen for number in each], dtype=torch.int64)
    return StoredUnits(counts_B=torch.tensor([len(each) for each in chosen]), numbers_S=numbers_S, where="store")


def collated_of(chosen: Chosen, totals: list[int]) -> Collated:
    return Collated(inputs=Inputs(positional=(torch.zeros(len(chosen), 9),)), units=units_of(chosen, totals))


@st.composite
def two_readers(draw: st.DrawFn) -> tuple[Chosen, Chosen, list[int]]:
    totals = draw(st.lists(st.integers(0, 6), min_size=1, max_size=4))
    some = [st.sets(st.integers(0, total - 1)) if total else st.just(set[int]()) for total in totals]
    ours, theirs = ([sorted(draw(each)) for each in some] for _ in range(2))
    return ours, theirs, totals


def tags_of(totals: list[int]) -> LabelSequences:
    return sequences_of([[100 * sample + number for number in range(total)] for sample, total in enumerate(totals)])


@given(two_readers())
def test_what_belongs_to_a_row_is_that_of_the_same_unit(readers: tuple[Chosen, Chosen, list[int]]) -> None:
    ours, theirs, totals = readers
    collated, keys = collated_of(ours, totals), [str(number) for number in range(len(totals))]
    (own,) = find_own_rows([collated], tags_of(totals), range(len(totals)), keys=keys)
    found, matched = match_rows(collated, own, stored=stored_of(theirs), key_of=keys.__getitem__)

    both = [sorted(set(one) & set(other)) for one, other in zip(ours, theirs, strict=True)]
    expected = [(sample, number) for sample, each in enumerate(both) for number in each]
    assert isinstance(matched, OwnRows)
    assert found.units is not None
    assert matched.counts_B.tolist() == found.units.rows_B.tolist() == [len(each) for each in both]
    assert matched.targets_R is not None
    assert matched.targets_R.tolist() == [100 * sample + number for sample, number in expected]
    mine = [(sample, number) for sample, each in enumerate(ours) for number in each]
    assert found.units.keys_R.tolist() == [mine.index(each) * 10 for each in expected]
    stored = [(sample, number) for sample, each in enumerate(theirs) for number in each]
    stored_R = torch.arange(len(stored)) if matched.stored_R is None else matched.stored_R
    assert [stored[place] for place in stored_R.tolist()] == expected


def test_a_sample_with_fewer_units_than_are_stored_is_refused() -> None:
    collated = collated_of([[0, 1], [0]], [2, 1])
    (own,) = find_own_rows([collated], None, [4, 7], keys=[str(number) for number in range(8)])

    with pytest.raises(
        StoreMismatch, match=re.escape("store: sample 'seven' has units up to number 3 there, and what")
    ):
        match_rows(collated, own, stored=stored_of([[0], [0, 2]]), key_of=["four", "seven"].__getitem__)


def test_another_number_of_labels_than_of_units_is_refused_by_key_and_numbers() -> None:
    collated = collated_of([[0, 1]], [2])

    with pytest.raises(StoreMismatch, match=r"sample 'five': has 3 labels for 2 units\. Give one for each frame"):
        find_own_rows([collated], sequences_of([[1, 2, 3]]), [0], keys=["five"])


def test_a_sample_without_labels_has_unknown_ones() -> None:
    (own,) = find_own_rows([collated_of([[0, 1]], [2])], sequences_of([None]), [0], keys=["five"])

    assert own is not None
    assert own.targets_R is not None
    assert own.targets_R.tolist() == [-1, -1]


def test_an_input_without_units_has_none() -> None:
    plain = replace(collated_of([[0]], [1]), units=None)

    assert find_own_rows([plain], None, [0], keys=["five"]) == ()
    assert find_own_rows([plain, collated_of([[0]], [1])], None, [0], keys=["five"])[0] is None


@given(two_readers())
def test_what_samples_tell_themselves_stays_with_its_row(readers: tuple[Chosen, Chosen, list[int]]) -> None:
    """As tokens, of which each tells the one before it: no label of the source is looked at."""
    ours, theirs, totals = readers
    collated, keys = collated_of(ours, totals), [str(number) for number in range(len(totals))]
    assert collated.units is not None
    told_R = torch.tensor([100 * sample + number for sample, each in enumerate(ours) for number in each])
    collated = replace(collated, units=replace(collated.units, targets_R=told_R.long()))

    (own,) = find_own_rows([collated], None, range(len(totals)), keys=keys)
    found, matched = match_rows(collated, own, stored=stored_of(theirs), key_of=keys.__getitem__)

    both = [sorted(set(one) & set(other)) for one, other in zip(ours, theirs, strict=True)]
    expected = [100 * sample + number for sample, each in enumerate(both) for number in each]
    assert matched is not None
    assert matched.targets_R is not None
    assert matched.targets_R.tolist() == expected
    assert found.units is not None
    assert found.units.targets_R is not None
    assert found.units.targets_R.tolist() == expected
