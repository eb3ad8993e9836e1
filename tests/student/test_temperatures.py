from pathlib import Path

import pytest
import torch

from softlab.errors import LittleMass
from softlab.labels.losses import DecisionLoss, DistLoss, KlLoss, LogitMseLoss, temperature_of
from softlab.labels.selection import keep_top_k
from softlab.loading.options import CheckOptions
from softlab.store.reader import Store, open_store
from softlab.student.options import LearnOptions, LogOptions, RunOptions, Student, TeachersOptions, TrainOptions
from softlab.student.temperatures import mass_at, settle_temperatures
from softlab.student.train import train_students
from tests.teacher.dumping import Pictures, dump, make_options, make_teacher

ALONE = TeachersOptions(alpha=1.0)


def make_store(folder: Path, *, num_classes: int, temperature: tuple[float, ...] = (1.0, 4.0), k: int = 16) -> Store:
    options = make_options(k=k, temperature=temperature)
    name = "-".join(map(str, (num_classes, *temperature, k)))
    teacher = make_teacher(num_classes=num_classes)
    dump(folder / name, options, teacher=teacher, source=Pictures(class_names=None))
    return open_store(folder / name)


def settled(loss: DecisionLoss, *stores: Store) -> float | None:
    """Of the options of the run, which are those of a student's own too."""
    learn = LearnOptions(loss=loss, teachers=ALONE)
    own = {"one": Student(module=make_teacher(), learn=learn)}
    options, students = settle_temperatures(TrainOptions(learn=learn), own, stores)
    assert students["one"].learn == options.learn
    return temperature_of(options.learn.loss)


def test_of_few_classes_it_is_4_and_of_many_1(tmp_path: Path) -> None:
    few, many = make_store(tmp_path, num_classes=100), make_store(tmp_path, num_classes=101)

    assert (settled(KlLoss(), few), settled(DistLoss(), few)) == (4.0, 4.0)
    assert (settled(KlLoss(), many), settled(DistLoss(), many)) == (1.0, 1.0)
    assert settled(KlLoss(temperature=4.0), many) == 4.0
    assert settled(LogitMseLoss(), many) is None


def test_of_many_classes_it_is_the_lowest_that_all_stores_hold(tmp_path: Path) -> None:
    stores = [
        make_store(tmp_path, num_classes=200, temperature=each) for each in ((0.5, 1.0), (2.0, 4.0), (1.0, 2.0, 3.0))
    ]

    assert settled(KlLoss(), stores[0]) == 1.0
    assert settled(KlLoss(), *stores) == 2.0


def test_a_loss_that_is_called_by_itself_has_the_same_default() -> None:
    logits_BC = 3 * torch.randn(4, 150, generator=torch.Generator().manual_seed(0))
    student_BC = torch.zeros(4, 150)

    for num_classes, temperature in ((100, 4.0), (150, 1.0)):
        labels = keep_top_k(logits_BC[:, :num_classes], k=8, temperatures=(1.0, 4.0))
        found = KlLoss()(student_BC[:, :num_classes], labels)
        assert found == KlLoss(temperature=temperature)(student_BC[:, :num_classes], labels)


def test_the_mass_at_a_temperature_lies_between_those_of_the_stored_ones(tmp_path: Path) -> None:
    store = make_store(tmp_path, num_classes=200)
    low, high = store.statistics.mean_captured_mass

    assert (mass_at(store, 1.0), mass_at(store, 4.0)) == pytest.approx((low, high))
    assert low > mass_at(store, 2.0) > high
    assert mass_at(store, 100.0) == pytest.approx(high)


def train(store: Store, *, temperature: float | None) -> None:
    learn = LearnOptions(loss=KlLoss(temperature=temperature), teachers=ALONE)
    options = TrainOptions(
        run=RunOptions(epochs=1, batch_size=25), learn=learn, log=LogOptions(track=()), check=CheckOptions()
    )
    train_students({"one": make_teacher(num_classes=store.num_classes)}, Pictures(class_names=None), [store], options)


def test_little_mass_at_the_temperature_of_training_is_told_with_what_helps(tmp_path: Path) -> None:
    store = make_store(tmp_path, num_classes=400, k=64)

    with pytest.warns(LittleMass, match=r"its 64 of 400 classes have 0\.\d\d of .*Train at `loss.temperature = 1`"):
        train(store, temperature=4.0)
    assert mass_at(store, 1.0) > 0.5
    train(store, temperature=None)  # warns of nothing: warnings are errors here


def test_where_no_stored_temperature_helps_none_is_advised(tmp_path: Path) -> None:
    store = make_store(tmp_path, num_classes=400)

    with pytest.warns(LittleMass, match=r"alike\. Dump with a larger `dump\.k`"):
        train(store, temperature=None)


def test_of_few_classes_nothing_is_told(tmp_path: Path) -> None:
    store = make_store(tmp_path, num_classes=100, k=1)

    assert mass_at(store, 4.0) < 0.5
    train(store, temperature=4.0)
