"""Entities that are found, compared with walking through each sample word by word."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from softlab.evaluation.metrics.entity_f1 import EntityF1
from softlab.evaluation.metrics.metric import Outputs
from softlab.evaluation.metrics.needs import are_tags
from softlab.loading.batch import Batch

NAMES = ("I-PER", "O", "B-LOC", "B-PER", "I-LOC")
CPU = torch.device("cpu")
Sample = tuple[list[int], list[int]]
"""Predicted and true classes of its words."""


def batch_of(samples: list[Sample]) -> tuple[Outputs, Batch]:
    predicted_R = torch.tensor([tag for tags, _ in samples for tag in tags], dtype=torch.int64)
    targets_R = torch.tensor([tag for _, tags in samples for tag in tags], dtype=torch.int64)
    outputs = Outputs(logits_BC=torch.zeros(len(predicted_R), 5), predicted_B=predicted_R, class_names=NAMES)
    numbers = torch.arange(len(samples))
    batch = Batch(
        source_B=numbers,
        views_B=torch.zeros_like(numbers),
        inputs=(),
        content_hashes=(),
        targets_B=targets_R,
        counts_B=torch.tensor([len(tags) for tags, _ in samples], dtype=torch.int64),
    )
    return outputs, batch


def f1_of(*batches: list[Sample]) -> float | None:
    metric = EntityF1(CPU)
    for samples in batches:
        metric.add(*batch_of(samples))
    return metric.value()


def entities(tags: list[int]) -> set[tuple[int, int, str]]:
    """First word, word behind the last, and kind: as conlleval walks through them."""
    found, begin, kind = set(), 0, ""
    for place, tag in enumerate([*tags, 1]):
        prefix, _, own = NAMES[tag].partition("-")
        if kind and (prefix != "I" or own != kind):
            found.add((begin, place, kind))
            kind = ""
        if own and not kind:
            begin, kind = place, own
    return found


def expected(samples: list[Sample]) -> float | None:
    right = there = 0
    for predicted, true in samples:
        known = [place for place, tag in enumerate(true) if tag >= 0]
        ours, theirs = (entities([tags[place] for place in known]) for tags in (predicted, true))
        right, there = right + len(ours & theirs), there + len(ours) + len(theirs)
    return 2 * right / there if there else None


tags = st.integers(0, 4)
samples = st.lists(
    st.lists(st.tuples(tags, st.integers(-1, 4) | tags), max_size=8).map(
        lambda words: ([each for each, _ in words], [each for _, each in words])
    ),
    max_size=5,
)


@given(samples, samples)
def test_it_is_what_counting_entity_by_entity_gives(first: list[Sample], second: list[Sample]) -> None:
    assert f1_of(first, second) == pytest.approx(expected([*first, *second]))


def test_an_entity_is_right_with_both_ends_and_its_kind() -> None:
    per, inside = NAMES.index("B-PER"), NAMES.index("I-PER")
    place, no = NAMES.index("B-LOC"), NAMES.index("O")

    assert f1_of([([per, inside, no], [per, inside, no])]) == 1
    assert f1_of([([per, no, no], [per, inside, no])]) == 0
    assert f1_of([([place, no, no], [per, no, no])]) == 0
    assert f1_of([([per, no, no, place], [per, no, no, no])]) == pytest.approx(2 / 3)
    assert f1_of([([no, no], [no, no])]) is None


def test_no_entity_goes_on_in_the_next_text() -> None:
    per, inside = NAMES.index("B-PER"), NAMES.index("I-PER")

    assert f1_of([([per], [per]), ([inside], [inside])]) == 1
    assert f1_of([([per, inside], [per, inside])], [([inside], [inside])]) == 1


@pytest.mark.parametrize(
    ("names", "is_so"),
    [
        (NAMES, True),
        (("O", "B-X"), True),
        (("O",), False),
        (("NOUN", "O"), False),
        (("B-X", "I-X"), False),
        (None, False),
    ],
)
def test_classes_are_tags_by_their_names(names: tuple[str, ...] | None, is_so: bool) -> None:
    assert are_tags(names) == is_so
