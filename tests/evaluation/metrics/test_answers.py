"""Exact match and F1 of answers, against torchmetrics and all pairs of a beginning and an end."""

# Shape letters: B texts in a batch, C classes: no answer, and the words of a text.

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torchmetrics.functional.text import squad

from softlab.evaluation.metrics.answer_texts import (
    LONGEST,
    best_of,
    exact_match,
    likely_spans,
    normalised,
    word_f1,
)
from softlab.modalities.answers import AnsweredText

WORDS = st.sampled_from(["the", "a", "An", "film", "Film.", "3-day", "u.s.", "  ", "é", "anthem", ",", "of"])
ANSWERS = st.lists(WORDS, max_size=6).map(" ".join)


def brute_force(start_C: Tensor, end_C: Tensor) -> tuple[float, list[tuple[int, int]]]:
    """The highest sum, and all pairs that have it."""
    pairs = [(0, 0)] + [
        (first, last) for first in range(1, len(start_C)) for last in range(first, min(first + LONGEST, len(start_C)))
    ]
    sums = {pair: float(start_C[pair[0]] + end_C[pair[1]]) for pair in pairs}
    best = max(sums.values())
    return best, [pair for pair, value in sums.items() if value == best]


@given(st.integers(1, 70), st.integers(0, 10_000), st.booleans())
def test_the_likeliest_answer_is_the_best_of_all_pairs(num_classes: int, seed: int, is_coarse: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits_2BC = torch.randn(2, 5, num_classes, generator=generator)
    if is_coarse:  # with many equal ones
        logits_2BC = logits_2BC.round()

    first_B, last_B = likely_spans(*logits_2BC)

    for row, pair in enumerate(zip(first_B.tolist(), last_B.tolist(), strict=True)):
        _, pairs = brute_force(logits_2BC[0, row], logits_2BC[1, row])
        assert pair == min(pairs, key=lambda each: (each != (0, 0), each[1] - each[0], each[0]))


def test_no_answer_is_longer_than_the_longest() -> None:
    start_BC, end_BC = torch.zeros(1, 80), torch.zeros(1, 80)
    start_BC[0, 3], end_BC[0, 79], end_BC[0, 3 + LONGEST - 1] = 9.0, 9.0, 1.0

    assert [each.item() for each in likely_spans(start_BC, end_BC)] == [3, 3 + LONGEST - 1]


@given(ANSWERS, st.lists(ANSWERS, min_size=1, max_size=3))
def test_figures_are_those_of_torchmetrics(given_text: str, right: list[str]) -> None:
    expected = squad(
        [{"prediction_text": given_text, "id": "0"}],
        [{"answers": {"text": right, "answer_start": [0] * len(right)}, "id": "0"}],
    )

    assert 100 * best_of(exact_match, given_text, right) == pytest.approx(expected["exact_match"].item(), abs=1e-4)
    if normalised(given_text) and all(map(normalised, right)):  # it counts no answer as SQuAD 1 does, which has none
        assert 100 * best_of(word_f1, given_text, right) == pytest.approx(expected["f1"].item(), abs=1e-4)


@pytest.mark.parametrize(
    ("given_text", "right", "match", "f1"),
    [
        ("", (), 1.0, 1.0),
        ("film", (), 0.0, 0.0),
        ("", ("film",), 0.0, 0.0),
        ("the", (), 1.0, 1.0),
        ("The lovely Film!", ("film", "lovely film"), 1.0, 1.0),
        ("lovely film", ("film",), 0.0, 2 / 3),
    ],
)
def test_where_a_text_holds_no_answer_an_empty_one_is_right(
    given_text: str, right: tuple[str, ...], match: float, f1: float
) -> None:
    assert best_of(exact_match, given_text, right) == match
    assert best_of(word_f1, given_text, right) == pytest.approx(f1)


def test_a_text_between_two_of_its_classes_has_all_that_stands_there() -> None:
    text = AnsweredText(text="the  3-day trip.", spans=((0, 3), (5, 10), (11, 16)), right=None)

    assert text.between(2, 3) == "3-day trip."
    assert [text.between(*each) for each in [(0, 0), (2, 4), (3, 2), (0, 2)]] == [""] * 4
