import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from softlab.errors import TrainingFailed
from softlab.evaluation.evaluation import Evaluation
from softlab.evaluation.one_model import EvaluateOptions, evaluate_model
from softlab.labels.losses import KlLoss
from softlab.loading.order import ShuffledBatches
from softlab.models import load_weights
from softlab.models.device import DeviceOptions
from softlab.store.reader import Store
from softlab.student.loop import TrainProgress
from softlab.student.objective import Objective
from softlab.student.options import TeachersOptions
from tests.modalities.images.batches import images_in
from tests.sources.pictures import image_of
from tests.student.fashion import (
    INPUT,
    NUM_TRAIN,
    all_but_seconds,
    fashion,
    make_loader,
    make_options,
    make_student,
    make_teacher,
    metrics,
    same_weights,
    train,
)
from tests.student.flat_options import learner_of


def evaluation_in(path: Path) -> Evaluation:
    return msgspec.convert(json.loads(path.read_text())["valid"], Evaluation)


# Training from a store is training with the teacher in the loop.

STEPS = ShuffledBatches(num_samples=NUM_TRAIN, batch_size=30, epochs=5, seed=3)
assert len(STEPS) == 50


def with_the_teacher_in_the_loop(student: nn.Module) -> list[float]:
    """The loss of each step: plain torch code, no store."""
    source, teacher = fashion(), make_teacher().eval()
    images_NCHW = torch.stack([image_of(source, number) for number in range(NUM_TRAIN)]).float() / 255
    images_NCHW = (images_NCHW - INPUT.mean[0]) / INPUT.std[0]
    targets_N = torch.from_numpy(source.targets["label"])
    optimizer = torch.optim.AdamW(student.parameters(), weight_decay=0.01)
    losses = []
    student.train()
    for step, rows in enumerate(STEPS):
        optimizer.param_groups[0]["lr"] = 1e-2 * (1 + math.cos(math.pi * step / 50)) / 2
        images_BCHW, targets_B = images_NCHW[rows.source_B], targets_N[rows.source_B]
        with torch.no_grad():
            teacher_BC = teacher(images_BCHW)
        student_BC = student(images_BCHW)
        divergence = functional.kl_div(
            (student_BC / 4).log_softmax(dim=1), (teacher_BC / 4).softmax(dim=1), reduction="batchmean"
        )
        loss = 0.9 * 4**2 * divergence + 0.1 * functional.cross_entropy(student_BC, targets_B)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())
    return losses


def from_the_store(student: nn.Module, store: Store) -> list[float]:
    options = make_options(epochs=5, batch_size=30, seed=3, warmup_epochs=0.0, learning_rate=1e-2)
    objective = Objective(teachers=TeachersOptions(alpha=0.9), loss=KlLoss(temperature=4.0))
    learner = learner_of(student, objective, options, num_steps=50, steps_per_epoch=10)
    batches = make_loader(fashion(), store).load(STEPS)
    return [learner.step(batch, step=step).item() for step, batch in enumerate(batches)]


def test_with_all_classes_in_float32_each_step_has_the_loss_of_training_with_the_teacher(full_store: Store) -> None:
    expected = with_the_teacher_in_the_loop(make_student())

    losses = from_the_store(make_student(), full_store)

    assert losses == pytest.approx(expected, abs=1e-5)
    assert expected[-1] < expected[0] / 2, "the student learns, so that the comparison means something"


def test_a_whole_run_ends_with_the_weights_of_training_with_the_teacher(full_store: Store) -> None:
    expected, student = make_student(), make_student()
    losses = with_the_teacher_in_the_loop(expected)

    (result,) = train(student, full_store, epochs=5, batch_size=30, seed=3, warmup_epochs=0.0, learning_rate=1e-2)

    torch.testing.assert_close(student.state_dict(), expected.state_dict(), rtol=1e-4, atol=1e-5)
    assert result.train_loss == pytest.approx(sum(losses[40:]) / 10, abs=1e-5)


def test_few_classes_in_float16_lose_little(full_store: Store, narrow_store: Store) -> None:
    expected, losses = from_the_store(make_student(), full_store), from_the_store(make_student(), narrow_store)

    assert losses[-10:] == pytest.approx(expected[-10:], rel=0.1)
    assert losses != expected


# Several students in one pass.


@pytest.mark.parametrize("workers", [0, 2])
def test_students_trained_in_one_pass_are_to_the_bit_those_trained_alone(narrow_store: Store, workers: int) -> None:
    makers: dict[str, Callable[[], nn.Module]] = {
        "plain": make_student,
        "dropping": lambda: make_student(seed=1, dropout=0.5),
        "other": lambda: make_student(seed=2, dropout=0.2),
    }
    together = {name: make() for name, make in makers.items()}
    results = train(together, narrow_store, workers=workers)

    for (name, make), result in zip(makers.items(), results, strict=True):
        alone = make()
        (expected,) = train({name: alone}, narrow_store)
        assert same_weights(together[name], alone)
        assert (result.name, result.train_loss) == (name, expected.train_loss)


def test_the_baseline_starts_from_the_same_weights_and_sees_hard_targets_alone(
    full_store: Store, tmp_path: Path
) -> None:
    results = train(make_student(dropout=0.5), full_store, baseline=True, valid=True, out=tmp_path)

    alone, baseline = make_student(dropout=0.5), make_student(seed=9)
    (expected,) = train(alone, valid=True)
    assert [result.name for result in results] == ["small", "small-hard"]
    assert all_but_seconds(results[1]) == all_but_seconds(expected, name="small-hard")
    load_weights(baseline, tmp_path / "small-hard" / "last.safetensors")
    assert same_weights(baseline, alone)


def test_without_a_store_students_learn_from_hard_targets() -> None:
    student, expected = make_student(), make_student()
    train(student, warmup_epochs=0.0, schedule="constant", weight_decay=0.0, optimizer="sgd", momentum=0.0)

    optimizer = torch.optim.SGD(expected.parameters(), lr=1e-3)
    for batch in make_loader(fashion()).load(ShuffledBatches(num_samples=NUM_TRAIN, batch_size=50, epochs=2, seed=0)):
        assert batch.targets_B is not None
        optimizer.zero_grad()
        functional.cross_entropy(expected(images_in(batch)), batch.targets_B).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    torch.testing.assert_close(student.state_dict(), expected.state_dict())


# What a run leaves.


class Tiring(nn.Module):
    """Learns, but after one epoch of six steps prefers what is wrong: its best epoch is the first."""

    steps: Tensor

    def __init__(self, *, seed: int = 0) -> None:
        super().__init__()
        self.layers = make_student(seed=seed)
        self.register_buffer("steps", torch.tensor(0))

    def forward(self, images_BCHW: Tensor) -> Tensor:
        self.steps += self.training
        logits_BC: Tensor = self.layers(images_BCHW)
        return logits_BC if self.training or self.steps <= 6 else -logits_BC


def test_best_and_last_weights_are_as_good_as_recorded(full_store: Store, valid_store: Store, tmp_path: Path) -> None:
    student = Tiring()
    (result,) = train(student, full_store, valid=valid_store, out=tmp_path, epochs=3, learning_rate=0.01)

    for kind, expected in [("best", result.best), ("last", result.last)]:
        module = Tiring(seed=9)
        load_weights(module, tmp_path / "small" / f"{kind}.safetensors")
        found = evaluate_model(
            module,
            fashion("test"),
            store=valid_store,
            input=INPUT,
            options=EvaluateOptions(batch_size=50),
            device=DeviceOptions(name="cpu"),
        )
        assert found == expected == evaluation_in(tmp_path / "small" / f"{kind}.json")
        assert same_weights(module, student) == (kind == "last")
    accuracies = [line["valid"]["values"]["accuracy"] for line in metrics(tmp_path)]
    assert result.best is not None
    assert result.best.values["accuracy"] == max(accuracies) > accuracies[-1]
    assert json.loads((tmp_path / "small" / "best.json").read_text())["epoch"] == 1


def test_metrics_have_one_line_a_student_and_epoch(full_store: Store, valid_store: Store, tmp_path: Path) -> None:
    students = {"one": make_student(), "two": make_student(seed=1)}
    results = train(students, full_store, valid=valid_store, out=tmp_path, epochs=3, warmup_epochs=0.0)

    lines = metrics(tmp_path)
    assert [(line["epoch"], line["step"], line["student"]) for line in lines] == [
        (epoch, 6 * epoch, name) for epoch in (1, 2, 3) for name in ("one", "two")
    ]
    assert [line["learning_rate"] for line in lines[::2]] == pytest.approx(
        [1e-3 * (1 + math.cos(math.pi * step / 18)) / 2 for step in (5, 11, 17)]
    )
    for result, line in zip(results, lines[-2:], strict=True):
        assert line["train_loss"] == result.train_loss
        assert msgspec.convert(line["valid"], Evaluation) == result.last


def test_without_validation_there_is_no_best(full_store: Store, tmp_path: Path) -> None:
    (result,) = train(make_student(), full_store, out=tmp_path)

    assert (result.best, result.last) == (None, None)
    assert sorted(path.name for path in (tmp_path / "small").iterdir()) == ["last.json", "last.safetensors"]
    assert [line["valid"] for line in metrics(tmp_path)] == [None, None]


def test_without_a_folder_the_modules_are_trained_and_nothing_is_written(
    full_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    student = make_student()

    train(student, full_store, valid=True, checkpoint_steps=2)

    assert not same_weights(student, make_student())
    assert list(tmp_path.iterdir()) == []


def test_progress_tells_the_step_the_epoch_and_the_last_evaluation(full_store: Store) -> None:
    seen: list[TrainProgress] = []

    (result,) = train(make_student(), full_store, valid=True, on_progress=seen.append)

    assert [progress.step for progress in seen] == list(range(1, 13))
    assert {progress.num_steps for progress in seen} == {12}
    assert [progress.epoch for progress in seen] == 6 * [1] + 6 * [2]
    assert seen[0].valid == {}
    assert seen[-1].valid == {"small": result.last}


def test_progress_tells_the_loss_and_a_line_about_both(full_store: Store) -> None:
    seen: list[TrainProgress] = []

    (result,) = train(make_student(), full_store, valid=True, on_progress=seen.append)

    assert result.last is not None
    assert result.train_loss == pytest.approx(seen[-1].loss["small"], rel=0.3), (
        "the mean of an epoch, and a smoothed one"
    )
    assert seen[0].note == f"epoch 1, loss {seen[0].loss['small']:.4g}"
    accuracy = f"{result.last.values['accuracy']:.2%}"
    assert seen[-1].note == f"epoch 2, loss {seen[-1].loss['small']:.4g}, accuracy {accuracy}"
    assert (seen[-1].done, seen[-1].total, seen[-1].unit) == (12, 12, "steps")


def test_of_several_students_the_lowest_and_the_highest_loss_and_the_best_figure_are_told(full_store: Store) -> None:
    seen: list[TrainProgress] = []

    results = train(make_student(), full_store, valid=True, baseline=True, on_progress=seen.append)

    lowest, highest = sorted(seen[-1].loss.values())
    best = max(result.last.values["accuracy"] for result in results if result.last)
    assert seen[-1].loss.keys() == {"small", "small-hard"}
    assert seen[-1].note == f"epoch 2, loss {lowest:.4g} to {highest:.4g}, best accuracy {best:.2%}"


def test_the_first_samples_alone_are_used_if_asked_for(full_store: Store) -> None:
    seen: list[TrainProgress] = []

    train(make_student(), full_store, max_samples=120, on_progress=seen.append)

    assert len(seen) == 2 * (120 // 50)


@pytest.mark.process
def test_the_global_random_state_is_left_as_it_was(full_store: Store, valid_store: Store) -> None:
    before = torch.get_rng_state()

    train(make_student(dropout=0.5), full_store, valid=valid_store, baseline=True, workers=2)

    assert torch.get_rng_state().equal(before)


def test_a_loss_that_is_not_finite_ends_the_run_and_names_the_student(full_store: Store, tmp_path: Path) -> None:
    with pytest.raises(
        TrainingFailed, match=r"student small: .*Lower `optimizer.learning_rate`, or set `optimizer.clip_norm = 1`"
    ):
        train(make_student(), full_store, learning_rate=1e9, optimizer="sgd", out=tmp_path)

    assert not (tmp_path / "summary.json").exists()


# Devices.


@pytest.mark.parametrize("options", [{"channels_last": True}, {"autocast": "bfloat16"}])
def test_how_it_is_run_changes_little(full_store: Store, options: dict[str, Any]) -> None:
    (expected,) = train(make_student(), full_store)

    (result,) = train(make_student(), full_store, **options)

    assert result.train_loss == pytest.approx(expected.train_loss, rel=0.02)


@pytest.mark.gpu
@pytest.mark.parametrize("workers", [0, 2])
def test_a_gpu_learns_what_the_cpu_learns(full_store: Store, valid_store: Store, workers: int) -> None:
    (expected,) = train(make_student(), full_store, valid=valid_store)

    (result,) = train(make_student(), full_store, valid=valid_store, device="cuda", workers=workers)

    assert result.train_loss == pytest.approx(expected.train_loss, rel=1e-2)
