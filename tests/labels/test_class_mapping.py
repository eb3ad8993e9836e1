import numpy as np
import pytest
from numpy.typing import NDArray

from softlab.labels.class_mapping import describe_mapping, find_mapping

TARGETS = np.arange(400) % 10
NAMES = tuple(sorted(str(number) for number in range(1, 11)))


def teacher(targets_N: NDArray[np.int64], *, accuracy: float = 0.9, num_classes: int = 10) -> NDArray[np.int64]:
    """The targets, but for some rows at random."""
    random = np.random.default_rng(0)
    guessed = random.integers(0, num_classes, len(targets_N))
    return np.where(random.random(len(targets_N)) < accuracy, targets_N, guessed)


@pytest.mark.parametrize("accuracy", [1.0, 0.7, 0.2, 0.0])
def test_a_teacher_that_agrees_or_guesses_has_no_mapping(accuracy: float) -> None:
    assert find_mapping(teacher(TARGETS, accuracy=accuracy), TARGETS) is None


def test_a_teacher_that_knows_two_classes_alone_has_no_mapping() -> None:
    assert find_mapping(np.where(TARGETS < 5, 3, 7), TARGETS) is None


def test_labels_in_the_order_of_texts_are_found_with_the_order_to_give() -> None:
    natural = np.array([int(name) - 1 for name in NAMES])[TARGETS]

    mapping = find_mapping(teacher(natural), TARGETS)

    assert mapping is not None
    assert (mapping.accuracy < 0.3, mapping.mapped_accuracy > 0.8) == (True, True)
    told = describe_mapping(mapping, NAMES)
    assert "'10' (1) is its class 9, '2' (2) is its class 1" in told
    assert "natural order (1, 2, 10)" in told
    assert '`source.class_names = ["1", "2", "3", "4", "5", "6", "7", "8", "9", "10"]`' in told


def test_two_folders_that_were_swapped_are_found_among_many() -> None:
    swapped = np.array([0, 2, 1, *range(3, 10)])[TARGETS]

    mapping = find_mapping(teacher(swapped), TARGETS)

    assert mapping is not None
    assert mapping.classes == {1: 2, 2: 1}


@pytest.mark.parametrize(("by", "words"), [(1, "one class more before them"), (-1, "count from 1")])
def test_labels_that_are_shifted_by_one_are_found_in_a_thousand_classes(by: int, words: str) -> None:
    targets_N = np.arange(2000) % 999 + 1

    mapping = find_mapping(teacher(targets_N + by, accuracy=0.7, num_classes=1001), targets_N)

    assert mapping is not None
    assert mapping.offset == by
    assert words in describe_mapping(mapping, None)


def test_few_rows_and_unknown_targets_tell_nothing() -> None:
    shifted = (TARGETS + 1) % 10

    assert find_mapping(shifted[:39], TARGETS[:39]) is None
    assert find_mapping(shifted, np.full(400, -1)) is None


@pytest.mark.parametrize("share", [1.0, 0.7])
def test_a_teacher_that_says_one_class_of_nearly_everything_has_no_mapping(share: float) -> None:
    draws = np.random.default_rng(3)
    targets_N = draws.integers(0, 10, 600)
    predicted_N = np.where(draws.random(600) < share, 5, draws.integers(0, 10, 600))

    assert find_mapping(predicted_N, targets_N) is None
