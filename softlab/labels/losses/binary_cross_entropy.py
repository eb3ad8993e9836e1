"""Soft-target binary cross-entropy, for teachers with a sigmoid head (multi-label)."""

# Shape letters: B rows in a batch, C classes, K entries kept (K <= C).

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from softlab.labels.losses.checks import Tail, check_fit, check_tail
from softlab.labels.losses.notes import tell
from softlab.labels.losses.tempered import TemperedLoss
from softlab.labels.soft_labels import Head, SoftLabels

TAILS: tuple[Tail, ...] = ("uniform", "renormalise")


def binary_cross_entropy_loss(
    student_logits_BC: Tensor, labels: SoftLabels, *, temperature: float, tail: Tail = "uniform"
) -> Tensor:
    """T^2 * -(p log q + (1 - p) log(1 - q)), in nats, mean over classes and over rows; a float32 scalar.

    p = sigmoid(teacher's logit / T) and q = sigmoid(student's logit / T), of each class by itself: Hinton, Vinyals,
    Dean (2015), section 2, with every class a choice between two. T^2 is applied; at T = 1 this is torch's
    binary_cross_entropy_with_logits with soft targets. Tails:

    - `uniform`: the mean is over all C classes; each class outside has the mean probability of those outside, which is
      exact at a stored temperature. With K = C this is the full loss.
    - `renormalise`: the mean is over the K kept classes. Nothing is rescaled, as probabilities don't sum to 1 here.

    Raises StoreMismatch if the labels come from a softmax head, InvalidOption below the smallest stored temperature;
    warns with InterpolatedTail at one that is not stored.
    """
    check_fit(student_logits_BC, labels, loss="bce", head="sigmoid")
    check_tail(tail, among=TAILS, loss="bce")
    tell(labels, loss="bce", temperature=temperature, tail=tail)
    scaled_BC = student_logits_BC.float() / temperature
    p_BK = ((labels.logits_BK + labels.max_logit_B[:, None]) / temperature).sigmoid()
    kept_BK = binary_cross_entropy_with_logits(scaled_BC.gather(1, labels.class_ids_BK), p_BK, reduction="none")
    if tail == "renormalise" or labels.k == labels.num_classes:
        return temperature**2 * kept_BK.mean()
    share_BC = labels.log_tail_at(temperature).exp()[:, None].expand_as(scaled_BC)
    rest_BC = binary_cross_entropy_with_logits(scaled_BC, share_BC, reduction="none")
    rest_BC = rest_BC.scatter(1, labels.class_ids_BK, 0.0)
    return temperature**2 * (kept_BK.sum(dim=1) + rest_BC.sum(dim=1)).mean() / labels.num_classes


@dataclass(frozen=True, kw_only=True, slots=True)
class BinaryCrossEntropyLoss(TemperedLoss):
    """Options of `binary_cross_entropy_loss`, for sigmoid heads."""

    name: ClassVar[Literal["bce"]] = "bce"
    head: ClassVar[Head | None] = "sigmoid"
    tails: ClassVar[tuple[Tail, ...]] = TAILS

    def __call__(self, student_logits_BC: Tensor, labels: SoftLabels, *, targets_B: Tensor | None = None) -> Tensor:
        return binary_cross_entropy_loss(
            student_logits_BC, labels, temperature=self.temperature_for(labels), tail=self.tail
        )
