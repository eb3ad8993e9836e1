"""Students that share one pass over the data, each with options of its own."""

from pathlib import Path
from typing import Any

import pytest
from torch import nn

from softlab.errors import InvalidOption
from softlab.models import load_weights
from softlab.store.reader import Store
from softlab.student.feature_losses import FeatureLoss
from softlab.student.options import Student
from softlab.student.pruning import PruneOptions
from softlab.student.run_folder import StudentResult
from tests.student.fashion import all_but_seconds, metrics, same_weights
from tests.student.pictures import make_learn, make_student, train

OWN: dict[str, dict[str, Any]] = {
    "plain": {},
    "sgd": {"optimizer": "sgd", "learning_rate": 0.1, "momentum": 0.5, "weight_decay": 0.1},
    "seeded": {"seed": 7},
    "cooling": {"temperature": 4.0, "temperature_end": 1.0, "alpha": 1.0, "alpha_end": 0.5},
    "rising": {"schedule": "constant", "warmup_epochs": 2.0, "clip_norm": 0.1},
    "squares": {"loss": "mse", "label_smoothing": 0.1},
    "listening": {"feature": {"mean": FeatureLoss(layer="conv:mean")}},
    "pruned": {"prune": PruneOptions(amount=0.5, every_steps=1)},
}
"""Options of one student each."""


def make_dropping() -> nn.Module:
    return make_student(dropout=0.5)


def train_alone(name: str, store: Store) -> tuple[nn.Module, StudentResult]:
    """As a run of one student with these options; but the seed of a run is also that of its order of samples."""
    module, options = make_dropping(), dict(OWN[name])
    own = {"seed": options.pop("seed", 0)}
    student = Student(module=module, learn=make_learn(**options, **own))
    (result,) = train({name: student}, store, valid=True, **options)
    return module, result


@pytest.mark.parametrize("count", [1, 2, 4, 8])
def test_students_with_options_of_their_own_are_to_the_bit_those_trained_alone(first: Store, count: int) -> None:
    modules = {name: make_dropping() for name in list(OWN)[:count]}
    students = {name: Student(module=module, learn=make_learn(**OWN[name])) for name, module in modules.items()}

    results = train(students, first, valid=True)

    for (name, module), result in zip(modules.items(), results, strict=True):
        alone, expected = train_alone(name, first)
        assert same_weights(module, alone)
        assert all_but_seconds(result) == all_but_seconds(expected)
    assert len({result.train_loss for result in results}) == count, "each option changes something"


def test_without_options_of_their_own_students_have_the_runs(first: Store) -> None:
    bare, given = make_dropping(), make_dropping()

    train(bare, first, optimizer="sgd", temperature=2.0)
    train({"small": Student(module=given, learn=make_learn(optimizer="sgd", temperature=2.0))}, first)

    assert same_weights(given, bare)


def test_a_seed_of_its_own_changes_the_dropout_of_a_student_and_not_its_batches(first: Store) -> None:
    modules = {name: make_student(dropout=0.5 * (name == "dropping")) for name in ("dropping", "plain")}
    train({name: Student(module=each, learn=make_learn(seed=7)) for name, each in modules.items()}, first)

    expected = {name: make_student(dropout=0.5 * (name == "dropping")) for name in ("dropping", "plain")}
    train(expected, first)
    assert same_weights(modules["plain"], expected["plain"])
    assert not same_weights(modules["dropping"], expected["dropping"])


def test_the_baseline_of_a_student_has_its_options_but_for_the_distillation(first: Store, tmp_path: Path) -> None:
    own = {"optimizer": "sgd", "learning_rate": 0.1, "seed": 7, "label_smoothing": 0.2}
    student = Student(module=make_dropping(), learn=make_learn(**own, temperature=2.0))
    results = train({"small": student}, first, baseline=True, out=tmp_path)

    alone, baseline = make_dropping(), make_student(seed=9)
    train({"small": Student(module=alone, learn=make_learn(**own))}, [])
    assert [result.name for result in results] == ["small", "small-hard"]
    load_weights(baseline, tmp_path / "small-hard" / "last.safetensors")
    assert same_weights(baseline, alone)


def test_each_line_of_the_metrics_has_the_students_own_learning_rate(first: Store, tmp_path: Path) -> None:
    rates = {"slow": 1e-4, "fast": 1e-2}
    students = {
        name: Student(module=make_student(), learn=make_learn(learning_rate=rate, schedule="constant"))
        for name, rate in rates.items()
    }

    train(students, first, out=tmp_path)

    assert [line["learning_rate"] for line in metrics(tmp_path)] == 3 * [1e-4, 1e-2]


def test_a_warm_up_of_its_own_that_is_longer_than_the_run_is_refused(first: Store) -> None:
    module = make_student()
    student = Student(module=module, learn=make_learn(warmup_epochs=3.5))

    with pytest.raises(InvalidOption) as caught:
        train({"small": student}, first, epochs=3)

    assert str(caught.value) == (
        "student.small.optimizer.warmup_epochs = 3.5: expected 0 to 3, the epochs of the run. Change "
        "`student.small.optimizer.warmup_epochs`."
    )
    assert same_weights(module, make_student())
