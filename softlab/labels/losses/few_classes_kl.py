"""KL over few classes: of all of them, with autograd's gradient. On 128 rows of 10 classes what costs is the number of
operations, above all of different ones: after each pass through a model they are new to the caches."""

# Shape letters: B rows in a batch, C classes, K entries kept (K <= C).

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from softlab.labels.losses.log_softmax import FEW_CLASSES
from softlab.labels.losses.sparse_kl import NO_MASS
from softlab.labels.losses.teacher import SparseDistribution


@dataclass(frozen=True, kw_only=True, slots=True)
class DenseTarget:
    """A teacher's distribution over all classes; those outside have an equal share of the tail, or nothing without
    one."""

    probability_BC: Tensor
    log_probability_BC: Tensor
    """Finite, where the probability is 0 too."""

    def split(self, sizes: Sequence[int]) -> "list[DenseTarget]":
        """The first so many rows, the next so many, ..; views of the same memory."""
        parts = zip(
            torch.split(self.probability_BC, list(sizes)),
            torch.split(self.log_probability_BC, list(sizes)),
            strict=True,
        )
        return [DenseTarget(probability_BC=p_BC, log_probability_BC=log_p_BC) for p_BC, log_p_BC in parts]


def has_few_classes(num_classes: int) -> bool:
    return num_classes <= FEW_CLASSES


def dense_target_of(teacher: SparseDistribution, *, num_classes: int) -> DenseTarget:
    """All that depends on the teacher alone."""
    log_p_BC = teacher.log_share_B[:, None].expand(-1, num_classes)
    if (is_valid_BC := teacher.is_valid_BC) is not None:
        log_p_BC = log_p_BC.masked_fill(~is_valid_BC, NO_MASS)
    log_p_BC = log_p_BC.scatter(1, teacher.class_ids_BK, teacher.log_kept_BK).clamp_(min=NO_MASS)
    return DenseTarget(probability_BC=log_p_BC.exp(), log_probability_BC=log_p_BC)


def dense_kl(student_BC: Tensor, target: DenseTarget, *, temperature: float) -> Tensor:
    """T^2 * KL(target || softmax(student / T)), in nats, mean over rows; a scalar."""
    log_q_BC = (student_BC if temperature == 1 else student_BC / temperature).log_softmax(dim=1)
    kl = (target.probability_BC * (target.log_probability_BC - log_q_BC)).sum()
    return kl * (temperature**2 / len(student_BC))
