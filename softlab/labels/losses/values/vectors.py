"""A student's vectors against the stored ones by the formulas of features: numbers, directions, relations."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from softlab.errors import StoreMismatch
from softlab.labels.losses.features import (
    check_comparable,
    cosine_distance,
    mean_squared_error,
    relational,
    relational_angle,
    relational_distance,
    width_of,
)
from softlab.labels.losses.tempered import check_option
from softlab.labels.losses.values.options import PrefixedLoss, ProjectedLoss


@dataclass(frozen=True, kw_only=True, slots=True)
class VectorMseLoss(ProjectedLoss):
    """Options of `mean_squared_error` on what a student itself gives."""

    name: ClassVar[Literal["vector_mse"]] = "vector_mse"

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        return mean_squared_error(student, teacher)

    def check_shapes(self, student_shape: Sequence[int], teacher_shape: Sequence[int], *, where: str) -> None:
        _check_equal_widths(self, student_shape, teacher_shape, where=where)


@dataclass(frozen=True, kw_only=True, slots=True)
class CosineLoss(ProjectedLoss):
    """Options of `cosine_distance` on what a student itself gives."""

    name: ClassVar[Literal["cosine"]] = "cosine"

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        return cosine_distance(student, teacher)

    def check_shapes(self, student_shape: Sequence[int], teacher_shape: Sequence[int], *, where: str) -> None:
        _check_equal_widths(self, student_shape, teacher_shape, where=where)


RELATIONS = {"both": relational, "distance": relational_distance, "angle": relational_angle}


@dataclass(frozen=True, kw_only=True, slots=True)
class RelationalLoss(PrefixedLoss):
    """Options of `relational` on what a student itself gives, whatever its width."""

    name: ClassVar[Literal["relational"]] = "relational"

    relation: Literal["both", "distance", "angle"] = "both"
    """What of the rows of a batch is compared: their distances, the angles between them, or distances + 2 angles."""

    def __post_init__(self) -> None:
        super(RelationalLoss, self).__post_init__()
        check_option(self.relation in RELATIONS, "relation", self.relation, f"one of {', '.join(RELATIONS)}")

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        return RELATIONS[self.relation](student, teacher)

    def check_shapes(self, student_shape: Sequence[int], teacher_shape: Sequence[int], *, where: str) -> None:
        self.check_prefixes(student_shape, teacher_shape, where=where)


def _check_equal_widths(
    loss: ProjectedLoss, student_shape: Sequence[int], teacher_shape: Sequence[int], *, where: str
) -> None:
    """Raises StoreMismatch for other shapes, but for a width that a projector makes equal."""
    found = f"{where} gives {list(student_shape)} for a sample, and what is stored is {list(teacher_shape)}"
    if len(student_shape) != len(teacher_shape):
        raise StoreMismatch(f"{found}: {loss.name} compares equal ranks. Build a student that gives the stored one.")
    are_equal = width_of(student_shape) == width_of(teacher_shape)
    if not are_equal and loss.prefixes:
        raise StoreMismatch(
            f"{found}: with `loss.prefixes` nothing is projected, so that both must have one width. Build a student "
            f"that gives {width_of(teacher_shape):,} numbers, or say `loss.name = similarity_kl`."
        )
    if not are_equal and loss.projector == "none":
        raise StoreMismatch(
            f"{found}: {loss.name} compares equal widths. Say `loss.projector = auto`, or `loss.name = similarity_kl`."
        )
    check_comparable(student_shape, teacher_shape, loss="mse", layer=where, is_projected=True)
    loss.check_prefixes(student_shape, teacher_shape, where=where)
