from pathlib import Path

import torch

from softlab.labels.losses import DecisionLoss, DistLoss, KlLoss, LogitMseLoss, temperature_of
from softlab.labels.selection import keep_top_k
from softlab.store.reader import Store, open_store
from softlab.student.options import LearnOptions, Student, TeachersOptions, TrainOptions
from softlab.student.temperatures import settle_temperatures
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
