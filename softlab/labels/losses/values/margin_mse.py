"""Mean squared error of margins: by how much the first candidate of a row leads each of the others."""

# Shape letters: B rows in a batch, N candidates beside the first one.

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from softlab.errors import StoreMismatch
from softlab.labels.losses.values.options import LossOnValues
from softlab.labels.losses.values.vector_kl import check_equal_shapes


def margin_mse_loss(student_B1N: Tensor, teacher_B1N: Tensor) -> Tensor:
    """((s_0 - s_j) - (t_0 - t_j))^2 of the scores [B, 1 + N], mean over j = 1..N and over rows; a float32 scalar.

    Margin-MSE (Hofstaetter, Althammer, Schroeder, Sertkan, Hanbury 2020), there with N = 1. A number added
    to all scores of a row changes nothing.
    """
    check_scores(student_B1N.shape[1:], teacher_B1N.shape[1:], where="the student")
    student_BN, teacher_BN = (each[:, :1] - each[:, 1:] for each in (student_B1N.float(), teacher_B1N.float()))
    return (student_BN - teacher_BN).square().mean()


def check_scores(student_shape: Sequence[int], teacher_shape: Sequence[int], *, where: str) -> None:
    """Raises StoreMismatch unless both are scores of two candidates or more."""
    check_equal_shapes(student_shape, teacher_shape, where=where, loss="margin_mse")
    if len(teacher_shape) != 1 or teacher_shape[0] < 2:
        raise StoreMismatch(
            f"what is stored is {list(teacher_shape)} for a sample: margin_mse compares the scores of two candidates "
            f"or more, the first one the right one. Say `loss.name = vector_mse`."
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class MarginMseLoss(LossOnValues):
    """`margin_mse_loss`, which has no options but its output."""

    name: ClassVar[Literal["margin_mse"]] = "margin_mse"

    def __call__(self, student: Tensor, teacher: Tensor) -> Tensor:
        return margin_mse_loss(student, teacher)

    def check_shapes(self, student_shape: Sequence[int], teacher_shape: Sequence[int], *, where: str) -> None:
        check_scores(student_shape, teacher_shape, where=where)
