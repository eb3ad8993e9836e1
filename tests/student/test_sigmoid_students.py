"""Students of a multi-label teacher: from its store they learn what they would with the teacher in the loop."""

# Shape letters: N samples, B rows in a batch, C classes.

import math
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, mse_loss

from softlab.errors import StoreMismatch
from softlab.labels.losses import BinaryCrossEntropyLoss, LossName
from softlab.loading.order import ShuffledBatches
from softlab.store.reader import Store, open_store
from softlab.student.feature_losses import FeatureLoss
from softlab.student.loop import TrainProgress
from softlab.student.options import Student
from tests.labels.losses.lessons import loss_with
from tests.student.fashion import same_weights
from tests.student.pictures import NUM_PICTURES, make_learn, make_store, pictures, train
from tests.student.pictures import make_student as make_small_student
from tests.teacher.dumping import images_of, make_teacher

NUM_CLASSES = 20
TEMPERATURE = 2.0
PICTURES = replace(pictures(), class_names=None, targets_N=None)
"""A multi-label source has no hard targets: they would name one class a sample."""

OPTIONS: dict[str, Any] = {
    "epochs": 12,
    "loss": BinaryCrossEntropyLoss(temperature=TEMPERATURE),
    "alpha": 1.0,
    "warmup_epochs": 0.0,
    "source": PICTURES,
}
STEPS = ShuffledBatches(num_samples=NUM_PICTURES, batch_size=8, epochs=12, seed=0)
assert len(STEPS) == 36

SOFTMAX_LOSSES = [name for name in get_args(LossName) if name not in ("bce", "mse")]


@pytest.fixture(scope="module")
def dumped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stores of all classes in float32 (`full`) and of half of them in float16 (`narrow`) of a multi-label teacher of
    many classes, and of one of five that has features (`few`)."""
    folder = tmp_path_factory.mktemp("multi-label")
    many: dict[str, Any] = {"num_classes": NUM_CLASSES, "source": PICTURES, "head": "sigmoid"}
    make_store(folder / "full", **many)
    make_store(folder / "narrow", k=10, coding="float16", **many)
    make_store(folder / "few", head="sigmoid", feature={"mean": "conv:mean"})
    return folder


@pytest.fixture
def full(dumped: Path) -> Store:
    return open_store(dumped / "full")


@pytest.fixture
def few(dumped: Path) -> Store:
    return open_store(dumped / "few")


def make_student() -> nn.Sequential:
    return make_small_student(num_classes=NUM_CLASSES, batch_norm=False)


@torch.no_grad()
def logits_of(module: nn.Module, numbers: Any = range(NUM_PICTURES)) -> Tensor:
    """[N, C], of the pictures with these numbers."""
    logits_NC: Tensor = module(images_of(PICTURES, [int(number) for number in numbers]))
    return logits_NC


def the_teacher() -> nn.Module:
    return make_teacher(num_classes=NUM_CLASSES).eval()


def with_the_teacher_in_the_loop(student: nn.Module) -> list[float]:
    """The loss of each step: plain torch code, no store."""
    optimizer, teacher, losses = torch.optim.AdamW(student.parameters(), weight_decay=0.01), the_teacher(), []
    student.train()
    for step, rows in enumerate(STEPS):
        optimizer.param_groups[0]["lr"] = 0.01 * (1 + math.cos(math.pi * step / len(STEPS))) / 2
        images_BCHW = images_of(PICTURES, rows.source_B.tolist())
        taught_BC = (logits_of(teacher, rows.source_B) / TEMPERATURE).sigmoid()
        loss = TEMPERATURE**2 * binary_cross_entropy_with_logits(student(images_BCHW) / TEMPERATURE, taught_BC)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())
    return losses


def dense_loss(student: nn.Module) -> float:
    """Against all logits of the teacher."""
    taught_NC = logits_of(the_teacher()).sigmoid()
    return binary_cross_entropy_with_logits(logits_of(student.eval()), taught_NC).item()


# What is learnt.


def test_with_all_classes_in_float32_a_run_is_that_with_the_teacher_in_the_loop(full: Store) -> None:
    expected, student = make_student(), make_student()
    losses = with_the_teacher_in_the_loop(expected)

    (result,) = train(student, full, **OPTIONS)

    torch.testing.assert_close(student.state_dict(), expected.state_dict(), rtol=1e-4, atol=1e-5)
    assert result.train_loss == pytest.approx(sum(losses[-3:]) / 3, abs=1e-5)
    taught_NC = logits_of(the_teacher()) / TEMPERATURE
    least = TEMPERATURE**2 * binary_cross_entropy_with_logits(taught_NC, taught_NC.sigmoid()).item()
    learnt = (losses[0] - losses[-1]) / (losses[0] - least)
    assert learnt > 0.4, "the student learns, so that the comparison means something"


def test_half_of_the_classes_in_float16_lose_little(dumped: Path, full: Store) -> None:
    untrained, from_all, from_half = make_student(), make_student(), make_student()

    train(from_all, full, **OPTIONS)
    train(from_half, open_store(dumped / "narrow"), **OPTIONS)

    learnt = dense_loss(untrained) - dense_loss(from_all)
    assert not same_weights(from_half, from_all)
    assert dense_loss(untrained) - dense_loss(from_half) > 0.8 * learnt > 0


def test_raw_logits_are_learnt_by_mse(full: Store) -> None:
    student_NC = logits_of(make_student().train())

    (result,) = train(make_student(), full, **OPTIONS | {"loss": "mse", "epochs": 1, "batch_size": NUM_PICTURES})

    assert result.train_loss == pytest.approx(mse_loss(student_NC, logits_of(the_teacher())).item(), rel=1e-5)


def test_a_student_is_compared_with_its_teacher_by_agreement_alone(full: Store) -> None:
    student = make_student()

    (result,) = train(student, full, valid=full, **OPTIONS)

    agreed_N = logits_of(student.eval()).argmax(dim=1) == logits_of(the_teacher()).argmax(dim=1)
    assert result.last is not None
    assert result.last.values == {"teacher_agreement": pytest.approx(agreed_N.double().mean().item())}


def test_a_baseline_of_hard_targets_may_stand_beside(few: Store) -> None:
    student, baseline = make_small_student(), make_small_student()

    results = train(student, few, loss="bce", alpha=1.0, baseline=True)

    (expected,) = train(baseline)
    assert [result.error for result in results] == [None, None]
    assert results[1].train_loss == expected.train_loss


def test_features_of_a_multi_label_teacher_may_be_learnt_beside_hard_targets(few: Store) -> None:
    (result,) = train(make_small_student(), few, alpha=0.0, feature={"mean": FeatureLoss(layer="conv:mean")})

    assert result.error is None


# What is refused, before the first step, for all students.


def refused(students: dict[str, nn.Module | Student], stores: Store | list[Store], **options: Any) -> str:
    """The message; a student that failed by itself would be set aside, and the others trained."""
    steps: list[TrainProgress] = []
    with pytest.raises(StoreMismatch) as caught:
        train(students, stores, on_progress=steps.append, **options)
    assert steps == []
    return str(caught.value)


@pytest.mark.parametrize("name", SOFTMAX_LOSSES)
def test_a_softmax_loss_is_refused(full: Store, name: LossName, tmp_path: Path) -> None:
    students: dict[str, nn.Module | Student] = {"one": make_student(), "two": make_student()}

    message = refused(
        students, full, out=tmp_path / "run", **OPTIONS | {"loss": loss_with(name, temperature=TEMPERATURE)}
    )

    assert message == (
        f"{name} is for teachers with a softmax head, but these labels come from a sigmoid head. Choose as "
        f"`loss.name` bce, or mse on the logits."
    )
    assert not (tmp_path / "run").exists()


def test_bce_is_refused_for_a_softmax_teacher(first: Store) -> None:
    students: dict[str, nn.Module | Student] = {"one": make_small_student(), "two": make_small_student()}

    assert "come from a softmax head. Choose as `loss.name` kl, or mse on the logits." in refused(
        students, first, loss="bce"
    )


def test_one_students_wrong_loss_is_refused_for_all(few: Store) -> None:
    right = Student(module=make_small_student(), learn=make_learn(loss="bce", alpha=1.0))
    wrong = Student(module=make_small_student(), learn=make_learn(loss="kl", alpha=1.0))

    assert "kl is for teachers with a softmax head" in refused({"right": right, "wrong": wrong}, few)


@pytest.mark.parametrize("options", [{"alpha": 0.9}, {"alpha": 1.0, "alpha_end": 0.5}, {"alpha": 0.0, "alpha_end": 1}])
@pytest.mark.parametrize("loss", ["bce", "mse"])
def test_hard_targets_beside_it_are_refused(few: Store, loss: LossName, options: dict[str, float]) -> None:
    """They name one class a sample, and the others would be taken for wrong."""
    message = refused({"one": make_small_student(), "two": make_small_student()}, few, loss=loss, **options)

    assert message.startswith(f"student one: alpha below 1 adds hard targets, one class a sample, but {few.path} is of")
    assert "with `teachers.alpha = 1`, or in a search with" in message


def test_several_multi_label_teachers_are_refused(dumped: Path, full: Store) -> None:
    students: dict[str, nn.Module | Student] = {"one": make_student(), "two": make_student()}

    message = refused(students, [full, open_store(dumped / "narrow")], **OPTIONS)

    assert "only teachers with a softmax head can be combined. Train from one `store`." in message


def test_teachers_with_different_heads_are_refused(few: Store, first: Store) -> None:
    message = refused({"one": make_small_student()}, [first, few])

    assert message == (
        f"{few.path}: has a sigmoid head, but {first.path} has a softmax head. Choose teachers with the same head."
    )


def test_a_validation_store_of_another_head_is_refused(few: Store, first: Store) -> None:
    """Of the same teacher: only what its logits are taken to mean differs."""
    message = refused({"one": make_small_student()}, few, valid=first, loss="bce", alpha=1.0)

    assert f"{first.path}: was not made by the teacher of {few.path}, or is over other classes or of another" in message
