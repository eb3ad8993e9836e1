"""Processes that decode for a training run: how many there are, and for how long."""

import multiprocessing

import pytest

from softlab.student.loop import TrainProgress
from tests.student.pictures import make_student, stop_at, train

pytestmark = pytest.mark.process

# Runs of 3 epochs with 3 steps each.


BEFORE: set[int | None] = set()
"""Processes that other tests have left."""


@pytest.fixture(autouse=True)
def those_of_others() -> None:
    BEFORE.clear()
    BEFORE.update(pids())


def pids() -> set[int | None]:
    return {process.pid for process in multiprocessing.active_children()} - BEFORE


def test_those_of_training_and_of_validation_stay_over_all_epochs_and_none_is_left() -> None:
    seen: list[set[int | None]] = []

    def on_progress(progress: TrainProgress) -> None:
        seen.append(pids())

    (found,) = train(make_student(), valid=True, workers=2, on_progress=on_progress)

    training, *_ = seen
    assert len(training) == 2
    after_epochs = seen[2::3]
    assert len(after_epochs[0] - training) == 2  # of validation
    assert after_epochs[0] == after_epochs[1]
    assert after_epochs[2] >= after_epochs[1] - training
    assert pids() == set()
    (alone,) = train(make_student(), valid=True)
    assert (found.last, found.train_loss) == (alone.last, alone.train_loss)


@pytest.mark.parametrize("step", [2, 5])
def test_a_run_that_is_stopped_leaves_none(step: int) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(make_student(), valid=True, workers=2, on_progress=stop_at(step))

    assert pids() == set()
