"""Cross-entropy between how two models match the two halves of pairs, such as images and their texts."""

# Shape letters: B pairs in a batch, D numbers of a teacher's vector, E of a student's.

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from softlab.errors import StoreMismatch
from softlab.labels.losses.features import normalised
from softlab.labels.losses.tempered import check_option
from softlab.labels.losses.values.options import LossOnValues


def pair_matching_loss(
    student: tuple[Tensor, Tensor],
    teacher: tuple[Tensor, Tensor],
    *,
    student_scale: Tensor | float,
    teacher_scale: Tensor | float,
) -> Tensor:
    """-sum t log s of t = softmax(scale * cos(i, j)) over the batch, of the first halves to the second and back, the
    mean of both and over rows; a float32 scalar, in nats.

    Affinity mimicking (TinyCLIP, Wu et al. 2023), as open_clip's DistillClipLoss computes it: a cross-entropy, so that
    of a student that matches as its teacher does the teacher's entropy is left. Vectors are normalised. Scales are what
    cosines are multiplied by, exp of CLIP's logit scale: a number, or as it is stored, one a row, all the same. The
    vectors are [B, E] of the student and [B, D] of the teacher. Raises StoreMismatch for other shapes.
    """
    _check_pairs(student, "the student")
    _check_pairs(teacher, "what is stored")
    if len(student[0]) != len(teacher[0]):
        raise StoreMismatch(
            f"the student gives {len(student[0]):,} pairs, and {len(teacher[0]):,} are stored. Give those of one batch."
        )
    own_BB, theirs_BB = _logits(student, student_scale), _logits(teacher, teacher_scale)
    both = (_cross_entropy(theirs_BB, own_BB), _cross_entropy(theirs_BB.T, own_BB.T))
    return (both[0] + both[1]) / 2


def _logits(halves: tuple[Tensor, Tensor], scale: Tensor | float) -> Tensor:
    first_BD, second_BD = (normalised(half.float()) for half in halves)
    factor = scale.float().reshape(-1)[0] if isinstance(scale, Tensor) else scale
    return factor * first_BD @ second_BD.T


def _cross_entropy(teacher_BB: Tensor, student_BB: Tensor) -> Tensor:
    return -(teacher_BB.softmax(dim=1) * student_BB.log_softmax(dim=1)).sum(dim=1).mean()


def _check_pairs(halves: tuple[Tensor, Tensor], where: str) -> None:
    first, second = halves
    if first.ndim != 2 or first.shape != second.shape:
        raise StoreMismatch(
            f"{where}: has vectors {list(first.shape)} and {list(second.shape)}, and pairs are matched by two of equal "
            f"shape [B, D]. Project them to one width first."
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class PairMatchingLoss(LossOnValues):
    """Options of `pair_matching_loss` for models with two towers, whose output and what is stored are two vectors a
    sample, [2, E] and [2, D]: that of each half, such as an image and its text."""

    name: ClassVar[Literal["pair_matching"]] = "pair_matching"

    teacher_scale: float = 100.0
    """What the teacher's cosines are multiplied by: exp of its logit scale, which is 100 for most CLIP models."""

    student_scale: float | None = None
    """The same of the student; default: the teacher's."""

    def __post_init__(self) -> None:
        for name, value in (("teacher_scale", self.teacher_scale), ("student_scale", self.student_scale)):
            check_option(value is None or 0 < value < math.inf, name, value, "a positive number")

    def __call__(self, student: Tensor, teacher: Tensor) -> Tensor:
        self.check_shapes(student.shape[1:], teacher.shape[1:], where="the student")
        scale = self.teacher_scale if self.student_scale is None else self.student_scale
        own, theirs = ((each[:, 0], each[:, 1]) for each in (student, teacher))
        return pair_matching_loss(own, theirs, student_scale=scale, teacher_scale=self.teacher_scale)

    def check_shapes(self, student_shape: Sequence[int], teacher_shape: Sequence[int], *, where: str) -> None:
        for shape, whose in ((student_shape, f"{where} gives"), (teacher_shape, "what is stored is")):
            if len(shape) != 2 or shape[0] != 2:
                raise StoreMismatch(
                    f"{whose} {list(shape)} for a sample, and pair_matching compares two vectors a sample, [2, D]. "
                    f"Stack those of the two towers: torch.stack([image, text], dim=1)."
                )
