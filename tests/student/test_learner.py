import math
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from softlab.errors import TrainingFailed
from softlab.ranks import ALONE, Ranks
from softlab.student.learner import Learner
from softlab.student.objective import HARD_TARGETS
from tests.modalities.images.batches import images_in
from tests.student.flat_options import learner_of, train_options
from tests.student.random_batch import convolution, random_batch, small_module

BATCHES = [random_batch(seed=seed) for seed in range(12)]


def make_learner(module: nn.Module | None = None, *, ranks: Ranks = ALONE, **options: Any) -> Learner:
    """Four epochs of three steps."""
    flat = train_options(epochs=4, device="cpu", **options)
    return learner_of(module or small_module(), HARD_TARGETS, flat, num_steps=12, steps_per_epoch=3, ranks=ranks)


def train(learner: Learner, steps: Iterable[int] = range(12)) -> list[float]:
    return [learner.step(BATCHES[step], step=step).item() for step in steps]


def weights_of(learner: Learner) -> list[Tensor]:
    return [tensor.clone() for tensor in learner.module.state_dict().values()]


def assert_same(found: list[Tensor], expected: list[Tensor]) -> None:
    """To the bit."""
    assert len(found) == len(expected)
    assert all(one.equal(other) for one, other in zip(found, expected, strict=True))


# The learning rate.


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        pytest.param({"warmup_epochs": 1.0}, [1 / 3, 2 / 3, 1, 1], id="rises to its peak over the first epoch"),
        pytest.param({"warmup_epochs": 0.5}, [1 / 2, 1], id="a warm-up of one and a half steps takes two"),
        pytest.param({"warmup_epochs": 0.0}, [1], id="starts at its peak without a warm-up"),
        pytest.param({"warmup_epochs": 4.0}, [step / 12 for step in range(1, 13)], id="the whole run warms up"),
        pytest.param({"warmup_epochs": 1.0, "schedule": "constant"}, [1 / 3, 2 / 3] + 10 * [1], id="constant"),
    ],
)
def test_the_learning_rate_rises_linearly_to_its_peak(options: dict[str, Any], expected: list[float]) -> None:
    learner = make_learner(learning_rate=0.02, **options)

    assert [learner.learning_rate(step) for step in range(len(expected))] == pytest.approx(
        [0.02 * share for share in expected]
    )


def test_the_learning_rate_falls_along_a_cosine_after_the_warm_up() -> None:
    learner = make_learner(learning_rate=0.02, warmup_epochs=1.0)

    # Nine steps after the three of the warm-up: a third and two thirds of the way are at 60 and 120 degrees.
    assert learner.learning_rate(3) == pytest.approx(0.02)
    assert learner.learning_rate(6) == pytest.approx(0.02 * 0.75)
    assert learner.learning_rate(9) == pytest.approx(0.02 * 0.25)
    assert learner.learning_rate(11) == pytest.approx(0.02 * (1 + math.cos(math.pi * 8 / 9)) / 2)


# Steps, against torch's own optimizers run by hand.

Make = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]


@pytest.mark.parametrize(
    ("options", "make"),
    [
        ({"optimizer": "adamw"}, lambda parameters: torch.optim.AdamW(parameters, weight_decay=0.01)),
        ({"fused": True}, lambda parameters: torch.optim.AdamW(parameters, weight_decay=0.01, fused=True)),
        (
            {"optimizer": "sgd", "momentum": 0.8, "weight_decay": 0.1},
            lambda parameters: torch.optim.SGD(parameters, momentum=0.8, weight_decay=0.1, nesterov=True),
        ),
        (
            {"optimizer": "sgd", "momentum": 0.0, "weight_decay": 0.0},
            lambda parameters: torch.optim.SGD(parameters),
        ),
    ],
)
@pytest.mark.parametrize("clip_norm", [None, 0.5])
def test_a_step_is_that_of_torchs_own_optimizer(options: dict[str, Any], make: Make, clip_norm: float | None) -> None:
    learner = make_learner(learning_rate=0.05, clip_norm=clip_norm, **options)
    module = small_module()
    optimizer = make(module.parameters())

    losses, norms = [], []
    for step, batch in enumerate(BATCHES):
        optimizer.param_groups[0]["lr"] = learner.learning_rate(step)
        assert batch.targets_B is not None
        loss = nn.functional.cross_entropy(module(images_in(batch)), batch.targets_B)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        norms.append(nn.utils.clip_grad_norm_(module.parameters(), clip_norm or math.inf).item())
        optimizer.step()
        losses.append(loss.item())

    assert max(norms) > 0.5  # so that clipping changes something
    assert train(learner) == pytest.approx(losses, rel=1e-5)
    torch.testing.assert_close(weights_of(learner), list(module.state_dict().values()))


def test_frozen_parameters_stay_as_they_are() -> None:
    module = small_module()
    frozen = module[1].requires_grad_(False)
    before = [tensor.clone() for tensor in frozen.state_dict().values()]
    last = module[-1].state_dict()["weight"].clone()

    train(make_learner(module))

    assert_same(list(frozen.state_dict().values()), before)
    assert not module[-1].state_dict()["weight"].equal(last)


def test_the_loss_of_a_step_is_that_before_its_update() -> None:
    learner = make_learner()
    assert BATCHES[0].targets_B is not None
    expected = nn.functional.cross_entropy(learner.module(images_in(BATCHES[0])), BATCHES[0].targets_B)

    loss = learner.step(BATCHES[0], step=0)

    torch.testing.assert_close(loss, expected.detach())
    assert not loss.requires_grad


# The mean loss.


def test_the_mean_loss_is_over_the_steps_since_it_was_last_asked() -> None:
    learner = make_learner()

    first = train(learner, range(3))
    assert learner.take_mean_loss(step=3) == pytest.approx(sum(first) / 3)
    second = train(learner, range(3, 5))
    assert learner.take_mean_loss(step=5) == pytest.approx(sum(second) / 2)


def test_a_loss_that_is_not_finite_ends_the_training_and_names_the_student() -> None:
    learner = make_learner(learning_rate=1e38, optimizer="sgd")
    train(learner)

    with pytest.raises(
        TrainingFailed, match=r"student small: .* Lower `optimizer.learning_rate`, or set `optimizer.clip_norm = 1`"
    ):
        learner.take_mean_loss(step=12)


# Train and eval mode, random numbers.


def test_a_student_is_measured_in_eval_mode_and_trained_in_train_mode() -> None:
    learner = make_learner(small_module(dropout=0.5))

    forward = learner.evaluating()
    torch.testing.assert_close(forward(BATCHES[0]), forward(BATCHES[0]), rtol=0, atol=0)
    learner.step(BATCHES[0], step=0)
    assert learner.module.training


def test_dropout_is_that_of_the_seed_and_of_no_one_else() -> None:
    expected = train(make_learner(small_module(dropout=0.5), seed=7))

    learner, other = make_learner(small_module(dropout=0.5), seed=7), make_learner(small_module(dropout=0.5), seed=8)
    losses, others = [], []
    for step in range(12):
        torch.rand(step)
        others += train(other, [step])
        losses += train(learner, [step])

    assert losses == expected
    assert losses != others


def loss_of_one_step(*, step: int = 3, seed: int = 7, rank: int = 0, steps_before: Iterable[int] = ()) -> float:
    """On the same weights and the same batch, so that only dropout makes a difference."""
    learner = make_learner(small_module(dropout=0.5), ranks=Ranks(rank=rank), learning_rate=1e-30, seed=seed)
    train(learner, steps_before)
    return learner.step(BATCHES[0], step=step).item()


def test_random_numbers_are_a_function_of_seed_step_and_rank() -> None:
    expected = loss_of_one_step()

    assert loss_of_one_step(steps_before=range(3)) == expected
    assert loss_of_one_step(steps_before=[7, 7]) == expected
    others = [loss_of_one_step(step=4), loss_of_one_step(seed=8), loss_of_one_step(rank=1)]
    assert len({expected, *others}) == 4


@pytest.mark.parametrize("seed", [0, 2**63, 2**64 - 1])
def test_any_seed_has_random_numbers(seed: int) -> None:
    assert math.isfinite(loss_of_one_step(seed=seed))


def test_the_global_random_state_is_left_as_it_was() -> None:
    before = torch.get_rng_state()

    train(make_learner(small_module(dropout=0.5), seed=7))

    assert torch.get_rng_state().equal(before)


# Going on.


@pytest.mark.parametrize("stop", [0, 1, 7, 12])
@pytest.mark.parametrize(
    "options",
    [
        {"optimizer": "adamw"},
        {"optimizer": "sgd"},
        {"optimizer": "sgd", "momentum": 0.0},
        {"optimizer": "adamw", "channels_last": True},
    ],
)
def test_a_learner_that_goes_on_from_a_state_ends_with_the_same_bits(stop: int, options: dict[str, Any]) -> None:
    undisturbed = make_learner(convolution(), **options)
    begun, resumed = make_learner(convolution(), **options), make_learner(convolution(seed=1), **options)
    losses = train(undisturbed)

    first = train(begun, range(stop))
    resumed.load_state(begun.state())
    second = train(resumed, range(stop, 12))

    assert first + second == losses
    assert_same(weights_of(resumed), weights_of(undisturbed))
    assert resumed.take_mean_loss(step=12) == undisturbed.take_mean_loss(step=12)


def test_a_state_holds_no_random_numbers() -> None:
    learner = make_learner(convolution(), optimizer="sgd")
    train(learner, range(3))

    model = {f"model.{name}" for name in convolution().state_dict()}
    optimizer = {f"optimizer.{index}.momentum_buffer" for index in range(len(list(convolution().parameters())))}
    assert learner.state().keys() == model | optimizer | {"loss.sum", "loss.count"}


def test_a_state_does_not_change_when_training_goes_on() -> None:
    learner = make_learner()
    train(learner, range(3))
    state = learner.state()
    before = {name: tensor.clone() for name, tensor in state.items()}

    train(learner, range(3, 12))

    assert all(state[name].equal(tensor) for name, tensor in before.items())
