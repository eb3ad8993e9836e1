"""KL between whom each row of a batch is similar to, by teacher and by student."""

# Shape letters: B rows in a batch, D numbers of a vector.

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from softlab.labels.losses.features import normalised
from softlab.labels.losses.tempered import check_option
from softlab.labels.losses.values.options import PrefixedLoss


def similarity_kl_loss(student: Tensor, teacher: Tensor, *, temperature: float = 0.05) -> Tensor:
    """KL(t, s) of softmax(cos(x_i, x_j) / T) over the other rows j of the batch, in nats, mean over rows i; float32.

    SEED (Fang, Wang, Wang, Zhang, Yang, Liu 2021) compares so with a queue of other samples; here
    they are those of the batch, the row itself left out, and the entropy of the teacher, which no gradient sees, is
    taken off so that the loss of an equal student is 0. No T^2. Widths may differ: each model is compared with itself.
    0 for fewer than 3 rows, as one other row has all of the probability.
    """
    rows = len(student)
    if rows < 3:
        return student.float().sum() * 0.0
    log_p_BB, log_q_BB = (_log_similarities(each, temperature=temperature) for each in (teacher, student))
    # The diagonal is -inf in both, and 0 * (-inf + inf) would be NaN.
    terms_BB = log_p_BB.exp() * (log_p_BB - log_q_BB).masked_fill(_diagonal(rows, log_p_BB), 0.0)
    return terms_BB.sum() / rows


def _log_similarities(vectors: Tensor, *, temperature: float) -> Tensor:
    unit_BD = normalised(vectors.float().flatten(start_dim=1))
    similarities_BB = unit_BD @ unit_BD.T / temperature
    return similarities_BB.masked_fill(_diagonal(len(unit_BD), unit_BD), -math.inf).log_softmax(dim=1)


def _diagonal(rows: int, like: Tensor) -> Tensor:
    return torch.eye(rows, dtype=torch.bool, device=like.device)


@dataclass(frozen=True, kw_only=True, slots=True)
class SimilarityKlLoss(PrefixedLoss):
    """Options of `similarity_kl_loss`."""

    name: ClassVar[Literal["similarity_kl"]] = "similarity_kl"

    temperature: float = 0.05
    """What cosines are divided by: at 0.05 a neighbour that is nearer by 0.05 counts e times as much."""

    def __post_init__(self) -> None:
        super(SimilarityKlLoss, self).__post_init__()
        check_option(0 < self.temperature < math.inf, "temperature", self.temperature, "a positive number")

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        return similarity_kl_loss(student, teacher, temperature=self.temperature)

    def check_shapes(self, student_shape: Sequence[int], teacher_shape: Sequence[int], *, where: str) -> None:
        self.check_prefixes(student_shape, teacher_shape, where=where)
