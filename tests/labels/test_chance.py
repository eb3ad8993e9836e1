# Shape letters: N samples.

import numpy as np
import pytest
from numpy.typing import NDArray

from softlab.labels.chance import is_at_chance

NUM_CLASSES = 1000


def agreeing(share: float, *, count: int, num_labels: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """A teacher of 1,000 classes that is right about so many of the rows, and the labels 0 .. num_labels - 1."""
    generator = np.random.default_rng(0)
    targets_N = generator.integers(0, num_labels, count)
    predicted_N = generator.integers(0, NUM_CLASSES, count)
    return np.where(generator.random(count) < share, targets_N, predicted_N), targets_N


@pytest.mark.parametrize(
    ("share", "count", "num_labels", "expected"),
    [
        pytest.param(0.0, 2000, 5, True, id="never right"),
        pytest.param(0.0, 100, 5, True, id="a hundred rows are enough"),
        pytest.param(0.0, 30, 5, False, id="thirty are not"),
        pytest.param(0.0, 300, 90, False, id="nor three hundred of ninety labels"),
        pytest.param(0.8, 100, 5, False, id="right"),
        pytest.param(0.05, 2000, 5, False, id="a bad teacher, but of these classes"),
        pytest.param(0.0, 500, 1, True, id="all the same label"),
        pytest.param(0.05, 500, 1, False, id="the same label, and a bad teacher of it"),
    ],
)
def test_a_teacher_of_other_classes_is_right_by_chance_at_most(
    share: float, count: int, num_labels: int, expected: bool
) -> None:
    predicted_N, targets_N = agreeing(share, count=count, num_labels=num_labels)

    assert is_at_chance(predicted_N, targets_N, num_classes=NUM_CLASSES) is expected


def test_a_teacher_that_says_few_classes_whatever_it_is_shown_is_right_by_chance() -> None:
    """Five of a hundred are a lot for 1,000 classes, and no more than shuffled labels give."""
    generator = np.random.default_rng(0)
    targets_N = generator.integers(0, 5, 2000)
    predicted_N = np.where(generator.random(2000) < 0.25, 3, 700)

    assert is_at_chance(predicted_N, targets_N, num_classes=NUM_CLASSES)


def test_rows_with_an_unknown_target_do_not_count() -> None:
    predicted_N, targets_N = agreeing(0.0, count=2000, num_labels=5)
    targets_N[30:] = -1

    assert not is_at_chance(predicted_N, targets_N, num_classes=NUM_CLASSES)
