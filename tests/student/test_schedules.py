"""alpha and the temperature on their way from one value to another over a run."""

import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from softlab.errors import InterpolatedTail, InvalidOption
from softlab.labels.losses import DecoupledKlLoss, KlLoss, LossName, decision_loss, make_loss, temperature_of
from softlab.store.reader import Store, open_store
from softlab.student.objective import Objective
from softlab.student.options import TeachersOptions
from tests.modalities.images.batches import images_in
from tests.student.flat_options import learner_of, train_options
from tests.student.pictures import make_student, train
from tests.student.random_batch import random_batch, small_module

BATCH = random_batch()
COOLING = Objective(
    teachers=TeachersOptions(alpha=0.8, alpha_end=0.2), loss=KlLoss(temperature=4.0, temperature_end=1.0)
)


def expected_loss(logits_BC: torch.Tensor, *, alpha: float, temperature: float, name: LossName = "kl") -> torch.Tensor:
    assert BATCH.labels is not None
    assert BATCH.targets_B is not None
    options = make_loss(name, temperature=temperature)
    soft = decision_loss(logits_BC, BATCH.labels, targets_B=BATCH.targets_B, options=options)
    return alpha * soft + (1 - alpha) * functional.cross_entropy(logits_BC, BATCH.targets_B)


@pytest.mark.parametrize(
    ("step", "alpha", "temperature"),
    [(0, 0.8, 4.0), (1, 0.725, 3.625), (4, 0.5, 2.5), (8, 0.2, 1.0)],
    ids=["first", "second", "middle", "last"],
)
@pytest.mark.parametrize("name", ["kl", "dkd"])
def test_each_step_of_a_run_has_its_own_mix_and_temperature(
    step: int, alpha: float, temperature: float, name: LossName
) -> None:
    objective = replace(COOLING, loss=make_loss(name, temperature=4.0, temperature_end=1.0))
    options = train_options(epochs=3, device="cpu")
    learner = learner_of(small_module(), objective, options, num_steps=9, steps_per_epoch=3)

    loss = learner.step(BATCH, step=step)

    expected = expected_loss(small_module()(images_in(BATCH)), alpha=alpha, temperature=temperature, name=name)
    torch.testing.assert_close(loss, expected.detach())


def test_a_run_of_one_step_stays_where_it_begins() -> None:
    options = train_options(epochs=1, device="cpu")
    learner = learner_of(small_module(), COOLING, options, num_steps=1, steps_per_epoch=1)

    loss = learner.step(BATCH, step=0)

    expected = expected_loss(small_module()(images_in(BATCH)), alpha=0.8, temperature=4.0)
    torch.testing.assert_close(loss, expected.detach())


@pytest.mark.parametrize(("start", "end"), [(4.0, 0.3), (4.0, 0.1), (0.7, 3.3), (1.0, 0.9)])
def test_a_schedule_ends_exactly_where_it_says_and_is_never_beyond(start: float, end: float) -> None:
    objective = Objective(loss=KlLoss(temperature=start, temperature_end=end))

    found = [temperature_of(objective._loss_at(step / 19)) for step in range(20)]

    assert (found[0], found[-1]) == (start, end)
    assert all(each is not None and min(start, end) <= each <= max(start, end) for each in found)


@pytest.mark.parametrize(("alpha", "alpha_end"), [(0.0, 1.0), (1.0, 0.0)])
def test_alpha_may_come_from_nothing_or_go_to_it(alpha: float, alpha_end: float) -> None:
    logits_BC = small_module()(images_in(BATCH))
    objective = Objective(teachers=TeachersOptions(alpha=alpha, alpha_end=alpha_end), loss=KlLoss(temperature=2.0))

    for progress in (0.0, 0.25, 1.0):
        at = alpha + (alpha_end - alpha) * progress
        expected = expected_loss(logits_BC, alpha=at, temperature=2.0)
        torch.testing.assert_close(objective(logits_BC, BATCH, progress=progress), expected)


@pytest.mark.parametrize(
    ("objective", "expected"),
    [
        (Objective(teachers=TeachersOptions(alpha=1.0)), False),
        (Objective(teachers=TeachersOptions(alpha=1.0, alpha_end=1.0)), False),
        (Objective(teachers=TeachersOptions(alpha=0.9)), True),
        (Objective(teachers=TeachersOptions(alpha=1.0, alpha_end=0.5)), True),
        (Objective(teachers=TeachersOptions(alpha=0.5, alpha_end=1.0)), True),
        (Objective(teachers=TeachersOptions(alpha=1.0), loss=DecoupledKlLoss()), True),
    ],
)
def test_targets_are_needed_if_any_step_looks_at_them(objective: Objective, expected: bool) -> None:
    assert objective.needs_targets == expected


@pytest.fixture
def narrow(taught: Path) -> Store:
    return open_store(taught / "narrow")


def test_temperatures_on_the_way_are_not_warned_about_one_by_one(narrow: Store) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        train(make_student(), narrow, temperature=4.0, temperature_end=1.0)

    (note,) = (str(warning.message) for warning in caught)
    assert "temperatures from 4 to 1 are not all stored (stored: 1, 2, 4): tails in between are interpolated" in note


def test_an_end_that_is_not_stored_is_warned_about(narrow: Store) -> None:
    with pytest.warns(InterpolatedTail, match="temperatures from 4 to 3 are not all stored"):
        train(make_student(), narrow, temperature=4.0, temperature_end=3.0)


@pytest.mark.parametrize(("start", "end", "option"), [(4.0, 0.5, "temperature_end"), (0.5, 4.0, "temperature")])
def test_an_end_that_cannot_be_trained_at_is_refused_before_the_first_step(
    narrow: Store, start: float, end: float, option: str
) -> None:
    student, steps = make_student(), list[int]()

    with pytest.raises(InvalidOption, match=rf"loss\.{option} = 0\.5, but .* Say `loss\.{option} = 1` or more"):
        train(
            student,
            narrow,
            temperature=start,
            temperature_end=end,
            on_progress=lambda progress: steps.append(progress.step),
        )

    assert steps == []


def test_without_a_tail_any_temperature_can_be_trained_at(narrow: Store) -> None:
    train(make_student(), narrow, temperature=4.0, temperature_end=0.3, tail="renormalise", epochs=1)


def test_a_warm_up_of_more_steps_than_the_run_has_is_refused(narrow: Store) -> None:
    with pytest.raises(InvalidOption, match=r"optimizer\.warmup_steps = 100000: expected 0 to .* steps of the run"):
        train(make_student(), narrow, warmup_steps=100_000)
