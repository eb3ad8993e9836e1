# Shape letters: B rows in a batch, C classes.

import torch
from hypothesis import given
from hypothesis import strategies as st

from softlab.evaluation.metrics.per_class import ClassFigures, class_figures, count_by_class


@given(rows=st.lists(st.tuples(st.integers(0, 4), st.integers(-1, 4)), max_size=40))
def test_counts_are_those_of_going_through_the_rows(rows: list[tuple[int, int]]) -> None:
    predicted_B = torch.tensor([predicted for predicted, _ in rows], dtype=torch.int64)
    targets_B = torch.tensor([target for _, target in rows], dtype=torch.int64)

    found_3C = count_by_class(predicted_B, targets_B, num_classes=5)

    known = [(predicted, target) for predicted, target in rows if target >= 0]
    for number in range(5):
        samples = sum(target == number for _, target in known)
        guesses = sum(predicted == number for predicted, _ in known)
        correct = sum(predicted == target == number for predicted, target in known)
        assert found_3C[:, number].tolist() == [samples, guesses, correct]


def test_recall_is_over_the_samples_and_precision_over_the_predictions() -> None:
    counts_3C = torch.tensor([[4, 0, 2], [3, 1, 0], [3, 0, 0]])

    found = class_figures(counts_3C, ["cat", "dog", "owl"])

    assert found == (
        ClassFigures(name="cat", samples=4, predicted=3, correct=3, recall=0.75, precision=1.0),
        ClassFigures(name="dog", samples=0, predicted=1, correct=0, recall=None, precision=0.0),
        ClassFigures(name="owl", samples=2, predicted=0, correct=0, recall=0.0, precision=None),
    )


def test_a_class_without_a_name_has_its_number() -> None:
    found = class_figures(torch.zeros(3, 3, dtype=torch.int64), ["cat", "dog"])

    assert [figures.name for figures in found] == ["cat", "dog", "2"]
    assert [figures.name for figures in class_figures(torch.zeros(3, 2, dtype=torch.int64), None)] == ["0", "1"]
