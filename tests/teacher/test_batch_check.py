"""What a teacher gives for a sample must be the same alone, in any batch, and each time."""

# Shape letters: B samples in a batch, C classes, L positions of a sample.

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from softlab.errors import TeacherError
from softlab.modalities.images.models import grey_resnet
from softlab.teacher.planning import as_teacher, plan_dump
from softlab.teacher.survey import survey_teacher
from tests.teacher.dumping import Pictures, dump, make_options, make_teacher


class Then(nn.Module):
    """What is made of a teacher's logits."""

    def __init__(self, change: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.teacher, self.change = make_teacher(), change

    def forward(self, images_BCHW: Tensor) -> Tensor:
        return self.change(self.teacher(images_BCHW))


def with_batch_statistics() -> nn.Module:
    layers = make_teacher()
    layers[1] = nn.BatchNorm2d(2, track_running_stats=False)
    return layers


class AlwaysTraining(nn.Dropout):
    def forward(self, inputs: Tensor) -> Tensor:
        return functional.dropout(inputs, self.p, training=True)


def with_dropout(p: float = 0.1) -> nn.Module:
    layers = make_teacher()
    layers[3] = AlwaysTraining(p)
    return layers


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (
            with_batch_statistics,
            "by .*, first in layer `relu` (BatchNorm2d)",
        ),
        (lambda: Then(lambda logits_BC: logits_BC - logits_BC.mean(dim=0)), "first in a Then"),
        (lambda: Then(lambda logits_BC: logits_BC + 1e-2 * logits_BC.mean(dim=0)), "depends on the samples beside"),
        (with_dropout, "is another one each time, by .*, first in layer `dropout` (AlwaysTraining)"),
        (lambda: with_dropout(p=0.05), "is another one each time"),
        (lambda: Then(functional.dropout), "is another one each time"),
    ],
)
def test_a_teacher_whose_labels_are_not_of_the_sample_alone_is_refused(
    tmp_path: Path, make: Callable[[], nn.Module], found: str
) -> None:
    expected = re.escape(found).replace(r"\.\*", ".*")

    with pytest.raises(TeacherError, match=r"output logits: the row of the sample '00(43|00)\.png'"):
        dump(tmp_path / "store", make_options(), teacher=make())
    with pytest.raises(TeacherError, match=expected):
        plan_dump(make(), Pictures(), tmp_path / "store", make_options())
    with pytest.raises(TeacherError, match=expected):
        survey_teacher(as_teacher(make()), Pictures(), make_options())
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("autocast", ["bfloat16", "float16"])
@pytest.mark.parametrize("make", [with_batch_statistics, with_dropout])
def test_it_is_refused_in_half_precision_too(tmp_path: Path, make: Callable[[], nn.Module], autocast: str) -> None:
    with pytest.raises(TeacherError, match=r"output logits: the row of the sample '00(43|00)\.png'"):
        dump(tmp_path / "store", make_options(autocast=autocast), teacher=make())


@pytest.mark.parametrize("count", [1, 2, 3, 50])
@pytest.mark.parametrize("autocast", ["none", "bfloat16"])
def test_a_teacher_of_each_sample_alone_passes(tmp_path: Path, count: int, autocast: str) -> None:
    options = make_options(autocast=autocast, feature={"map": "conv"})

    assert dump(tmp_path / "store", options, source=Pictures(count=count)).manifest.num_rows == count


class BesideTheMiddle(nn.Module):
    """In float16 1 + 2^-11 lies in the middle of two numbers; in a batch of another size the last bits are others."""

    def forward(self, logits_BC: Tensor) -> Tensor:
        return torch.full_like(logits_BC, 1 + 2.0**-11) + (1e-6 if len(logits_BC) == 1 else -1e-6)


def test_values_that_are_rounded_to_either_side_are_the_same(tmp_path: Path) -> None:
    teacher = nn.Sequential(make_teacher(), BesideTheMiddle())

    dump(tmp_path / "store", make_options(output=("embedding:values",)), teacher=teacher)


def test_positions_of_one_sample_may_look_at_each_other(tmp_path: Path) -> None:
    class Mixing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(3, 5)

        def forward(self, images_BCHW: Tensor) -> Tensor:
            logits_BLC: Tensor = self.linear(images_BCHW.flatten(2).mT)
            return logits_BLC - logits_BLC.mean(dim=1, keepdim=True)

    dump(tmp_path / "store", make_options(k=5, output=("logits:classes",)), teacher=Mixing(), source=Pictures(count=4))


def test_the_models_that_come_along_pass(tmp_path: Path) -> None:
    teacher = grey_resnet(num_classes=5)

    class Grey(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.teacher = teacher

        def forward(self, images_BCHW: Tensor) -> Tensor:
            logits_BC: Tensor = self.teacher(functional.interpolate(images_BCHW[:, :1], size=(28, 28)))
            return logits_BC

    dump(tmp_path / "store", make_options(k=5), teacher=Grey())
