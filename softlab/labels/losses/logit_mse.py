"""Mean squared error on raw logits."""

# Shape letters: B rows in a batch, C classes, K entries kept (K <= C).

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from softlab.labels.losses.checks import (
    Tail,
    check_absolute,
    check_all_valid,
    check_same_classes,
    check_tail,
    check_takes_samples,
)
from softlab.labels.losses.notes import tell
from softlab.labels.soft_labels import Head, SoftLabels
from softlab.labels.tail_logits import tail_logits

TAILS: tuple[Tail, ...] = ("uniform", "renormalise")


def logit_mse_loss(student_logits_BC: Tensor, labels: SoftLabels, *, tail: Tail = "uniform") -> Tensor:
    """(student's logit - teacher's)^2, mean over classes and over rows; a float32 scalar, in squared logits.

    Ba and Caruana (2014), equation 1, there the sum over classes halved; here the mean, as torch's mse_loss has it. On
    z and not on z / T: there is no temperature and no T^2. The teacher's logits are absolute ones, so a constant added
    to all of a student's logits matters. For softmax and sigmoid heads alike. Tails:

    - `uniform`: the mean is over all C classes; each class outside is taken to have the mean logit of its row's tail,
      the constant of least squared error, estimated from the stored tails (see `tail_logits`). Exact with K = C.
    - `renormalise`: the mean is over the K kept classes.
    """
    check_same_classes(student_logits_BC, labels)
    check_all_valid(labels, loss="mse")
    check_takes_samples(labels, loss="mse")
    check_absolute(labels, loss="mse")
    check_tail(tail, among=TAILS, loss="mse")
    tell(labels, loss="mse", tail=tail)
    student_BC = student_logits_BC.float() - labels.max_logit_B[:, None]
    error_BK = (student_BC.gather(1, labels.class_ids_BK) - labels.logits_BK) ** 2
    if tail == "renormalise" or labels.k == labels.num_classes:
        return error_BK.mean()
    rest = tail_logits(labels)
    rest_BC = (student_BC - rest.mean_B[:, None]).scatter(1, labels.class_ids_BK, 0.0) ** 2
    rest_B = rest_BC.sum(dim=1).where(rest.has_mass_B, 0.0)
    return (error_BK.sum(dim=1) + rest_B).mean() / labels.num_classes


@dataclass(frozen=True, kw_only=True, slots=True)
class LogitMseLoss:
    """Options of `logit_mse_loss`."""

    name: ClassVar[Literal["mse"]] = "mse"
    head: ClassVar[Head | None] = None
    needs_targets: ClassVar[bool] = False
    needs_level: ClassVar[bool] = True
    """Of the teacher's logits, which probabilities don't tell."""

    tail: Tail = "uniform"
    """What the classes outside the stored ones are taken to be.

    uniform, alike; bucket, one class more, which with 16 of 1,000 classes at T=4 costs 4 nats of KL on held-out data;
    renormalise, nothing, for comparison. Not each loss has all three."""

    def __post_init__(self) -> None:
        check_tail(self.tail, among=TAILS, loss="mse")

    def __call__(self, student_logits_BC: Tensor, labels: SoftLabels, *, targets_B: Tensor | None = None) -> Tensor:
        return logit_mse_loss(student_logits_BC, labels, tail=self.tail)
