"""KL between softmaxes of stored values: dense logits of few classes, scores of candidates, or maps."""

# Shape letters: B rows in a batch, L positions, D numbers of a vector, C channels, H height, W width.

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from softlab.errors import StoreMismatch
from softlab.labels.losses.features import width_of
from softlab.labels.losses.tempered import check_option
from softlab.labels.losses.values.options import LossOnValues

Over = Literal["width", "positions"]


def vector_kl_loss(student: Tensor, teacher: Tensor, *, temperature: float = 1.0, over: Over = "width") -> Tensor:
    """T^2 KL(t, s) of softmax(values / T), in nats, mean over rows and over their vectors; a float32 scalar.

    - over `width`: the numbers of [B, D], those of each position of [B, L, D], the channels at each position of
      [B, C, H, W]. Logits over classes (Hinton, Vinyals, Dean 2015, section 2), or scores of the candidates of a row.
    - over `positions`: of each number or channel, all its positions. Channel-wise distillation (Shu, Liu, Gao, Yan,
      Shen 2021), there the sum over rows.
    """
    check_equal_shapes(student.shape[1:], teacher.shape[1:], where="the student", loss="vector_kl")
    log_q, log_p = (_log_softmax(each, temperature=temperature, over=over) for each in (student, teacher))
    return temperature**2 * (log_p.exp() * (log_p - log_q)).sum(dim=-1).mean()


def _log_softmax(values: Tensor, *, temperature: float, over: Over) -> Tensor:
    """Over the last axis of what is returned."""
    width_axis = 1 if values.ndim == 4 else -1
    vectors = (values.float() / temperature).movedim(width_axis, -1)
    if over == "positions":
        vectors = vectors.flatten(start_dim=1, end_dim=-2).transpose(1, 2)
    return vectors.log_softmax(dim=-1)


def check_equal_shapes(student_shape: Sequence[int], teacher_shape: Sequence[int], *, where: str, loss: str) -> None:
    """Raises StoreMismatch unless they are equal."""
    if list(student_shape) != list(teacher_shape):
        raise StoreMismatch(
            f"{where} gives {list(student_shape)} for a sample, and what is stored is {list(teacher_shape)}: {loss} "
            f"compares number by number. Build a student that gives {list(teacher_shape)}."
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class VectorKlLoss(LossOnValues):
    """Options of `vector_kl_loss`."""

    name: ClassVar[Literal["vector_kl"]] = "vector_kl"

    temperature: float = 1.0
    """Of teacher and student."""

    over: Over = "width"
    """What one distribution is over: the numbers of a vector, which are classes or candidates; or, of each channel of a
    map, its positions."""

    def __post_init__(self) -> None:
        check_option(0 < self.temperature < math.inf, "temperature", self.temperature, "a positive number")
        check_option(self.over in ("width", "positions"), "over", self.over, "width or positions")

    def __call__(self, student: Tensor, teacher: Tensor) -> Tensor:
        return vector_kl_loss(student, teacher, temperature=self.temperature, over=self.over)

    def check_shapes(self, student_shape: Sequence[int], teacher_shape: Sequence[int], *, where: str) -> None:
        check_equal_shapes(student_shape, teacher_shape, where=where, loss=self.name)
        counted = (
            width_of(teacher_shape) if self.over == "width" else math.prod(teacher_shape) // width_of(teacher_shape)
        )
        if counted < 2:
            raise StoreMismatch(
                f"what is stored is {list(teacher_shape)} for a sample: the softmax over one number is 1 whatever that "
                f"is, so there is nothing to learn over its {self.over}. Say `loss.name = vector_mse`."
            )
