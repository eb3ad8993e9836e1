import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from softlab.errors import InterpolatedTail, InvalidOption, LittleMass, LossyLabels, SoftlabWarning
from softlab.labels.ensembles import combine
from softlab.labels.losses import (
    ArgmaxLoss,
    DecisionLoss,
    DecoupledKlLoss,
    DistLoss,
    JensenShannonLoss,
    KlLoss,
    LogitMseLoss,
    ReverseKlLoss,
    StandardisedKlLoss,
    decision_loss,
    distillation_loss,
)
from softlab.loading.own_loop import align
from softlab.store.reader import Store, open_store
from softlab.student.train import train_students
from tests.student.flat_options import train_options
from tests.teacher.dumping import Pictures, dump, make_options, make_teacher

SOURCE = Pictures(class_names=None)


class Sharper(nn.Module):
    """A teacher whose logits are so many times as large, and of which the last classes may be masked."""

    def __init__(self, *, num_classes: int, scale: float, masked: int = 0) -> None:
        super().__init__()
        self.net, self.scale, self.masked = make_teacher(num_classes=num_classes), scale, masked

    def forward(self, images: torch.Tensor) -> Any:
        logits = self.net(images) * self.scale
        if self.masked:
            logits[:, -self.masked :] = -1e4
        return logits


def make_store(
    folder: Path, *, num_classes: int, scale: float = 1.0, masked: int = 0, name: str = "store", **options: Any
) -> Store:
    values = {"k": 16, "temperature": (1.0, 2.0, 4.0)} | options
    teacher = Sharper(num_classes=num_classes, scale=scale, masked=masked)
    dump(folder / name, make_options(**values), teacher=teacher, source=SOURCE)
    return open_store(folder / name)


def train(*stores: Store, loss: DecisionLoss, **options: Any) -> list[str]:
    """One epoch; what there was to tell at its start."""
    values = {"epochs": 1, "batch_size": 25, "alpha": 1.0, "loss": loss, "track": ()} | options
    told: list[str] = []
    student = make_teacher(num_classes=stores[0].num_classes)
    train_students({"one": student}, SOURCE, list(stores), train_options(**values), on_start=told.extend)
    return told


def notes_of(caught: Sequence[warnings.WarningMessage]) -> list[str]:
    return [str(each.message) for each in caught if issubclass(each.category, SoftlabWarning)]


def test_the_mass_at_a_temperature_lies_between_those_of_the_stored_ones(tmp_path: Path) -> None:
    origin = make_store(tmp_path, num_classes=200, temperature=(1.0, 4.0)).origin
    low, high = origin.captured_mass

    assert (origin.mass_at(1.0), origin.mass_at(4.0)) == pytest.approx((low, high))
    assert low > origin.mass_at(2.0) > high
    assert origin.mass_at(100.0) == pytest.approx(high)


def test_little_mass_at_the_temperature_of_training_is_told_with_what_helps(tmp_path: Path) -> None:
    store = make_store(tmp_path, num_classes=400, k=64)

    with pytest.warns(LittleMass, match=r"its 64 of 400 classes have 0\.\d\d of .*Train at `loss.temperature = 1`"):
        assert train(store, loss=KlLoss(temperature=4.0)) == []
    assert store.origin.mass_at(1.0) > 0.5
    assert "64 of 400 classes have 0." in train(store, loss=KlLoss())[0]  # warns of nothing: that is an error here


def test_where_no_stored_temperature_helps_none_is_advised(tmp_path: Path) -> None:
    store = make_store(tmp_path, num_classes=400)

    with pytest.warns(LittleMass, match=r"alike\. Dump with a larger `dump\.k`"):
        train(store, loss=KlLoss())


@pytest.mark.parametrize("loss", [KlLoss, ReverseKlLoss, JensenShannonLoss, DistLoss])
def test_the_mass_at_the_temperature_of_training_is_told_for_every_loss(
    tmp_path: Path, loss: type[DecisionLoss]
) -> None:
    store = make_store(tmp_path, num_classes=20, k=10)

    (told,) = train(store, loss=loss(temperature=2.0))  # type: ignore[call-arg]

    mass = store.statistics.mean_captured_mass[1]
    assert told == (
        f"{store.name}: its 10 of 20 classes have {mass:.2f} of the teacher's probability at the temperature of "
        f"training, T=2"
    )


def test_of_a_schedule_the_hottest_temperature_counts(tmp_path: Path) -> None:
    store = make_store(tmp_path, num_classes=400, k=64)

    with pytest.warns(LittleMass, match=r"at `loss\.temperature = 4`"), pytest.warns(InterpolatedTail):
        train(store, loss=KlLoss(temperature=1.0, temperature_end=4.0))


def test_every_teacher_is_told_of(tmp_path: Path) -> None:
    stores = [make_store(tmp_path, num_classes=20, k=k, name=f"k{k}") for k in (10, 20)]

    told = train(*stores, loss=KlLoss(temperature=2.0))

    assert "its 10 of 20 classes have" in told[0]
    assert told[1] == f"{stores[1].name}: holds all 20 classes of the teacher"


def test_nothing_is_told_of_labels_that_nobody_learns(tmp_path: Path) -> None:
    store = make_store(tmp_path, num_classes=400)
    source = Pictures(class_names=None, targets_N=torch.arange(50).numpy() % 400)
    told: list[str] = []

    options = train_options(epochs=1, batch_size=25, alpha=0.0, track=())
    train_students({"one": make_teacher(num_classes=400)}, source, [store], options, on_start=told.extend)

    assert told == []


@pytest.mark.filterwarnings("ignore::softlab.errors.LittleMass")
def test_an_interpolated_tail_is_told_once_with_its_error(tmp_path: Path) -> None:
    store = make_store(tmp_path, num_classes=200, scale=4.0)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        train(store, loss=KlLoss(temperature=3.0), epochs=2)

    (note,) = (each for each in notes_of(caught) if "interpolated" in each)
    assert re.search(r"temperature 3 is not stored \(stored: 1, 2, 4\): .* off by about 0\.\d+ nats, at most 0\.", note)


@pytest.mark.filterwarnings("ignore::softlab.errors.LittleMass")
def test_a_tail_that_may_be_far_off_is_refused_with_three_ways_out(tmp_path: Path) -> None:
    store = make_store(tmp_path, num_classes=200, scale=15.0, temperature=(1.0,))
    ways_out = (
        r"as with `loss\.temperature = 1`, dump again with 3 among `dump\.temperature`, or .*`check\.tail_nats = "
    )

    with pytest.raises(InvalidOption, match=ways_out) as refused:
        train(store, loss=KlLoss(temperature=3.0))
    allowed = float(str(refused.value).rpartition("= ")[2].rstrip("`."))

    with pytest.warns(InterpolatedTail):
        train(store, loss=KlLoss(temperature=3.0), tail_nats=allowed)
    train(store, loss=KlLoss(temperature=1.0))


@pytest.mark.filterwarnings("ignore::softlab.errors.LittleMass")
def test_a_temperature_on_the_way_that_may_be_far_off_is_refused_too(tmp_path: Path) -> None:
    store = make_store(tmp_path, num_classes=200, scale=15.0, temperature=(1.0, 8.0))

    with pytest.raises(InvalidOption, match=r"temperature \S+ is not stored .*`check\.tail_nats = 0\.2` allows"):
        train(store, loss=KlLoss(temperature=1.0, temperature_end=8.0))


def test_a_loss_on_logits_says_that_some_are_left_out(tmp_path: Path) -> None:
    store, whole = (make_store(tmp_path, num_classes=20, k=k, name=f"k{k}") for k in (5, 20))

    with pytest.warns(LossyLabels, match=r"15 of 20 a row aren't stored: each .* tails at T=2 and 4 .*all classes"):
        train(store, loss=LogitMseLoss())
    with pytest.warns(LossyLabels, match="students learn nothing of those classes"):
        train(store, loss=LogitMseLoss(tail="renormalise"))
    with pytest.warns(LossyLabels, match="spread is estimated"):
        train(store, loss=StandardisedKlLoss(temperature=2.0))
    train(whole, loss=LogitMseLoss())
    train(store, loss=ArgmaxLoss())


@pytest.mark.parametrize("loss", [ReverseKlLoss(), LogitMseLoss(), JensenShannonLoss()])
def test_clipped_logits_are_told_to_losses_that_look_at_them(tmp_path: Path, loss: DecisionLoss) -> None:
    """A masked vocabulary: 12 of its 20 classes are at -1e4, which gaps can't tell."""
    store = make_store(tmp_path, num_classes=20, k=20, masked=12, coding="uint8")

    with pytest.warns(LossyLabels, match=r"600 of its 1,000 logits \(60\.0%\) .*`dump\.coding = float16`"):
        train(store, loss=loss)
    assert store.statistics.clipped_logits == 600


def test_clipped_logits_are_nothing_to_losses_that_weigh_by_probability(tmp_path: Path) -> None:
    store = make_store(tmp_path, num_classes=20, k=20, masked=12, coding="uint8")

    for loss in (KlLoss(), DistLoss()):
        train(store, loss=loss)


def test_a_loop_of_ones_own_is_told_the_same(tmp_path: Path) -> None:
    store = make_store(tmp_path, num_classes=400)
    labels = align(store, SOURCE).read([0, 1, 2])
    student_BC, targets_B = torch.zeros(3, 400), torch.zeros(3, dtype=torch.int64)

    with pytest.warns(LittleMass, match=r"its 16 of 400 classes have 0\.\d\d of the teacher's probability"):
        distillation_loss(student_BC, labels, temperature=4.0)
    with pytest.warns(LittleMass):
        decision_loss(student_BC, labels, targets_B=targets_B, options=DecoupledKlLoss(temperature=4.0))
    with pytest.warns(LossyLabels, match="384 of 400"):
        decision_loss(student_BC, labels, options=LogitMseLoss())


def test_a_loop_of_ones_own_is_told_of_each_of_several_teachers(tmp_path: Path) -> None:
    stores = [make_store(tmp_path, num_classes=400, k=k, name=f"k{k}") for k in (8, 16)]
    labels = [store.read([0, 1]) for store in stores]

    with (
        pytest.warns(LittleMass, match="its 8 of 400 classes"),
        pytest.warns(LittleMass, match="its 16 of 400 classes"),
    ):
        combine(labels, torch.full((2, 2), 0.5), by="probabilities", temperature=4.0)


def test_a_loop_of_ones_own_is_told_in_the_same_words_each_time(tmp_path: Path) -> None:
    """So that Python shows them once."""
    store = make_store(tmp_path, num_classes=200, scale=10.0)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for sample in range(4):
            distillation_loss(torch.zeros(1, 200), store.read([sample]), temperature=3.0)

    assert len(caught) >= 4
    assert len({str(each.message) for each in caught if issubclass(each.category, InterpolatedTail)}) == 1
