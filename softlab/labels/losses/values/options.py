"""Options that losses on values have in common."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from softlab.errors import InvalidOption, StoreMismatch
from softlab.labels.losses.features import ProjectorKind
from softlab.labels.losses.tempered import check_option
from softlab.labels.soft_labels import Head


@dataclass(frozen=True, kw_only=True, slots=True)
class LossOnValues:
    """A loss between what a student itself gives and one stored output of kind `values`. It says nothing of classes, so
    that no hard targets go beside it."""

    name: ClassVar[str]
    head: ClassVar[Head | None] = None
    needs_targets: ClassVar[bool] = False
    needs_level: ClassVar[bool] = False

    output: str | None = None
    """Which stored output of kind `values` the student's own output learns; default: the only one that stores hold."""

    def __call__(self, student: Tensor, teacher: Tensor) -> Tensor:
        """A float32 scalar, mean over rows. Raises StoreMismatch as `check_shapes`."""
        raise NotImplementedError

    def check_shapes(self, student_shape: Sequence[int], teacher_shape: Sequence[int], *, where: str) -> None:
        """Raises StoreMismatch unless what the student gives can be compared with what is stored; shapes are of one
        sample. `where` names what gave the student's."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True, slots=True)
class PrefixedLoss(LossOnValues):
    """A loss that may be added up over the first numbers of each vector too, so that an embedding can be cut there.

    Matryoshka representations (Kusupati et al. 2022, equation 1): the loss over all numbers, with the weight 1, and
    over each prefix with its weight.
    """

    prefixes: tuple[int, ...] = ()
    """How many of the first numbers are compared too, such as [64, 128]: an embedding can then be cut there."""

    prefix_weights: tuple[float, ...] = ()
    """How much each prefix counts beside the whole, which counts 1; default: 1 too."""

    def __post_init__(self) -> None:
        rising = all(one < other for one, other in zip(self.prefixes, self.prefixes[1:], strict=False))
        is_right = rising and all(each >= 1 for each in self.prefixes)
        check_option(is_right, "prefixes", list(self.prefixes), "rising numbers of 1 or more")
        weights = self.prefix_weights
        is_right = not weights or len(weights) == len(self.prefixes)
        check_option(is_right, "prefix_weights", list(weights), f"one a prefix, {len(self.prefixes)}")
        is_right = all(0 < each < math.inf for each in weights)
        check_option(is_right, "prefix_weights", list(weights), "positive numbers")

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        """The loss over the vectors as they are."""
        raise NotImplementedError

    def __call__(self, student: Tensor, teacher: Tensor) -> Tensor:
        if self.prefixes:
            self.check_shapes(student.shape[1:], teacher.shape[1:], where="the student")
        loss, weights = self.compare(student, teacher), self.prefix_weights or (1.0,) * len(self.prefixes)
        for prefix, weight in zip(self.prefixes, weights, strict=True):
            loss = loss + weight * self.compare(student[..., :prefix], teacher[..., :prefix])
        return loss

    def check_prefixes(self, student_shape: Sequence[int], teacher_shape: Sequence[int], *, where: str) -> None:
        """Raises StoreMismatch for prefixes of what is no vector, or of a shorter one."""
        if not self.prefixes:
            return
        found = f"{where} gives {list(student_shape)} for a sample, and what is stored is {list(teacher_shape)}"
        if {len(student_shape), len(teacher_shape)} - {1, 2}:
            raise StoreMismatch(f"{found}: `loss.prefixes` are of vectors. Leave them out.")
        narrower = min(student_shape[-1], teacher_shape[-1])
        if self.prefixes[-1] >= narrower:
            raise StoreMismatch(
                f"{found}: `loss.prefixes = {list(self.prefixes)}` must be below {narrower:,}, the whole vector. Leave "
                f"out those that aren't."
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class ProjectedLoss(PrefixedLoss):
    """One that compares equal widths, which a projector may make equal; it is no part of the student's weights."""

    projector: ProjectorKind = "auto"
    """From the student's width to the stored one while it learns.

    auto: where they differ; linear: [D], [L, D]; conv1x1: maps."""

    def __post_init__(self) -> None:
        super(ProjectedLoss, self).__post_init__()
        if self.prefixes and self.projector in ("linear", "conv1x1"):
            raise InvalidOption(
                f"loss.projector = {self.projector} with loss.prefixes: of what is projected, the first numbers are no "
                f"longer those of the student. Leave `loss.projector` out, and build a student of the stored width."
            )
